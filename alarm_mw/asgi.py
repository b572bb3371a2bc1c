"""ASGI 3 middleware: puts every HTTP request that ended to request rules.

Follows the ASGI specification, HTTP & WebSocket format 2.5. WebSockets and the lifespan pass untouched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING

from alarm_mw.requests import (
    Emit,
    Request,
    RequestRule,
    RequestRules,
    made_by_alarm,
    submit_from,
    tells_disconnect,
    unhandled_exception,
    upload_made,
)
from alarm_mw.transports.mark import ASGI_HEADER, is_signed

if TYPE_CHECKING:  # an application on another framework must not load Starlette
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class AlarmMiddleware:
    """Puts every HTTP request that ended to `rules`, and gives their lines to `emit`.

    A request ends when `app` returns or raises: after its response and its background tasks. Scope, messages and
    exceptions pass unchanged. `emit` gives the line to the master unless told otherwise; what a rule or `emit` raises
    is logged once and never reaches the request. Requests that alarms made are not looked at.
    """

    __slots__ = ("_judge", "app")

    def __init__(
        self, app: ASGIApp, rules: Sequence[RequestRule] = (unhandled_exception,), emit: Emit | None = None
    ) -> None:
        self.app = app
        self._judge = RequestRules(rules, emit or submit_from("asgi")).judge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection, as `app` does."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if is_by_alarm(scope):
            with made_by_alarm("asgi"):
                await self.app(scope, receive, send)
            return
        began = perf_counter()
        # Read now: routers below us change the scope in place.
        method, path, client = scope.get("method", ""), full_path(scope), client_host(scope)
        status: int | None = None
        send_failed = False

        async def watch(message: Message) -> None:
            nonlocal status, send_failed
            if message["type"] == "http.response.start":
                status = message["status"]
            try:
                await send(message)
            except OSError:  # the specification's sign that the client has left
                send_failed = True
                raise

        try:
            await self.app(scope, receive, watch)
        except BaseException as error:
            left = tells_disconnect(error) or (send_failed and isinstance(error, OSError))
            self._judge(Request(method, path, status, perf_counter() - began, error, client, left))
            raise
        self._judge(Request(method, path, status, perf_counter() - began, None, client))


class UploadCheck(AlarmMiddleware):
    """The rule `upload_made` as a middleware: an example of how to write one's own."""

    __slots__ = ()

    def __init__(self, app: ASGIApp, emit: Emit | None = None) -> None:
        super().__init__(app, rules=(upload_made,), emit=emit)


def is_by_alarm(scope: Scope) -> bool:
    """Return whether one of our actions made this request."""
    headers: Iterable[tuple[bytes, bytes]] = scope.get("headers", ())
    return any(name == ASGI_HEADER and is_signed(value.decode("latin-1")) for name, value in headers)


def full_path(scope: Scope) -> str:
    """Return the path with its mount point.

    The specification has ``root_path`` at the front of ``path``; older servers and routers leave it out.
    """
    path: str = scope.get("path", "")
    root: str = scope.get("root_path") or ""
    if not root or path == root or path.startswith(root.rstrip("/") + "/"):
        return path
    return root + path


def client_host(scope: Scope) -> str:
    """Return the client's address without the port; empty where the server knows none (a unix socket)."""
    client = scope.get("client")
    return (client[0] or "") if client else ""
