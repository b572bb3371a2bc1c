"""An SMTP server on a thread of its own."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from aiosmtpd.smtp import SMTP
from waiting import LIMIT, until


class SmtpServer(threading.Thread):
    """Listens on a free port of this machine; `make` returns what talks to one client. With `tls`, that comes first."""

    def __init__(self, make: Callable[[], SMTP], tls: ssl.SSLContext | None = None) -> None:
        super().__init__(name="mail-server")
        self.port = 0
        self.ready = threading.Event()
        self._make = make
        self._tls = tls
        self._made: list[SMTP] = []

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        listener = await self._loop.create_server(self._protocol, "127.0.0.1", 0, ssl=self._tls)
        self.port = listener.sockets[0].getsockname()[1]
        self.ready.set()
        await self._over.wait()
        listener.close()
        for smtp in self._made:
            for transport in (smtp.transport, smtp._original_transport):  # the one that STARTTLS has put on the other
                if isinstance(transport, asyncio.Transport):
                    transport.abort()  # closing TLS would take an answer
        # Those that failed before TLS was there end by themselves: the last thing that the loop waits for wakes it up.
        selector = cast("Any", self._loop)._selector
        await until(lambda: len(selector.get_map()) == 1)

    def _protocol(self) -> SMTP:
        self._made.append(self._make())
        return self._made[-1]

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
