"""Lines between masters and Redis, one for each master, that can be cut, held up and slowed down."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator


class Proxy:
    """A TCP port that leads to another one. Its methods may be called from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target: Callable[[], int]) -> None:
        self.port = 0
        #: Which port it leads to; asked for each connection.
        self.target = target
        self._loop = loop
        self._flows = asyncio.Event()
        self._flows.set()
        self._is_cut = False
        self._delay = 0.0
        self._connections: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self._drop()
        self._flows.set()

    # Faults

    def cut(self) -> None:
        """Reset all connections, and each further one."""
        self._call(self._cut)

    def hang(self) -> None:
        """Take everything and pass on nothing, as a network does that loses all packets."""
        self._call(self._flows.clear)

    def slow(self, seconds: float) -> None:
        """Pass on everything so much later."""
        self._call(lambda: setattr(self, "_delay", seconds))

    def drop(self) -> None:
        """Reset all connections, once."""
        self._call(self._drop)

    def heal(self) -> None:
        """Pass on everything, with what was held up."""
        self._call(self._heal)

    def _call(self, act: Callable[[], object]) -> None:
        done = threading.Event()

        def run() -> None:
            act()
            done.set()

        self._loop.call_soon_threadsafe(run)
        done.wait()

    def _cut(self) -> None:
        self._is_cut = True
        self._drop()

    def _heal(self) -> None:
        self._is_cut = False
        self._delay = 0.0
        self._flows.set()

    def _drop(self) -> None:
        for writer in self._connections:
            writer.transport.abort()

    # Connections

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            await self._connect(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # one of the two ends has gone, or has never been there, or all is over
        finally:
            self._connections.discard(writer)
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            return
        await self._flows.wait()
        theirs, ours = await asyncio.open_connection("127.0.0.1", self.target())
        self._connections.add(ours)
        try:
            ways = [asyncio.ensure_future(self._pump(reader, ours)), asyncio.ensure_future(self._pump(theirs, writer))]
            _, others = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in others:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        finally:
            self._connections.discard(ours)
            ours.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if self._delay:
                await asyncio.sleep(self._delay)
            await self._flows.wait()
            writer.write(data)
            await writer.drain()


class Proxies:
    """All lines of a fleet, on an event loop of their own."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._all: list[Proxy] = []

    def open(self, target: Callable[[], int]) -> Proxy:
        """Return a new line."""

        async def make() -> Proxy:
            proxy = Proxy(self._loop, target)
            await proxy.open()
            return proxy

        proxy = asyncio.run_coroutine_threadsafe(make(), self._loop).result()
        self._all.append(proxy)
        return proxy

    async def close(self) -> None:
        for proxy in self._all:
            await proxy.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


@contextlib.contextmanager
def proxies() -> Iterator[Proxies]:
    """Run lines in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="proxies")
    thread.start()
    found = Proxies(loop)
    try:
        yield found
    finally:
        asyncio.run_coroutine_threadsafe(found.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
