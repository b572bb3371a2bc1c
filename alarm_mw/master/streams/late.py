"""Chunks that were passed on before the worker was done with them, in memory that outlives the master.

Output does not wait for long. Should the master be killed then, the next one finds these lines nowhere else: what has
been passed on is not in the source any more, and what they fire is not in the outbox yet.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from alarm_mw.master.streams.lines import Chunk

log = logging.getLogger(__name__)

#: How many chunks may wait for the worker, should the disk be slower than that.
WAITING = 64

#: So many masters in a row may end before they have evaluated the same chunks; then these are not evaluated any more.
MOST_TRIES = 10

#: Bytes of the file that nobody needs, after which what is needed is moved to its beginning.
UNNEEDED = 2**20

#: What the file begins with: where what is needed begins and ends, and how many masters have begun with it.
_HEAD = struct.Struct("3q")
_SIZE = struct.Struct("I")


class LateChunk(msgspec.Struct, array_like=True, frozen=True):
    """A chunk as it is kept: what its lines match is for the next master to find out."""

    lines: int
    oversized: int
    unjudged: int
    lost: int
    #: Each with its place in the stream.
    hits: list[tuple[int, bytes]]
    sizes: dict[int, int]
    around: dict[int, tuple[bytes, bytes]] = {}


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(LateChunk)


class LateChunks:
    """The late chunks of one stream, for the thread of its reader; `release` may be called from any thread.

    `inherited` is the file's descriptor where a former master has left one. `hand_over` gives a new one to a process
    that outlives this one; without it nothing is kept.
    """

    def __init__(self, inherited: int | None = None, hand_over: Callable[[int], object] | None = None) -> None:
        self._hand_over = hand_over
        self._fd = inherited
        #: Its holder may use the file and what is said of it here.
        self._turn = threading.Lock()
        #: Of each chunk, a lock that is held until the worker is done with it, where it ends in the file, and whether
        #: there are lines to evaluate.
        self._locks: deque[tuple[threading.Lock, int, bool]] = deque()
        #: How many have.
        self._waiting = 0
        self._begin = self._end = _HEAD.size
        self._tries = 0
        self._inherited: list[tuple[LateChunk, int]] = []
        if inherited is not None and len(head := os.pread(inherited, _HEAD.size, 0)) == _HEAD.size:
            self._begin, self._end, self._tries = _HEAD.unpack(head)
            self._inherited = list(self._kept(inherited))
            self._tries += bool(self._inherited)
            self._write_head(inherited)

    def __bool__(self) -> bool:
        """Return whether the worker has not done all that was added, nor all that was inherited."""
        return bool(self._locks)

    def has_room(self, most: int = WAITING) -> bool:
        """Return whether the worker keeps up: whether fewer chunks than that wait to be evaluated."""
        return self._waiting < most

    def keeps(self) -> bool:
        """Return whether what is added outlives this process, or nothing has to; makes the file for that.

        A process without a free descriptor, or without memory, has no such file.
        """
        with self._turn:
            try:
                return self._file() is not None or self._hand_over is None
            except OSError:
                return False

    def inherited(self) -> Iterator[tuple[LateChunk, bool, Callable[[], None]]]:
        """Yield what the former master has left, whether too many have tried it, and what to call when it is judged."""
        chunks, self._inherited = self._inherited, []
        waiting = [(chunk, end, threading.Lock()) for chunk, end in chunks]
        for chunk, end, lock in waiting:
            lock.acquire()
            self._enqueue(lock, end, has_lines=bool(chunk.hits))
        for chunk, _, lock in waiting:
            yield chunk, self._tries > MOST_TRIES, functools.partial(self.release, lock)

    def evaluated(self) -> None:
        """Note that all that was inherited has been evaluated, and did not end this master. For any thread."""
        with self._turn:
            if self._fd is not None:
                self._tries = 0
                with contextlib.suppress(OSError):  # then it counts as one more try
                    self._write_head(self._fd)

    def add(self, chunk: Chunk, lock: threading.Lock) -> bool:
        """Keep a chunk until its lock is released; return False where it is lost should this process be killed now."""
        is_kept = True
        with self._turn:
            try:
                fd = self._file()
                if fd is not None:
                    self._append(fd, chunk)
            except OSError as error:  # such as no descriptors or no memory
                is_kept = False
                log.error("%s: lines are lost should this process be killed now: %s", chunk.stream, error.strerror)
            self._enqueue(lock, self._end, has_lines=bool(chunk.hits))
        if not lock.locked():  # meanwhile
            self._forget_done()
        return is_kept

    def release(self, lock: threading.Lock) -> None:
        """Note that the worker is done with the chunk of this lock, which may not be one that was added.

        The next master must not see the chunk again, which it would judge by the rules of its own time.
        """
        lock.release()
        if self._locks:
            self._forget_done()

    def _enqueue(self, lock: threading.Lock, end: int, *, has_lines: bool) -> None:
        self._locks.append((lock, end, has_lines))
        self._waiting += has_lines

    def _append(self, fd: int, chunk: Chunk) -> None:
        if self._begin - _HEAD.size > max(UNNEEDED, self._end - self._begin):
            self._move_to_the_beginning(fd)
        hits = [(hit.start, hit.line) for hit in chunk.hits]
        kept = LateChunk(
            chunk.lines, chunk.oversized, chunk.unjudged, chunk.lost, hits, dict(chunk.sizes), dict(chunk.around)
        )
        data = _encoder.encode(kept)
        self._write(fd, _SIZE.pack(len(data)) + data, self._end)
        self._end += _SIZE.size + len(data)
        self._write_head(fd)

    def _file(self) -> int | None:
        if self._fd is None and self._hand_over is not None:
            fd = os.memfd_create("alarm-mw-late")
            try:
                self._write_head(fd)
                self._hand_over(fd)
            except OSError:
                os.close(fd)
                raise
            self._fd = fd
        return self._fd

    def _move_to_the_beginning(self, fd: int) -> None:
        """Move what is needed to where nothing is; until the head is written, the former place counts."""
        moved = self._begin - _HEAD.size
        self._write(fd, os.pread(fd, self._end - self._begin, self._begin), _HEAD.size)
        self._begin, self._end = _HEAD.size, self._end - moved
        self._write_head(fd)
        os.ftruncate(fd, self._end)
        self._locks = deque((lock, end - moved, has_lines) for lock, end, has_lines in self._locks)

    def _forget_done(self) -> None:
        with self._turn:
            begin = self._begin
            while self._locks and not self._locks[0][0].locked():
                _, begin, has_lines = self._locks.popleft()
                self._waiting -= has_lines
            if begin != self._begin and self._fd is not None:
                self._begin, self._tries = begin, 0
                if not self._locks:
                    self._begin = self._end = _HEAD.size
                with contextlib.suppress(OSError):  # then the next master sees lines that it knows
                    self._write_head(self._fd)

    def _kept(self, fd: int) -> Iterator[tuple[LateChunk, int]]:
        at = self._begin
        while at < self._end:
            (size,) = _SIZE.unpack(os.pread(fd, _SIZE.size, at))
            at += _SIZE.size
            chunk = _decoder.decode(os.pread(fd, size, at))
            at += size
            yield chunk, at

    def _write_head(self, fd: int) -> None:
        os.pwrite(fd, _HEAD.pack(self._begin, self._end, self._tries), 0)

    @staticmethod
    def _write(fd: int, data: bytes, at: int) -> None:
        block = memoryview(data)
        while block:
            written = os.pwrite(fd, block, at)
            block, at = block[written:], at + written
