"""Cuts a stream into lines, however it arrives, and adds up what the reader hands over of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from alarm_mw.model.types import Context
from alarm_mw.patterns.prefilter import Hit, Hits

#: How long completed lines without a hit may wait to be reported, in seconds.
REPORT_AFTER = 0.5


class LinePrefilter(Protocol):
    """Finds the lines that some rule may match."""

    @property
    def rule_set(self) -> object:
        """What the numbers of its hits' rules belong to: another object after other rules have come into force."""
        ...

    @property
    def contexts(self) -> Mapping[int, Context]:
        """The lines that rules want around their hits, by the rules' numbers."""
        ...

    def scan(self, data: bytes, base: int = 0) -> Hits:
        """Return the hits in `data`, which holds whole lines; the last may lack its newline.

        `base` is where in the stream the data begins.
        """
        ...

    def candidates(self, message: bytes) -> tuple[int, ...]:
        """Return the numbers of the rules that may match a record of several lines, ascending."""
        ...


@dataclass(frozen=True, slots=True)
class Chunk:
    """What the reader hands over: the hits and all counts since the last one."""

    #: ``stdout`` or ``stderr``.
    stream: str
    #: How many lines were completed, hits or not.
    lines: int
    #: At their places in the stream, the same however often a line is handed over; of a longer line than
    #: `lines.MAX_LINE` its first bytes.
    hits: tuple[Hit, ...] = ()
    #: How many lines were too long and judged by their first part only.
    oversized: int = 0
    #: How many lines passed unjudged because the prefilter failed.
    unjudged: int = 0
    #: How many bytes the sink refused for good (a full disk, a terminal that has gone).
    lost: int = 0
    #: Whose the numbers of the hits' rules are (`LinePrefilter.rule_set`).
    rule_set: object = None
    #: How long the lines are of which a hit is the first part, by its place in the stream (`lines.Piece.size`).
    sizes: Mapping[int, int] = field(default_factory=dict)
    #: The lines before and after a hit, by its place in the stream, where a rule asks for them.
    around: Mapping[int, tuple[bytes, bytes]] = field(default_factory=dict)


class Tally:
    """Adds up what is to be handed over next."""

    __slots__ = ("_first", "around", "hits", "lines", "lost", "oversized", "rule_set", "sizes", "stream", "unjudged")

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.lines = 0
        #: Of the hits, which all come from one prefilter.
        self.rule_set: object = None
        self._clear()

    def _clear(self) -> None:
        # Lines that were reported and will come again (below zero) are kept until they have come.
        self.lines = min(self.lines, 0)
        self.hits: list[Hit] = []
        self.sizes: dict[int, int] = {}
        self.around: dict[int, tuple[bytes, bytes]] = {}
        self.oversized = self.unjudged = self.lost = 0
        self._first: float | None = None

    @property
    def is_urgent(self) -> bool:
        """Whether there is more to report than a number of lines."""
        return bool(self.hits or self.oversized or self.unjudged or self.lost)

    def take_due(self) -> Chunk | None:
        """Return what has added up and reset it, where it must be reported now; else None."""
        wait = self.wait()
        return self.take() if self.is_urgent or (wait is not None and wait <= 0) else None

    def wait(self) -> float | None:
        """Return the seconds until the counts must be reported, at most 0 for now; None when there are none."""
        if self.lines <= 0:
            return None
        now = time.monotonic()
        if self._first is None:
            self._first = now
        return self._first + REPORT_AFTER - now

    def take(self) -> Chunk | None:
        """Return what has added up and reset it; None when that is nothing."""
        if self.lines <= 0 and not self.is_urgent:
            return None
        counts = (self.oversized, self.unjudged, self.lost)
        chunk = Chunk(
            self.stream, max(self.lines, 0), tuple(self.hits), *counts, self.rule_set, self.sizes, self.around
        )
        self._clear()
        return chunk


#: The longest line that is judged whole, in bytes, its newline included; with a larger `alarm_msg_size` so much.
MAX_LINE = 131_072

#: The longest that may become.
MOST_LINE = 16 * 1024 * 1024

#: The last newline of a chunk is first searched for in this many bytes at its end.
_TAIL = 1024


def count_lines(data: bytes) -> int:
    """Return the number of newlines in `data`."""
    # As data.count does, in two fifths of the time: `replace` looks for a byte with memchr.
    return len(data) - len(data.replace(b"\n", b""))


def longest_line(alarm_msg_size: int) -> int:
    """Return how many bytes of a line are judged where messages may have so many."""
    return min(max(MAX_LINE, alarm_msg_size), MOST_LINE)


class Piece(NamedTuple):
    """A part of the buffer that the rules are to see: whole lines, or the first part of a line that is too long."""

    start: int
    stop: int
    #: Of a line that is too long, how long it is; below zero where it goes on: it is longer than that.
    size: int = 0


class LineCutter:
    """Remembers in which line of the stream we are: where it begins in the buffer, and if it is too long.

    What is cut depends on the stream only, never on the portions in which it arrives. The work for a line that
    arrives byte by byte is proportional to its length.
    """

    __slots__ = ("_longest", "line", "oversized", "oversized_ends", "oversized_lines")

    def __init__(self, line: int = 0, *, oversized: bool = False, longest: int = MAX_LINE) -> None:
        self._longest = longest
        #: Where in the buffer the line under way begins.
        self.line = line
        #: Has the line under way been cut for its first part already? The rest of it is not kept.
        self.oversized = oversized
        #: How many lines were longer than `longest` so far.
        self.oversized_lines = 0
        #: How many of these have ended: their newlines are in no piece.
        self.oversized_ends = 0

    def cut(self, buffer: memoryview, begin: int, end: int) -> list[Piece]:
        """Return the pieces of the buffer that are completed by what has come from `begin` to `end`.

        That are at most `longest` bytes. A piece may start before `begin`, at the line that was under way.
        """
        pieces = []
        whole = _end_of_lines(buffer, begin, end)
        if self.oversized or end - self.line > self._longest:
            pieces += self._cut_oversized(begin, bytes(buffer[begin:end]))
        if whole > self.line:
            pieces.append(Piece(self.line, whole))
            self.line = whole
        return pieces

    def _cut_oversized(self, begin: int, fresh: bytes) -> list[Piece]:
        # Only the line under way can be too long: what begins in `fresh` ends in it.
        newline = fresh.find(b"\n")
        stop = begin + (len(fresh) if newline < 0 else newline + 1)
        size = stop - self.line
        if not self.oversized and size <= self._longest:
            return []
        known = size if newline >= 0 else -size
        pieces = [] if self.oversized else [Piece(self.line, self.line + self._longest, known)]
        self.oversized_lines += len(pieces)
        self.oversized_ends += newline >= 0
        self.line = stop
        self.oversized = newline < 0
        return pieces

    def cut_rest(self, end: int) -> list[Piece]:
        """Return the last line where it has no newline: the stream ends at `end`."""
        pieces = [Piece(self.line, end)] if end > self.line else []
        self.line, self.oversized = end, False
        return pieces


def _end_of_lines(buffer: memoryview, begin: int, end: int) -> int:
    """Return the place behind the last newline between `begin` and `end`; 0 where there is none."""
    for at in (max(begin, end - _TAIL), begin):
        newline = bytes(buffer[at:end]).rfind(b"\n")
        if newline >= 0:
            return at + newline + 1
    return 0
