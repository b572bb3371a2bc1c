"""An SMTP server on a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from aiosmtpd.smtp import SMTP
from waiting import LIMIT


class SmtpServer(threading.Thread):
    """Listens on a free port of this machine; `make` returns what talks to one client. With `tls`, that comes first."""

    def __init__(self, make: Callable[[], SMTP], tls: ssl.SSLContext | None = None) -> None:
        super().__init__(name="mail-server")
        self.port = 0
        self.ready = threading.Event()
        self._make = make
        self._tls = tls
        self._clients: list[asyncio.Task[None]] = []

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            self.port = listener.getsockname()[1]
            self.ready.set()
            accepting = asyncio.create_task(self._accept(listener))
            await self._over.wait()
            accepting.cancel()
            await asyncio.wait([accepting, *self._clients])

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            client, _ = await self._loop.sock_accept(listener)
            self._clients.append(asyncio.create_task(self._talk(client)))

    async def _talk(self, client: socket.socket) -> None:
        with suppress(OSError):  # no TLS came about
            transport, _ = await self._loop.connect_accepted_socket(self._make, client, ssl=self._tls)
            await self._over.wait()
            transport.abort()  # closing TLS would take an answer

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self.join(LIMIT)


@contextmanager
def serving(make: Callable[[], SMTP], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Run an SMTP server, and give its port."""
    server = SmtpServer(make, tls)
    server.start()
    assert server.ready.wait(LIMIT)
    try:
        yield server.port
    finally:
        server.stop()
