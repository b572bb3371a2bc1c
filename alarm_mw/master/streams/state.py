"""Where a stream's reader stands, in memory that outlives the master: the next one goes on from there.

The mapping is the reader's working buffer too, so that remembering the half line that has gone out costs nothing.
Its beginning holds two slots for the position and the number of the one that counts, which is written last: a
SIGKILL in the middle of a `save` leaves the former position whole.
"""

from __future__ import annotations

import mmap
import struct
from typing import NamedTuple

#: The size of the mapping in bytes, for the shortest of the longest lines (`lines.longest_line`).
STATE_SIZE = 524_288

#: Names this layout. Memory that begins otherwise is new, or another version's, and holds no position.
_MAGIC = b"amw1"
_INDEX = 4
_SLOT = struct.Struct("<QIIIi?")
_SLOTS = (16, 64)
_BUFFER = 128

#: An overlap of the source and what was about to go out counts as one from this many bytes on.
_CERTAIN = 16


class Position(NamedTuple):
    """Where a reader stands: an offset in the stream, and places in the buffer."""

    #: How many bytes of the stream have been passed on.
    passed: int = 0
    #: In the buffer: where the line under way begins.
    line: int = 0
    #: In the buffer: the end of what has been passed on.
    out: int = 0
    #: In the buffer: the end of what has been judged, and is passed on now if it is more than `out`.
    end: int = 0
    #: Lines completed before `end` that are not reported yet; negative: that many were, and will come again.
    lines: int = 0
    #: Is the line under way so long that the rest of it is not judged?
    oversized: bool = False


def state_size(longest: int) -> int:
    """Return the size of a mapping whose buffer holds a line of `longest` bytes at two places, and what comes."""
    return max(STATE_SIZE, 4 * longest)


class StreamState:
    """The position and the buffer of one reader in `memory`, a mapping of `state_size` bytes.

    Without `memory` it lasts no longer than the process. For one reader at a time.
    """

    def __init__(self, memory: mmap.mmap | bytearray | None = None) -> None:
        self._memory = bytearray(STATE_SIZE) if memory is None else memory
        #: What `Position` points into.
        self.buffer = memoryview(self._memory)[_BUFFER:]
        if self._memory[: len(_MAGIC)] != _MAGIC:
            self._memory[_INDEX] = 0
            _SLOT.pack_into(self._memory, _SLOTS[0], *Position())
            self._memory[: len(_MAGIC)] = _MAGIC

    @classmethod
    def from_fd(cls, descriptor: int) -> StreamState:
        """Return the state in the file `descriptor` (a memfd), which may be closed afterwards."""
        return cls(mmap.mmap(descriptor, 0))

    def load(self) -> Position:
        """Return the last position that was saved."""
        return Position(*_SLOT.unpack_from(self._memory, _SLOTS[self._memory[_INDEX]]))

    def save(self, passed: int, line: int, out: int, end: int, lines: int, *, oversized: bool) -> None:
        """Replace the position: all of it, or, if we are killed, nothing."""
        index = 1 - self._memory[_INDEX]
        _SLOT.pack_into(self._memory, _SLOTS[index], passed, line, out, end, lines, oversized)
        self._memory[_INDEX] = index

    def close(self) -> None:
        """Give the mapping back. May be called twice."""
        self.buffer.release()
        if isinstance(self._memory, mmap.mmap):
            self._memory.close()


def gone_out(pending: bytes, source: bytes) -> int:
    """Return how many bytes of `pending` had been passed on when the former reader was killed.

    What had not is still at the head of the source, whose first bytes are `source`: that is the longest end of
    `pending` that `source` begins with. A short overlap may be chance, so it does not count unless it is all of
    `pending`.
    """
    if source.startswith(pending):
        return 0
    head = source[:_CERTAIN]
    at = pending.find(head) if len(head) == _CERTAIN else -1
    while at >= 0:
        if source.startswith(pending[at:]):
            return at
        at = pending.find(head, at + 1)
    return len(pending)


def settle(position: Position, buffer: memoryview, source: bytes, max_line: int) -> Position:
    """Return `position` with nothing about to be passed on, as the former reader would have left it.

    `source` is what the source begins with now, and `max_line` the length in bytes up to which a line is judged.
    """
    size = gone_out(bytes(buffer[position.out : position.end]), source)
    out = position.out + size
    coming_again = bytes(buffer[out : position.end]).count(b"\n")
    newline = bytes(buffer[position.out : out]).rfind(b"\n")
    line = position.line if newline < 0 else position.out + newline + 1
    oversized = (newline < 0 and position.oversized) or out - line > max_line
    return Position(
        passed=position.passed + size,
        line=out if oversized else line,
        out=out,
        end=out,
        lines=position.lines - coming_again,
        oversized=oversized,
    )
