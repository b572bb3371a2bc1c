"""Small HTTP servers on the event loop, which cost nothing until somebody asks: the control socket, and metrics."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from alarm_mw.config.tables.web import WebOptions, host_and_port
from alarm_mw.master.control.listening import listen
from alarm_mw.master.control.status import Answers
from alarm_mw.system.peers import GuardedSocket, is_owners

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from alarm_mw.master.control.http_server import QuietServer
    from alarm_mw.web.master import Master

log = logging.getLogger(__name__)

#: How many callers may be connecting at once.
BACKLOG = 16

#: Seconds until it is tried again to load what answers.
LOAD_PAUSE = 1.0

#: Seconds for requests to be answered when a listener is to end.
STOP_TIMEOUT = 1.0


class LazyServer:
    """Serves what `make_app` makes; loads the web framework when the first connection arrives."""

    def __init__(
        self,
        name: str,
        listener: socket.socket,
        make_app: Callable[[], ASGIApp],
        make_server: Callable[[ASGIApp], QuietServer] | None = None,
    ) -> None:
        """Serve at `listener`; `make_server` for another server than that of callers on this machine."""
        self._name = name
        self._listener = listener
        self._make_app = make_app
        self._make_server = make_server
        self._serving: asyncio.Task[None] | None = None
        self._server: QuietServer | None = None

    async def start(self) -> None:
        """Wait for the first connection, without being in the way."""
        asyncio.get_running_loop().add_reader(self._listener, self._first_connection)

    def _first_connection(self) -> None:
        asyncio.get_running_loop().remove_reader(self._listener)
        self._serving = asyncio.create_task(self._serve(), name=f"alarm-mw-{self._name}")

    async def _serve(self) -> None:
        while self._server is None:
            try:
                self._server = self._made()
            except (OSError, ImportError) as error:  # such as no descriptor left
                log.error("cannot answer at the %s socket: %s", self._name, error)
                await asyncio.sleep(LOAD_PAUSE)
        await self._server.serve(sockets=[self._listener])

    def _made(self) -> QuietServer:
        from alarm_mw.master.control.http_server import server_of  # noqa: PLC0415  # 60 ms and 6 MB, for the first who asks

        app = self._make_app()
        return server_of(app, BACKLOG) if self._make_server is None else self._make_server(app)

    async def stop(self, timeout: float) -> None:
        """Stop serving within `timeout` seconds."""
        asyncio.get_running_loop().remove_reader(self._listener)
        if self._server is not None:
            self._server.end()
        elif self._serving is not None:
            self._serving.cancel()
        if self._serving is not None:
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(self._serving, timeout)
        self._listener.close()


class ControlServer:
    """The control API at `path`."""

    def __init__(self, path: Path, answers: Answers, make_master: Callable[[], Master]) -> None:
        """Answer at `path`; `make_master` is for the page and its API, which are there as well."""
        self._path = path
        listener = GuardedSocket.of(listen(path, BACKLOG), is_owners)
        #: Closes what the first question has opened.
        self._opened = contextlib.ExitStack()
        self._server = LazyServer("control", listener, lambda: _control_app(answers, make_master, self._opened))

    async def start(self) -> None:
        """Wait for the first connection."""
        await self._server.start()

    async def stop(self, timeout: float) -> None:
        """Stop serving within `timeout` seconds and take the socket's path away."""
        await self._server.stop(timeout)
        self._opened.close()
        self._path.unlink(missing_ok=True)


class MetricsPort:
    """Serves ``/metrics``, and nothing else, at the TCP address of the configuration. Lives on the event loop."""

    def __init__(self, render_metrics: Callable[[], bytes]) -> None:
        self._render_metrics = render_metrics
        self._address = ""
        self._server: LazyServer | None = None

    async def listen_at(self, address: str) -> None:
        """Listen at ``host:port`` from now on, at no address where it is empty; the log says why that fails."""
        if address == self._address and (self._server is not None or not address):
            return
        await self.stop()
        self._address = address
        if address:
            self._server = await self._started(address)

    async def stop(self) -> None:
        """Stop listening."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(STOP_TIMEOUT)

    async def _started(self, address: str) -> LazyServer | None:
        host, port = host_and_port(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except OSError as error:
            log.error("metrics cannot be shown at %s: %s", address, error)
            return None
        listener.setblocking(False)
        server = LazyServer("metrics", listener, lambda: _metrics_app(self._render_metrics))
        await server.start()
        return server


def _control_app(answers: Answers, make_master: Callable[[], Master], opened: contextlib.ExitStack) -> ASGIApp:
    from alarm_mw.master.control.api import ControlApp  # noqa: PLC0415  # loads the web framework, as above

    return ControlApp(answers, lambda: _page(make_master(), opened))


def _page(master: Master, opened: contextlib.ExitStack) -> ASGIApp:
    from alarm_mw.web.app import make_app  # noqa: PLC0415  # 40 ms and 4 MB, for the first who asks for more
    from alarm_mw.web.site import Site  # noqa: PLC0415  # as above
    from alarm_mw.web.store import Store  # noqa: PLC0415  # as above

    site = Site.of(master, WebOptions(), opened.enter_context(contextlib.closing(Store(None))))
    return make_app(site, is_control=True)


def _metrics_app(render_metrics: Callable[[], bytes]) -> ASGIApp:
    from alarm_mw.master.control.api import metrics_app  # noqa: PLC0415  # loads the web framework, as above

    return metrics_app(render_metrics)
