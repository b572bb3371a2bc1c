"""Serves one page of all servers of this user, until the command is ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import socket
import time
from collections.abc import Callable, Iterator

from msgspec import structs

from alarm_mw.app.launch.state import running
from alarm_mw.cli.top.masters import Masters
from alarm_mw.cli.web import pages
from alarm_mw.cli.web.overview import Overview
from alarm_mw.config.tables.web import WebOptions
from alarm_mw.master.control.http_server import PublicProtocol, QuietServer, server_of
from alarm_mw.master.control.web_port import BACKLOG, STOP_TIMEOUT, listening, settle
from alarm_mw.master.runtime.threads import LoopThread
from alarm_mw.web.app import make_app
from alarm_mw.web.live import Live
from alarm_mw.web.pages import login
from alarm_mw.web.security.identity import Authenticator
from alarm_mw.web.site import BaseSite
from alarm_mw.web.store import Store


@contextlib.contextmanager
def serving(listen: str, role: str) -> Iterator[Callable[[], str]]:
    """Serve the page at ``host:port``, or at a free port of this machine; give what returns login URLs.

    Raises `OSError` where it cannot listen there, and `ValueError` for what is no address.
    """
    options = WebOptions(listen=listen)
    with contextlib.closing(_listener(options)) as listener, contextlib.closing(Store(None)) as store:
        if not listen:
            host, port = listener.getsockname()
            options = structs.replace(options, listen=f"{host}:{port}")
        overview = Overview(Masters(lambda: [str(path) for path in running(os.environ)]))
        site = pages.AllSite(
            name="all servers",
            options=options,
            store=store,
            authenticator=Authenticator(options, store),
            live=Live(overview),
            navigation=overview.navigation,
            overview=overview,
        )
        server = server_of(make_app(site, modules=(login, pages)), BACKLOG, PublicProtocol)
        thread = LoopThread(settle, "web")
        thread.start()
        served = thread.call(_begin(server, listener))
        try:
            yield lambda: f"{options.url}/login/{store.offer_login(_user(), role)}"
        finally:
            thread.call(_end(site, server, served), STOP_TIMEOUT + 1.0)
            thread.end(time.monotonic() + STOP_TIMEOUT)


async def _begin(server: QuietServer, listener: socket.socket) -> asyncio.Task[None]:
    return asyncio.create_task(server.serve(sockets=[listener]), name="alarm-mw-page")


async def _end(site: BaseSite, server: QuietServer, served: asyncio.Task[None]) -> None:
    """End open pages first: a stream of events would go on for as long as it is read."""
    site.live.close()
    server.end()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(served, STOP_TIMEOUT)


def _listener(options: WebOptions) -> socket.socket:
    if options.listen:
        return listening(options)
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    listener.setblocking(False)
    return listener


def _user() -> str:
    """Return this user's name, or its number where it has none."""
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(os.geteuid()).pw_name
    return str(os.geteuid())
