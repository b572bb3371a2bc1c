"""Guards of routes: each route is made by `page`, `api` or `public`, which say who may use it.

What changes something needs the role `act`, a request that one of our pages has caused, and from a browser the token of
its session (OWASP's Cross-Site Request Forgery Prevention Cheat Sheet).
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal
from urllib.parse import parse_qs, quote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from alarm_mw.web.rendering import render
from alarm_mw.web.security.identity import Identity, Role, is_same_origin
from alarm_mw.web.site import identity_of

Endpoint = Callable[[Request], Awaitable[Response]]
Kind = Literal["page", "api", "public"]

#: Methods that change nothing.
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

#: Bytes of a form, and its fields.
MAX_FORM = 64 * 1024
MAX_FIELDS = 2000

#: The header by which a script brings the token of its session.
CSRF_HEADER = "x-csrf-token"


class TooLargeError(Exception):
    """A request's body has more bytes than are taken."""


def page(path: str, endpoint: Endpoint, *, methods: Sequence[str] = ("GET",), role: Role | None = None) -> Route:
    """Return a route for people, who are asked to log in; by default GET needs the role `read`, the others `act`."""
    return _route("page", path, endpoint, methods, role)


def api(path: str, endpoint: Endpoint, *, methods: Sequence[str] = ("GET",), role: Role | None = None) -> Route:
    """Return a route for programs, whose refusals are JSON; the roles are as for pages."""
    return _route("api", path, endpoint, methods, role)


def public(path: str, endpoint: Endpoint, *, methods: Sequence[str] = ("GET",)) -> Route:
    """Return a route that needs no login; what changes something must not come from a foreign page all the same."""
    return _route("public", path, endpoint, methods, None)


def _route(kind: Kind, path: str, endpoint: Endpoint, methods: Sequence[str], role: Role | None) -> Route:
    async def guarded(request: Request) -> Response:
        is_safe = request.method in _SAFE
        needed = role or (Role.READ if is_safe else Role.ACT)
        try:
            refusal = await _refusal(request, kind, needed, is_safe=is_safe)
            return await endpoint(request) if refusal is None else refusal
        except TooLargeError:
            return _refused(request, kind, 413, "The request is too large.")
        except ClientDisconnect:
            return Response(status_code=400)

    return Route(path, guarded, methods=list(methods))


async def _refusal(request: Request, kind: Kind, role: Role, *, is_safe: bool) -> Response | None:
    """Return the answer to a request that may not be made; None for one that may."""
    identity = identity_of(request)
    if kind != "public" and identity is None:
        return _login(request) if kind == "page" else _refused(request, kind, 401, "A token or a session is needed.")
    if kind != "public" and identity is not None and not identity.may(role):
        return _refused(request, kind, 403, f"{identity.name} may look at this, but not change anything.")
    if is_safe:
        return None
    if not is_same_origin(request.headers, request.url.scheme):
        return _refused(request, kind, 403, "The request comes from another site.")
    if kind != "public" and identity is not None and identity.csrf and not await _has_token(request, identity):
        return _refused(request, kind, 403, "The form is too old. Load the page again.")
    return None


async def _has_token(request: Request, identity: Identity) -> bool:
    token = request.headers.get(CSRF_HEADER) or (await form(request)).get("csrf", [""])[0]
    return hmac.compare_digest(token.encode("utf-8", "surrogateescape"), identity.csrf.encode())


def _login(request: Request) -> Response:
    if request.method not in _SAFE:
        return _refused(request, "page", 401, "You are not logged in any more.")
    if request.headers.get("sec-fetch-site") == "cross-site":
        # The browser keeps the cookie back (SameSite=Strict) where another site's link leads here, such as a web
        # mailer's: our own page asks once more.
        return render(request, "again.html", status=200, url=_own_url(request))
    target = quote(_own_url(request), safe="")
    return RedirectResponse(f"/login?next={target}", 303)


def _own_url(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _refused(request: Request, kind: Kind, status: int, text: str) -> Response:
    if kind == "api":
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None  # noqa: PLR2004  # RFC 9110, section 15.5.2
        return JSONResponse({"error": text}, status, headers)
    return render(request, "refused.html", status=status, text=text)


async def body(request: Request, limit: int) -> bytes:
    """Return the body of a request; raise `TooLargeError` beyond `limit` bytes, before they are read."""
    if int(request.headers.get("content-length") or 0) > limit:
        raise TooLargeError
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > limit:
            raise TooLargeError
    return bytes(found)


async def form(request: Request) -> dict[str, list[str]]:
    """Return the fields of a form, which may be asked for again."""
    if "form" not in request.scope:
        text = (await body(request, MAX_FORM)).decode("utf-8", "replace")
        try:
            request.scope["form"] = parse_qs(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
        except ValueError as error:
            raise TooLargeError from error
    fields = request.scope["form"]
    assert isinstance(fields, dict)
    return fields


def own_path(target: str) -> str:
    """Return a path of ours to go to; the first page for anything else, such as another site's address."""
    is_ours = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if is_ours else "/"
