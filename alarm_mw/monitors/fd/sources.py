"""The sources of the monitor `fd`: an inherited descriptor, or a path. Never blocks.

An inherited descriptor is shared with who opened it and with the server, and so are its flags: it cannot be made
non-blocking here. Each read asks the kernel not to wait instead, or goes over a description of our own.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from weakref import WeakKeyDictionary

from alarm_mw.system.descriptors import FIRST_FREE

#: Seconds between two reads of one source, so that an endless source does not keep the loop busy.
PAUSE = 0.001

#: Seconds between two checks of a source that cannot be polled.
LOOK_EVERY = 1.0

#: A descriptor's number, or a path.
Place = int | str


class _Reader:
    """Reads one source on an event loop and notifies its listeners."""

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


_EVENTFD_BYTES = 8


class Source(Protocol):
    """Something that becomes readable."""

    @property
    def descriptor(self) -> int | None:
        """The descriptor to poll; None if the source can only be checked periodically."""
        ...

    @property
    def size(self) -> int:
        """How much of it is read at once, in bytes, unless one says otherwise."""
        ...

    def read(self, size: int) -> bytes | None:
        """Return the available data, empty at the end, None if there is none yet; raise `OSError`."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


def open_number(number: int) -> Source:
    """Return the source that has been open as `number` all along, and stays so; raise `OSError`."""
    mode = os.fstat(number).st_mode
    if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
        raise OSError(errno.EBADF, "it is open for writing only")
    if stat.S_ISSOCK(mode):
        return SocketSource(socket.socket(fileno=_copy(number)))
    if stat.S_ISREG(mode):
        return FileSource(_copy(number), os.lseek(number, 0, os.SEEK_CUR))
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        with contextlib.suppress(OSError):
            return PlainSource(os.open(f"/proc/self/fd/{number}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY))
    return PlainSource(_copy(number), _EVENTFD_BYTES if _is_eventfd(number) else 1)


def open_path(path: str) -> Source:
    """Return the source at `path`: a FIFO, a socket to connect to, a file from its end on; raise `OSError`."""
    mode = Path(path).stat().st_mode
    if stat.S_ISSOCK(mode):
        return SocketSource(_connected(path))
    if stat.S_ISREG(mode):
        file = os.open(path, os.O_RDONLY)
        return FileSource(file, os.lseek(file, 0, os.SEEK_END))
    # A FIFO that is open for writing here, too, does not end when its last writer leaves.
    access = os.O_RDWR if stat.S_ISFIFO(mode) else os.O_RDONLY
    return PlainSource(os.open(path, access | os.O_NONBLOCK | os.O_NOCTTY))


def _copy(number: int) -> int:
    return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)


def _is_eventfd(number: int) -> bool:
    return "eventfd" in os.readlink(f"/proc/self/fd/{number}")


def _connected(path: str) -> socket.socket:
    try:
        return _connect(path, socket.SOCK_STREAM)
    except OSError as error:
        if error.errno != errno.EPROTOTYPE:
            raise
    return _connect(path, socket.SOCK_SEQPACKET)


def _connect(path: str, kind: socket.SocketKind) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


class PlainSource:
    """A pipe, a FIFO, an eventfd, a device."""

    def __init__(self, descriptor: int, size: int = 1) -> None:
        self.descriptor = descriptor
        self.size = size

    def read(self, size: int) -> bytes | None:
        """Do as `Source` says; an eventfd always gives all of its eight bytes."""
        data = bytearray(max(size, self.size))
        try:
            return bytes(data[: os.preadv(self.descriptor, [data], -1, os.RWF_NOWAIT)])
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
        return self._read_non_blocking(len(data))

    def _read_non_blocking(self, size: int) -> bytes | None:
        """Read from a description of our own, or from what knows no other way (a FIFO, a terminal, an inotify)."""
        try:
            return os.read(self.descriptor, size)
        except BlockingIOError:
            return None

    def close(self) -> None:
        """Close it."""
        os.close(self.descriptor)


class SocketSource:
    """A socket, of any kind."""

    size = 1

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self.descriptor = connection.fileno()
        self._has_end = connection.type in {socket.SOCK_STREAM, socket.SOCK_SEQPACKET}

    def read(self, size: int) -> bytes | None:
        """Do as `Source` says; what is left of a datagram is thrown away."""
        try:
            data = self._socket.recv(size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        return data if data or self._has_end else b"\0"

    def close(self) -> None:
        """Close it."""
        self._socket.close()


class FileSource:
    """A regular file, which is readable when it has grown; poll(2) does not report that."""

    descriptor = None
    size = 1

    def __init__(self, file: int, position: int) -> None:
        self._file = file
        self._position = position

    def read(self, size: int) -> bytes | None:  # noqa: ARG002  # a Source's
        """Return the first byte added to the file, None if there is none; read a truncated file from its start."""
        end = os.fstat(self._file).st_size
        before, self._position = self._position, end
        return os.pread(self._file, 1, before) if end > before else None

    def close(self) -> None:
        """Close it."""
        os.close(self._file)
