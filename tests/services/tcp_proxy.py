"""A proxy on the loopback interface, whose network can be cut and delayed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from ports import free_port


class TcpProxy:
    """Forwards connections to a port, until it is cut: then nothing comes through, and nobody is told."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.delay = 0.0
        self._target = target
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        self._open.clear()

    def heal(self) -> None:
        """Forward again; connections from before are dead."""
        for task in self._tasks:
            task.cancel()
        self._open.set()

    def strand(self) -> None:
        """Forward new connections; those from before hang for good."""
        self._open = asyncio.Event()
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task, is_open = asyncio.current_task(), self._open
        assert task is not None
        self._tasks.add(task)
        other: asyncio.StreamWriter | None = None
        try:
            await is_open.wait()
            back, other = await asyncio.open_connection("127.0.0.1", self._target)
            await asyncio.gather(self._copy(reader, other, is_open), self._copy(back, writer, is_open))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for each in (writer, other):
                if each is not None:
                    each.transport.abort()
                    with contextlib.suppress(OSError):
                        await each.wait_closed()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_open: asyncio.Event) -> None:
        while data := await reader.read(65536):
            await is_open.wait()
            await asyncio.sleep(self.delay)
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        try:
            yield
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await server.wait_closed()
