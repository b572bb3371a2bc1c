"""The application: pages, API and static files, for the listener of ``[web]`` and for the control socket.

To add routes, write a module with ``ROUTES``, made by the guards, and name it in `MODULES`::

    async def show(request: Request) -> Response:
        site = site_of(request)                                 # the master, the options, the store
        found = await asyncio.to_thread(site.master.status)     # what may block belongs in a thread
        return JSONResponse(found)

    ROUTES = [
        api("/api/1/status", show),                             # GET needs the role `read`
        api("/api/1/ack", ack, methods=["POST"]),               # POST needs `act`; `caller(request).name` did it
        public("/-/healthy", healthy),                          # no login
    ]

A `page` that is asked for without a login leads to one; an `api` answers with JSON. Authentication, roles, CSRF, origin
and host are checked before an endpoint is called. Read a body by `guards.body` or `guards.form`, which are bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import ModuleType

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alarm_mw.web.api import health
from alarm_mw.web.api.alertmanager import routes as alertmanager
from alarm_mw.web.api.v1 import routes as v1
from alarm_mw.web.pages import ack, delivery, history, incident, login, now, rules, silences, state
from alarm_mw.web.rendering import STATIC, render
from alarm_mw.web.security.guards import public
from alarm_mw.web.security.identity import Identity, Role
from alarm_mw.web.site import BaseSite

#: The modules that have routes about one master, in the order of the navigation.
MODULES: tuple[ModuleType, ...] = (
    login,
    now,
    history,
    rules,
    delivery,
    silences,
    state,
    incident,
    ack,
    alertmanager,
    v1,
    health,
)

#: Sent with every answer. Nothing is loaded from elsewhere, no script or style stands in a page, and no page of others
#: may show ours.
_CSP = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    b"base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _CSP),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=()"),
)

#: The kinds of static files, by their suffixes.
_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".LICENSE": "text/plain"}

#: Seconds for which browsers keep static files: their URLs change with their content.
_FOR_EVER = 31_536_000


def make_app(site: BaseSite, *, modules: Sequence[ModuleType] = MODULES, is_control: bool = False) -> ASGIApp:
    """Return the application: the routes of `modules`. On the control socket the kernel has let the caller in."""
    app = Starlette(
        routes=[*(route for module in modules for route in module.ROUTES), public("/static/{name}", _static)],
        exception_handlers={HTTPException: _failed},
    )
    app.state.site = site
    return _Front(app, site, is_control=is_control)


class _Front:
    """Stands before everything: which host is asked for, who asks, and what browsers must not do with the answer."""

    def __init__(self, app: ASGIApp, site: BaseSite, *, is_control: bool) -> None:
        self._app = app
        self._site = site
        self._is_control = is_control

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer (ASGI)."""
        connection = HTTPConnection(scope)
        if self._is_control:
            by = connection.client.host if connection.client is not None else ""
            scope["identity"] = Identity(by, Role.ACT, "socket")
        else:
            is_expected = self._site.authenticator.is_expected(connection.headers.get("host", ""))
            identity = self._site.authenticator.identity(connection) if is_expected else None
            if identity is None and (turn := self._site.strangers.take()):
                await asyncio.sleep(turn)
            if not is_expected:
                await PlainTextResponse(_FOREIGN_HOST, 421)(scope, receive, send)
                return
            scope["identity"] = identity

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        await self._app(scope, receive, send_guarded)


_FOREIGN_HOST = "This page is not asked for under this name: see base_url and allowed_hosts in the table [web].\n"


async def _static(request: Request) -> Response:
    path = STATIC / request.path_params["name"]
    if path.parent != STATIC or not path.is_file():
        raise HTTPException(404)
    kind = _KINDS.get(path.suffix, "text/plain")
    return FileResponse(path, media_type=kind, headers={"Cache-Control": f"public, max-age={_FOR_EVER}, immutable"})


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    wants_page = "text/html" in request.headers.get("accept", "")
    if not wants_page:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    text = "There is no such page." if error.status_code == 404 else error.detail  # noqa: PLR2004  # RFC 9110
    return render(request, "refused.html", status=error.status_code, text=text)
