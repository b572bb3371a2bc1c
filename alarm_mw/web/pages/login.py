"""Logging in and out: by a URL of ``alarm-mw web``, which works once, or by name and password."""

from __future__ import annotations

import asyncio
import logging

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from alarm_mw.model.printable import printable
from alarm_mw.web.rendering import render
from alarm_mw.web.security.guards import form, own_path, page, public
from alarm_mw.web.security.identity import Role
from alarm_mw.web.security.passwords import decoy, is_password
from alarm_mw.web.site import base_site_of, identity_of
from alarm_mw.web.store import SESSION, Session

log = logging.getLogger(__name__)


async def ask(request: Request) -> Response:
    """Ask who it is."""
    return _form(request, own_path(request.query_params.get("next", "/")))


def _form(request: Request, target: str, error: str = "", status: int = 200) -> Response:
    return render(
        request,
        "login.html",
        status=status,
        target=target,
        error=error,
        has_users=bool(base_site_of(request).options.users),
    )


async def log_in(request: Request) -> Response:
    """Begin a session by name and password."""
    site, given = base_site_of(request), await form(request)
    name, password = (given.get(key, [""])[0][:1000] for key in ("name", "password"))
    target = own_path(given.get("next", ["/"])[0])
    keys = (f"name {name}", f"address {_address(request)}")
    if site.attempts.refuses(*keys):
        return _form(request, target, "Too many attempts. Wait for a minute.", 429)
    user = next((each for each in site.options.users if each.name == name), None)
    site.attempts.failed(*keys)  # at first: other attempts may be under way
    async with site.checks:
        hashed = decoy([each.password for each in site.options.users]) if user is None else user.password
        is_right = await asyncio.to_thread(is_password, password, hashed)
    session = site.authenticator.session_of(name) if is_right else None
    if session is None:
        log.warning("a login as %s from %s has failed", printable(name, 64), _address(request))
        return _form(request, target, "The name or the password is wrong.", 403)
    site.attempts.succeeded(*keys)
    return _begin(request, session, target)


async def show_link(request: Request) -> Response:
    """Show a form at a login URL: programs that only look at links do not use it up.

    With a path to go to, a user who is logged in already goes there.
    """
    token, target = request.path_params["token"], own_path(request.query_params.get("next", "/"))
    offered, identity = base_site_of(request).store.offered(token), identity_of(request)
    if offered is None:
        return render(request, "refused.html", status=410, text=_USED)
    if "next" in request.query_params and identity is not None and identity.may(Role(offered.role)):
        return RedirectResponse(target, 303)
    return render(request, "login_link.html", token=token, target=target)


async def use_link(request: Request) -> Response:
    """Begin a session by a login URL, which is used up."""
    session = base_site_of(request).store.log_in(request.path_params["token"])
    if session is None:
        return render(request, "refused.html", status=410, text=_USED)
    return _begin(request, session, own_path(request.query_params.get("next", "/")))


_USED = "This login link was used already, or is older than a minute. Run `alarm-mw web` for another one."


async def log_out(request: Request) -> Response:
    """End the session."""
    site = base_site_of(request)
    site.store.end_session(request.cookies.get(site.authenticator.cookie, ""))
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(site.authenticator.cookie, path="/")
    return answer


def _begin(request: Request, session: Session, target: str) -> Response:
    site = base_site_of(request)
    log.info("%s has logged in to the page from %s", session.user, _address(request))
    if identity_of(request) is not None:
        site.store.end_session(request.cookies.get(site.authenticator.cookie, ""))
    answer = RedirectResponse(target, 303)
    answer.set_cookie(
        site.authenticator.cookie,
        site.store.begin_session(session),
        max_age=int(SESSION),
        path="/",
        secure=site.authenticator.is_secure,
        httponly=True,
        samesite="strict",
    )
    return answer


def _address(request: Request) -> str:
    return printable(request.client.host if request.client is not None else "a unix socket", 64)


ROUTES = [
    public("/login", ask),
    public("/login", log_in, methods=["POST"]),
    public("/login/{token}", show_link),
    public("/login/{token}", use_link, methods=["POST"]),
    page("/logout", log_out, methods=["POST"], role=Role.READ),
]
