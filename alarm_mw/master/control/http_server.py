"""uvicorn's server for a process with few callers: a bound on connections, and no polling. Import it with the first."""

from __future__ import annotations

import asyncio
import logging
import pwd
import socket
from email.utils import formatdate

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from alarm_mw.model.pace import Pace
from alarm_mw.system.peers import peer_of

#: Connections of one listener. Each may have sent the half of a request, and wait for ever.
MAX_CONNECTIONS = 64

#: The same of the page, where each open page has a stream of events; and seconds for a request to be complete.
MAX_PUBLIC = 256
REQUEST_TIMEOUT = 15.0

#: How many connections the page takes in per second, beyond as many as it holds; and seconds until it tries again where
#: that fails.
ACCEPTED_PER_SECOND = 25.0
ACCEPT_PAUSE = 1.0

#: What it says of requests that are none is nobody's business; what our own code does wrong is.
log = logging.getLogger(__name__)
log.setLevel(logging.ERROR)


class ClosableState(ServerState):
    """What the connections of a server share: uvicorn's, and whether the server shuts down."""

    def __init__(self) -> None:
        super().__init__()
        self.is_closing = False


class BoundedProtocol(H11Protocol):
    """uvicorn's, with a bound: beyond it the connection without a whole request that is oldest is closed.

    It dates its answers (RFC 9110, section 6.6.1), so that the server need not look at the clock all the time.
    """

    #: How many connections there may be.
    most = MAX_CONNECTIONS
    #: By the loop's clock.
    connected_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection in."""
        self.connected_at = self.loop.time()
        self.logger = log
        super().connection_made(transport)  # type: ignore[arg-type]  # as asyncio has it
        self.client = self.client or _peer(transport)
        if isinstance(self.server_state, ClosableState) and self.server_state.is_closing:
            self.shutdown()  # accepted a moment before: uvicorn has closed those that it knew, and waits for all
        elif len(self.connections) > self.most:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Read a request, or a part of one; the time is that of the answer's header `Date`."""
        self.server_state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        super().data_received(data)

    def _make_room(self) -> None:
        idle = [each for each in self.connections if isinstance(each, BoundedProtocol) and not each.is_answering]
        if idle:
            min(idle, key=lambda each: each.connected_at).transport.abort()

    @property
    def is_answering(self) -> bool:
        """Whether a request is complete, and is not answered yet."""
        return self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete


class PublicProtocol(BoundedProtocol):
    """The same for callers from anywhere: a request that is not complete in time is dropped."""

    most = MAX_PUBLIC

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection in."""
        super().connection_made(transport)
        self.loop.call_later(REQUEST_TIMEOUT, self._look, None)

    def _look(self, before: object) -> None:
        """Hang up on a caller that has begun no other request since the one before, and has none that is answered."""
        if self.transport.is_closing():
            return
        if self.is_answering or self.cycle is not before:
            self.loop.call_later(REQUEST_TIMEOUT, self._look, self.cycle)
        else:
            self.transport.abort()


def _peer(transport: asyncio.BaseTransport) -> tuple[str, int] | None:
    """Return the user at the other end of a unix socket, by name where there is one; None of another socket."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family != socket.AF_UNIX:
        return None
    uid = peer_of(connection).user
    try:
        return pwd.getpwuid(uid).pw_name, 0
    except KeyError:
        return str(uid), 0


class QuietServer(uvicorn.Server):
    """Wakes up for callers and for its end only, where uvicorn's looks ten times a second at the clock."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.server_state = self._state = ClosableState()
        self._is_over = asyncio.Event()

    def end(self) -> None:
        """Let `serve` return soon."""
        self.should_exit = True
        self._state.is_closing = True
        self._is_over.set()

    async def main_loop(self) -> None:
        """Wait for the end; `BoundedProtocol` does what a tick of uvicorn's would."""
        await self._is_over.wait()


class PacedServer(QuietServer):
    """Takes connections in at a pace: the others wait in the listener, where they cost this process nothing."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._accepting: list[asyncio.Task[None]] = []
        #: Handshakes under way.
        self._connecting: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take connections in."""
        await self.lifespan.startup()
        self.servers = []
        for each in sockets or ():
            each.setblocking(False)
        self._accepting = [asyncio.create_task(self._accept_from(each)) for each in sockets or ()]
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no further connections in, and shut down."""
        tasks = [*self._accepting, *self._connecting]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await super().shutdown(sockets)

    async def _accept_from(self, listener: socket.socket) -> None:
        loop, pace = asyncio.get_running_loop(), Pace(MAX_PUBLIC, ACCEPTED_PER_SECOND)
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except ConnectionAbortedError:
                continue
            except OSError as error:  # such as no descriptor left
                log.error("the page cannot take a connection in: %s", error)
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            task = loop.create_task(self._connect(connection))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
            await asyncio.sleep(pace.take())

    async def _connect(self, connection: socket.socket) -> None:
        def protocol() -> asyncio.Protocol:
            return self.config.http_protocol_class(  # type: ignore[call-arg]  # as in uvicorn
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )

        timeout = REQUEST_TIMEOUT if self.config.ssl is not None else None
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                protocol, connection, ssl=self.config.ssl, ssl_handshake_timeout=timeout
            )
        except OSError:  # it has gone, or speaks no TLS
            connection.close()


def server_of(
    app: ASGIApp, backlog: int, protocol: type[BoundedProtocol] = BoundedProtocol, certfile: str = "", keyfile: str = ""
) -> QuietServer:
    """Return a server for `app`, at whose listener so many callers may be connecting at once.

    Raises `OSError` where a certificate cannot be read.
    """
    config = uvicorn.Config(
        app,
        http=protocol,
        ssl_certfile=certfile or None,
        ssl_keyfile=keyfile or None,
        backlog=backlog,
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    return PacedServer(config) if issubclass(protocol, PublicProtocol) else QuietServer(config)
