"""A transport for `httpx` to one server: a kept connection on the running event loop, and `h11` for what goes over it.

`httpx`'s own one takes three times as long for a small request: it has a pool, locks, and streams of another library
between itself and the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import cast

import h11
import httpx

from alarm_mw.actions.curl.addresses import connect
from alarm_mw.transports.own_requests import HEADER

#: Bytes of an answer's head, or of a chunk's, that may come before it is given up.
HEAD_LIMIT = 100 * 1024

#: Bytes that may wait to be looked at before no more are read.
UNREAD_LIMIT = 256 * 1024


#: The extension of a request that returns its mark, for a server on this machine.
MARK = "alarm_mw_mark"


class KeptTransport(httpx.AsyncBaseTransport):
    """Sends requests to one server. Belongs to one event loop; `aclose` it at the end.

    A connection is kept for `keep_alive` seconds; requests at the same time have one each. `tls` None: the connection
    is not encrypted.
    """

    def __init__(self, tls: ssl.SSLContext | None, keep_alive: float) -> None:
        self._tls = tls
        self._keep_alive = keep_alive
        self._kept: Connection | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request whose content is in memory, and return the answer, its body still to be read.

        Raises `httpx.TransportError`. What its extension ``timeout`` says of connecting is heeded; the rest is the
        caller's.
        """
        connection = self._take() or await self._connect(request)
        if MARK in request.extensions and connection.is_here():
            request.headers[HEADER] = request.extensions[MARK]()
        try:
            with _as_httpx():
                head = await connection.exchange(request)
        except BaseException:
            connection.close()
            raise
        extensions = {"network_stream": connection}
        body = _Body(connection, self._give_back)
        return httpx.Response(head.status_code, headers=head.headers.raw_items(), stream=body, extensions=extensions)

    async def aclose(self) -> None:
        """Close the connection that is kept."""
        if self._kept is not None:
            self._kept.close()
            await self._kept.closed
            self._kept = None

    def _take(self) -> Connection | None:
        kept, self._kept = self._kept, None
        if kept is None or (kept.is_reusable() and time.monotonic() - kept.used_at < self._keep_alive):
            return kept
        kept.close()
        return None

    def _give_back(self, connection: Connection) -> None:
        connection.used_at = time.monotonic()
        if self._kept is None and connection.is_reusable():
            self._kept = connection
        else:
            connection.close()

    async def _connect(self, request: httpx.Request) -> Connection:
        loop, host = asyncio.get_running_loop(), request.url.raw_host.decode()
        with _as_httpx(httpx.ConnectError):
            async with asyncio.timeout(request.extensions.get("timeout", {}).get("connect")):
                connected = await connect(host, request.url.port or (443 if self._tls else 80))
                _, connection = await loop.create_connection(
                    Connection, sock=connected, ssl=self._tls, server_hostname=host if self._tls else None
                )
        return connection


class _Body(httpx.AsyncByteStream):
    """The body of an answer, as it was sent."""

    def __init__(self, connection: Connection, give_back: Callable[[Connection], None]) -> None:
        self._connection = connection
        self._give_back = give_back

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx():
            while isinstance(event := await self._connection.event(), h11.Data):
                yield bytes(event.data)

    async def aclose(self) -> None:
        self._give_back(self._connection)


@contextlib.contextmanager
def _as_httpx(network_error: type[httpx.NetworkError] = httpx.ReadError) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise httpx.TimeoutException(str(error)) from error
    except OSError as error:
        raise network_error(str(error)) from error
    except h11.LocalProtocolError as error:
        raise httpx.LocalProtocolError(str(error)) from error
    except h11.RemoteProtocolError as error:
        raise httpx.RemoteProtocolError(str(error)) from error


class Connection(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
        #: Bytes that have come since `event` had looked at all there were.
        self._unread = 0
        self._is_paused = False
        #: Nothing more will come, and why, where that is known.
        self._has_ended = False
        self._error: Exception | None = None
        self._loop = asyncio.get_running_loop()
        #: Done when there is something to look at.
        self._arrival: asyncio.Future[None] | None = None
        #: Done when the connection has ended.
        self.closed: asyncio.Future[None] = self._loop.create_future()
        #: When its last request was over, in `time.monotonic`'s seconds.
        self.used_at = 0.0

    # For the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # which uvloop's does not descend from
        self._ends = {
            "client_addr": transport.get_extra_info("sockname"),
            "server_addr": transport.get_extra_info("peername"),
        }

    def data_received(self, data: bytes) -> None:
        """Take what has come, and no more for now where nobody looks at it."""
        self._http.receive_data(data)
        self._unread += len(data)
        if self._unread > UNREAD_LIMIT and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """Note that no more will come."""
        self._has_ended = True
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        """Note why no more will come."""
        self._has_ended, self._error = True, error
        self.closed.set_result(None)
        self._wake()

    # For the transport

    def get_extra_info(self, name: str) -> object:
        """Return an address as `httpcore`'s streams do: ``client_addr`` or ``server_addr``."""
        return self._ends.get(name)

    def is_here(self) -> bool:
        """Return whether the server is on this machine: both ends have one address."""
        ours, theirs = self._ends["client_addr"], self._ends["server_addr"]
        return bool(ours and theirs and ours[0] == theirs[0])

    def is_reusable(self) -> bool:
        """Return whether it can take another request; get it ready for that where the last one is over."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        # What comes between two requests answers none.
        is_clean = self._http.our_state is h11.IDLE and self._http.trailing_data == (b"", False)
        return is_clean and not self._transport.is_closing()

    def close(self) -> None:
        """End it now, whatever is still to be sent."""
        self._transport.abort()

    async def exchange(self, request: httpx.Request) -> h11.Response:
        """Send a request and return the head of the answer. Raises `OSError` or `h11.ProtocolError`."""
        head = h11.Request(method=request.method, target=request.url.raw_path, headers=request.headers.raw)
        parts = (head, h11.Data(request.read()), h11.EndOfMessage())
        self._transport.write(b"".join(self._http.send(part) or b"" for part in parts))
        while not isinstance(event := await self.event(), h11.Response):
            pass  # such as 100 Continue
        return event

    async def event(self) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        """Return what comes next, once it is there. Raises `OSError` or `h11.RemoteProtocolError`."""
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._has_ended:
                self._end()
            else:
                await self._more()
        return event

    def _end(self) -> None:
        """Let the end be what comes next. Raises as `event` does, where it is none of an answer."""
        if self._error is not None:
            raise self._error
        if self._http.their_state is h11.SEND_RESPONSE:
            raise h11.RemoteProtocolError("the server has hung up without an answer")
        self._http.receive_data(b"")

    async def _more(self) -> None:
        """Wait until there is more to look at."""
        self._unread = 0
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
        self._arrival = self._loop.create_future()
        await self._arrival

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
