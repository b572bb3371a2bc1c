"""What a reader hands over, and how it adds up in between."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from alarm_mw.patterns.prefilter import Hit

#: How long completed lines without a hit may wait to be reported, in seconds.
REPORT_AFTER = 0.5


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


class Tally:
    """Adds up what is to be handed over next."""

    __slots__ = ("_first", "hits", "lines", "lost", "oversized", "rule_set", "sizes", "stream", "unjudged")

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.lines = 0
        #: Of the hits, which all come from one prefilter.
        self.rule_set: object = None
        self._clear()

    def _clear(self) -> None:
        # Lines told of that will come again (below zero) wait until they have come.
        self.lines = min(self.lines, 0)
        self.hits: list[Hit] = []
        self.sizes: dict[int, int] = {}
        self.oversized = self.unjudged = self.lost = 0
        self._first: float | None = None

    @property
    def urgent(self) -> bool:
        """Whether there is more to tell than a number of lines."""
        return bool(self.hits or self.oversized or self.unjudged or self.lost)

    def wait(self) -> float | None:
        """Return the seconds until the counts must be told, at most 0 when that is now, None when there are none."""
        if self.lines <= 0:
            return None
        now = time.monotonic()
        if self._first is None:
            self._first = now
        return self._first + REPORT_AFTER - now

    def take(self) -> Chunk | None:
        """Return what has added up and begin anew; None when that is nothing."""
        if self.lines <= 0 and not self.urgent:
            return None
        counts = (self.oversized, self.unjudged, self.lost)
        chunk = Chunk(self.stream, max(self.lines, 0), tuple(self.hits), *counts, self.rule_set, self.sizes)
        self._clear()
        return chunk
