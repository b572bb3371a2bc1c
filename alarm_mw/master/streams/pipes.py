"""Moves bytes from a source to a sink so that they can be looked at before they are gone from the source.

Where source and sink allow it, `tee` shows the bytes and `splice` moves them inside the kernel: they never exist
only in our memory, so a SIGKILL loses none and repeats none. Every weaker way is taken only where it must be.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import stat
from collections.abc import Callable

from alarm_mw.system.descriptors import unread, write_all
from alarm_mw.system.linux import EXHAUSTED

#: The most that is copied at a time, in bytes.
CHUNK = 131_072

#: What the pipes of a busy stream are made to hold, in bytes, so that its writer, we and its reader seldom wait for
#: each other. What the pipes of all of a user's processes may hold is limited, so those of quiet ones stay as they are.
BUSY_PIPE = 262_144

#: What the kernel answers where `tee` or `splice` is impossible, rather than impossible now.
_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})

_SPLICE_F_NONBLOCK = 2


def _find_tee() -> Callable[[int, int, int, int], int] | None:
    # PyDLL keeps the GIL: the call never waits, and giving the GIL away would cost more than the call.
    function = getattr(ctypes.PyDLL(None, use_errno=True), "tee", None)
    if function is None:
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint)
    function.restype = ctypes.c_ssize_t
    return function  # type: ignore[no-any-return]  # ctypes knows its functions as Any


_tee = _find_tee()


def tee(source: int, scratch: int, size: int) -> int:
    """Duplicate up to `size` bytes of pipe `source` into pipe `scratch` and leave them where they are (tee(2)).

    Returns the number of bytes, 0 at the end of the stream. Never blocks: raises `BlockingIOError` when there is
    nothing yet, another `OSError` as the kernel says.
    """
    if _tee is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    while True:
        size_seen = _tee(source, scratch, size, _SPLICE_F_NONBLOCK)
        if size_seen >= 0:
            return size_seen
        if (number := ctypes.get_errno()) != errno.EINTR:
            raise OSError(number, os.strerror(number))


class Passage:
    """Shows what comes next from `source`, then moves the same bytes to `sink` (None: nowhere).

    `transit` is both ends of a pipe between the source and a file. As the kernel moves bytes into a file, it locks the
    pipe that they come from, and its writer waits: then that is not the source. Who is killed leaves what is
    in it to the next one, which has to `resume` first.

    For one thread. The descriptors stay the caller's; `close` gives back only what was opened here.
    """

    def __init__(self, source: int, sink: int | None, transit: tuple[int, int] | None = None) -> None:
        self._source = source
        self._sink = sink
        self._transit = transit
        #: How many bytes have left the source, but are not in the file.
        self._under_way = 0
        self._splices = hasattr(os, "splice")
        self._scratch: tuple[int, int] | None = None
        self._arrived = select.poll()
        self._arrived.register(source, select.POLLIN)
        # Without a sink there is nothing to lose by taking the bytes at once.
        if sink is not None and _tee is not None and stat.S_ISFIFO(os.fstat(source).st_mode):
            self._scratch = os.pipe()

    @property
    def keeps(self) -> bool:
        """Whether the bytes stay in the source until they are moved."""
        return self._scratch is not None

    def widen(self) -> None:
        """Let the pipes hold `BUSY_PIPE` bytes, where they hold less and the kernel allows it."""
        if self._scratch is not None:
            for pipe in (self._source, self._sink, self._scratch[1], *(self._transit or ())[:1]):
                _widen(pipe)

    def resume(self) -> int:
        """Move on what is in transit; return how many bytes the file refused for good. May block as the file does.

        The bytes stay in transit until they are written: after a kill, some may come twice, and none is lost.
        """
        refused = 0
        while self._transit and self._scratch and self._sink is not None and unread(self._transit[0]):
            try:
                os.splice(self._transit[0], self._sink, CHUNK, flags=_SPLICE_F_NONBLOCK)
            except OSError as error:
                if error.errno in EXHAUSTED:
                    raise
                rest = memoryview(bytearray(CHUNK))
                rest = rest[: _copy_by_tee(self._transit[0], *self._scratch, rest)]
                # It was set to append since, or is where nothing can be moved to.
                refused += len(rest) - (write_all(self._sink, bytes(rest)) if error.errno in _UNSUPPORTED else 0)
                _drop(self._transit[0], len(rest))
        return refused

    def copy(self, into: memoryview) -> int:
        """Fill `into` with what comes next and return how many bytes that is, 0 at the end of the stream.

        Never blocks: raises `BlockingIOError` when there is nothing yet.
        """
        if self._scratch is not None:
            try:
                return _copy_by_tee(self._source, *self._scratch, into)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                self.close()
        return self._take(into)

    def _take(self, into: memoryview) -> int:
        if not self._arrived.poll(0):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        try:
            return os.readv(self._source, [into])
        except OSError as error:
            # So ends a pseudo-terminal whose other side is closed.
            if error.errno == errno.EIO:
                return 0
            raise

    def move(self, data: memoryview) -> int:
        """Move the first bytes of `data`, which `copy` has shown, to the sink and return how many they were.

        May block only where the sink does: a file, a terminal, or a pipe that cannot be spliced to. Raises
        `BlockingIOError` when the sink is full, `BrokenPipeError` when nobody reads it, another `OSError` as the
        kernel says.
        """
        if self._sink is None:
            return len(data)
        if self._scratch is not None and self._splices:
            try:
                return self._splice(self._sink, len(data))
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                self._splices = False
        size = os.write(self._sink, data)
        self.drop(size)
        return size

    def _splice(self, sink: int, size: int) -> int:
        if self._transit is None:
            return os.splice(self._source, sink, size, flags=_SPLICE_F_NONBLOCK)
        if not self._under_way:
            self._under_way = os.splice(self._source, self._transit[1], size, flags=_SPLICE_F_NONBLOCK)
        moved = os.splice(self._transit[0], sink, self._under_way)
        self._under_way -= moved
        return moved

    def drop(self, size: int) -> None:
        """Take `size` bytes that `copy` has shown off the source, or from where they are under way."""
        if self._transit is not None and self._under_way:
            taken = _drop(self._transit[0], min(size, self._under_way))
            self._under_way -= taken
            size -= taken
        if self._scratch is not None:
            _drop(self._source, size)

    def close(self) -> None:
        """Give back what was opened here; the source must then be read as something that keeps nothing."""
        scratch, self._scratch = self._scratch, None
        for descriptor in scratch or ():
            os.close(descriptor)


def _copy_by_tee(source: int, readable: int, writable: int, into: memoryview) -> int:
    size = tee(source, writable, len(into))
    seen = 0
    while seen < size:
        seen += os.readv(readable, [into[seen:size]])
    return size


def _drop(pipe: int, size: int) -> int:
    """Take `size` bytes off a pipe; return how many there were."""
    left = size
    # Nothing comes at the end of the stream only: somebody else has emptied the pipe.
    while left and (taken := len(os.read(pipe, left))):
        left -= taken
    return size - left


def _widen(pipe: int | None) -> None:
    # A sink need not be a pipe. And the user may have no more room for pipes, which are good as they are.
    with contextlib.suppress(OSError):
        if pipe is not None and fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) < BUSY_PIPE:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, BUSY_PIPE)
