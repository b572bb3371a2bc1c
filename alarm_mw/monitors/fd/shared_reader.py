"""Reads a source once, however many watch it: what one of them reads, the others could not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakKeyDictionary

from alarm_mw.monitors.fd.sources import Source, open_number, open_path

#: Seconds between two reads of one source, so that one that never runs dry does not keep the loop busy.
PAUSE = 0.001

#: Seconds between two looks at what cannot be waited for.
LOOK_EVERY = 1.0

#: A descriptor's number, or a path.
Place = int | str


class _Reader:
    """Reads one source on an event loop, and tells who listens."""

    def __init__(self, source: Source, size: int | None) -> None:
        self.listeners: list[Callable[[], None]] = []
        #: Done at the source's end; with the error, where there was one.
        self.ended: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._source = source
        self._size = size or source.size
        self._timer: asyncio.TimerHandle | None = None
        self._wait()

    def _wait(self) -> None:
        self._timer = None
        if self._source.descriptor is None:
            self._timer = self._loop.call_later(LOOK_EVERY, self._read)
        else:
            self._loop.add_reader(self._source.descriptor, self._read)

    def _read(self) -> None:
        self._rest()
        try:
            data = self._source.read(self._size)
        except OSError as error:
            self.ended.set_result(error)
            return
        if data == b"":
            self.ended.set_result(None)
            return
        if data is not None:
            for listener in self.listeners:
                listener()
        self._timer = self._loop.call_later(PAUSE, self._wait)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._source.descriptor is not None:
            self._loop.remove_reader(self._source.descriptor)

    def close(self) -> None:
        self._rest()
        self._source.close()


_readers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Place, _Reader]] = WeakKeyDictionary()


async def watch(place: Place, size: int | None, on_read: Callable[[], None]) -> OSError | None:
    """Call `on_read` each time that something was read from `place`, until its end; return the error, if it was one.

    `size` is how much to read at once, in bytes, where nobody has said it yet; None leaves it to the source. Raises
    `OSError` where it cannot be watched.
    """
    readers = _readers.setdefault(asyncio.get_running_loop(), {})
    reader = readers.get(place) or _open(place, size)
    readers[place] = reader
    reader.listeners.append(on_read)
    try:
        return await asyncio.shield(reader.ended)
    finally:
        reader.listeners.remove(on_read)
        if not reader.listeners:
            readers.pop(place)
            reader.close()


def _open(place: Place, size: int | None) -> _Reader:
    source = open_number(place) if isinstance(place, int) else open_path(place)
    try:
        return _Reader(source, size)
    except OSError:  # poll(2) does not take it
        source.close()
        raise
