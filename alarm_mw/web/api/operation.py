"""One operation of our API: a function, and the types of what it takes and returns."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_origin, get_type_hints

import msgspec
from msgspec import structs
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from alarm_mw.web.master import Master
from alarm_mw.web.security.guards import api, body
from alarm_mw.web.security.identity import Identity, Role
from alarm_mw.web.site import Site, caller, site_of

log = logging.getLogger(__name__)

#: Bytes of a request's body.
MAX_BODY = 1024 * 1024


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters."""


Q = TypeVar("Q", bound=msgspec.Struct)
B = TypeVar("B", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Call(Generic[Q, B]):
    """What an operation is asked."""

    site: Site
    identity: Identity
    #: The parts of the path.
    path: Mapping[str, str]
    query: Q
    body: B

    @property
    def master(self) -> Master:
        """The master that is asked."""
        return self.site.master


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """An operation."""

    method: str
    #: With parameters in braces.
    path: str
    #: Does it in a thread: may block, and raise `ValueError`, `LookupError` and `TimeoutError` with a sentence.
    call: Callable[[Call[Any, Any]], object]
    query: type[msgspec.Struct] = Nothing
    body: type[msgspec.Struct] = Nothing

    @property
    def name(self) -> str:
        """What it is called in the document."""
        return str(self.call.__name__)

    @property
    def text(self) -> str:
        """What it does, in a sentence."""
        return (self.call.__doc__ or "").strip()

    @property
    def result(self) -> Any:  # noqa: ANN401  # a type
        """The type of what it returns."""
        return get_type_hints(self.call)["return"]

    @property
    def role(self) -> Role:
        """Who may ask for it."""
        return Role.READ if self.method == "GET" else Role.ACT

    def route(self) -> Route:
        """Return its route."""
        return api(self.path, self._answer, methods=[self.method])

    async def _answer(self, request: Request) -> Response:
        try:
            text = b"" if self.body is Nothing else await body(request, MAX_BODY)
            call = Call(
                site_of(request),
                caller(request),
                request.path_params,
                _query(request, self.query),
                Nothing() if self.body is Nothing else msgspec.json.decode(text or b"{}", type=self.body),
            )
            result = await asyncio.to_thread(self.call, call)
        except LookupError as error:
            return refused(404, _text(error))
        except ValueError as error:  # msgspec's is one
            return refused(400, str(error))
        except (TimeoutError, sqlite3.Error) as error:
            log.error("%s %s: %s", self.method, self.path, error)
            return refused(503, str(error))
        return Response(msgspec.json.encode(result), media_type="application/json")


def refused(status: int, text: str) -> JSONResponse:
    """Return the answer to what cannot be done."""
    return JSONResponse({"error": text}, status)


def _text(error: LookupError) -> str:
    return str(error.args[0]) if error.args else "there is no such thing"  # a KeyError's has quotes


def _query(request: Request, kind: type[Q]) -> Q:
    """Return the parameters of a request; raise `msgspec.ValidationError`."""
    asked, many = request.query_params, [field.name for field in structs.fields(kind) if is_list(field.type)]
    values: dict[str, object] = {name: asked.getlist(name) if name in many else asked[name] for name in asked}
    return msgspec.convert(values, kind, strict=False)


def is_list(kind: object) -> bool:
    """Return whether a parameter may be given several times."""
    return tuple in (get_origin(kind), get_origin(getattr(kind, "__origin__", None)))  # the latter in `Annotated`
