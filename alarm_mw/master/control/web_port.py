"""Serves the page at the address of ``[web] listen``: on a thread and an event loop of its own, which delay no line.

The supervisor holds the listening socket, so that a master that is replaced refuses no connection. Without an address
nothing of this is loaded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from alarm_mw.config.tables.web import WebOptions, host_and_port
from alarm_mw.master.control.servers import LazyServer
from alarm_mw.master.runtime.threads import LoopThread
from alarm_mw.system.sockets import bind

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from alarm_mw.master.control.http_server import QuietServer
    from alarm_mw.web.master import Master
    from alarm_mw.web.site import Site
    from alarm_mw.web.store import Store

log = logging.getLogger(__name__)

#: The name of the listening socket among what masters leave to the next one.
LISTENER = "web"

#: How many callers may be connecting at once.
BACKLOG = 128

#: Seconds to start or stop serving, and for requests to be answered before.
TIMEOUT = 5.0
STOP_TIMEOUT = 3.0


class WebPort:
    """Belongs to one thread at a time; `serve` and `stop` may block for `TIMEOUT` seconds."""

    def __init__(
        self,
        make_master: Callable[[], Master],
        state_dir: Path,
        leave: Callable[[int | None], object],
        inherited: int | None,
    ) -> None:
        """Serve a master's page. `leave` hands the listening socket to the supervisor, or takes it back."""
        self._make_master = make_master
        self._sampling: asyncio.Task[None] | None = None
        self._state_dir = state_dir
        self._leave = leave
        self._listener = None if inherited is None else socket.socket(fileno=inherited)
        self._options = WebOptions()
        self._thread: LoopThread | None = None
        self._store: Store | None = None
        self._master: Master | None = None
        self._site: Site | None = None
        self._server: LazyServer | None = None

    def serve(self, options: WebOptions) -> None:
        """Serve with these options from now on; not at all where they name no address. The log says what fails."""
        if options == self._options and not options.certfile:
            if not options.listen:
                self._drop_listener()  # of a former master, whose configuration has changed
            return
        if self._thread is not None:
            self._thread.call(self._end_serving(), TIMEOUT)
        is_moved = options.listen != self._options.listen
        self._options = options
        try:
            if is_moved and (self._listener is None or not _is_at(self._listener, options)):
                self._drop_listener()
                self._listener = listening(options) if options.listen else None
                self._leave(None if self._listener is None else self._listener.fileno())
            if self._listener is not None:
                self._start(options, self._listener)
        except (OSError, ImportError) as error:
            log.error("the page cannot be served at %s: %s", options.listen, error)

    def stop(self, timeout: float) -> None:
        """Stop serving; the socket stays with the supervisor, for the next master."""
        if self._thread is not None:
            with contextlib.suppress(TimeoutError):
                self._thread.call(self._end_serving(), timeout)
            self._thread.end(time.monotonic() + timeout)
            self._thread = None
        if self._store is not None:
            self._store.close()
        if self._listener is not None:
            self._listener.close()
            if self._options.path:
                Path(self._options.path).unlink(missing_ok=True)

    @property
    def url(self) -> str:
        """The URL of the page; empty where none is served, or none is known."""
        return "" if self._server is None else self._options.url

    @property
    def store(self) -> Store | None:
        """What has the samples; None while the page is not served."""
        return None if self._server is None else self._store

    def offer_login(self, user: str, role: str) -> str:
        """Return a URL by which somebody can log in, once; empty where the page is not served. From any thread."""
        if self._store is None or self._server is None:
            return ""
        return f"{self._options.url}/login/{self._store.offer_login(user, role)}"

    def _start(self, options: WebOptions, listener: socket.socket) -> None:
        from alarm_mw.web.store import Store  # noqa: PLC0415  # for those who want the page

        if self._thread is None:
            self._thread = LoopThread(settle, "web")
            self._thread.start()
        self._store = self._store or Store(self._state_dir / "web.db")
        self._master = self._make_master()
        if options.certfile:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
                options.certfile, options.keyfile or None
            )
        self._thread.call(self._begin(self._master, self._store, options, listener.dup()), TIMEOUT)

    async def _begin(self, master: Master, store: Store, options: WebOptions, listener: socket.socket) -> None:
        from alarm_mw.web.samples import Sampler  # noqa: PLC0415  # as in _start

        sampler = Sampler(store, master.count)
        self._sampling = asyncio.create_task(sampler.run(), name="alarm-mw-samples")
        self._server = LazyServer(
            "page",
            listener,
            lambda: self._app(options),
            lambda app: _public_server(app, options),
        )
        await self._server.start()

    def _app(self, options: WebOptions) -> ASGIApp:
        from alarm_mw.web.app import make_app  # noqa: PLC0415  # 100 ms and 12 MB, for the first who looks
        from alarm_mw.web.site import Site  # noqa: PLC0415  # as above

        assert self._store is not None
        assert self._master is not None
        self._site = Site.of(self._master, options, self._store)
        return make_app(self._site)

    async def _end_serving(self) -> None:
        site, server = self._site, self._server
        self._site = self._server = None
        if self._sampling is not None:
            self._sampling.cancel()
        if site is not None:
            site.live.close()
        if server is not None:
            await server.stop(STOP_TIMEOUT)

    def _drop_listener(self) -> None:
        if self._listener is not None:
            path = self._listener.getsockname() if self._listener.family == socket.AF_UNIX else ""
            self._listener.close()
            self._listener = None
            self._leave(None)
            if path:
                Path(path).unlink(missing_ok=True)


async def settle(_: float) -> None:
    """Leave nothing to settle: the server has ended."""


def _public_server(app: ASGIApp, options: WebOptions) -> QuietServer:
    from alarm_mw.master.control.http_server import PublicProtocol, server_of  # noqa: PLC0415  # as in WebPort._app

    return server_of(app, BACKLOG, PublicProtocol, options.certfile, options.keyfile)


def _is_at(listener: socket.socket, options: WebOptions) -> bool:
    """Return whether a socket that a former master has left listens at the address of the configuration."""
    if options.path:
        return (
            listener.family == socket.AF_UNIX
            and listener.getsockname() == options.path
            and os.path.exists(options.path)
        )
    if not options.listen or listener.family == socket.AF_UNIX:
        return False
    host, port = host_and_port(options.listen)
    found = listener.getsockname()
    with contextlib.suppress(OSError):
        return any(found[:2] == each[4][:2] for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    return False


def listening(options: WebOptions) -> socket.socket:
    """Return a socket that listens at the address of a page. Raises `OSError`."""
    if options.path:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        Path(options.path).unlink(missing_ok=True)
        bind(listener, options.path, 0o660)
        listener.listen(BACKLOG)
    else:
        host, port = host_and_port(options.listen)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    listener.setblocking(False)
    return listener
