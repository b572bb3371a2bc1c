"""The lines around a hit, for rules with ``context``: those before it, and those after it once they have come.

A hit whose rule wants lines after it waits for them, for `PATIENCE` seconds at most; the output does not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from alarm_mw.model.types import Context
from alarm_mw.patterns.prefilter import Hit

#: Seconds that a hit waits for the lines after it.
PATIENCE = 1.0

#: How many bytes of a stream are kept.
MOST_BYTES = 65_536

#: How many bytes of a line are shown.
LONGEST = 1000

#: How many hits may wait; of more, the oldest waits no longer.
MOST_WAITING = 200

#: The lines before and after a hit, by its place in the stream.
Around = dict[int, tuple[bytes, bytes]]


class Waiting(NamedTuple):
    """A hit that waits for lines after it. Its rules are found again when it is complete: they may be others then."""

    start: int
    line: bytes
    before: bytes
    after: list[bytes]
    missing: int
    #: By the clock of the reader.
    until: float


class Surroundings:
    """The last lines of one stream, and the hits that wait for the next ones. For its reader's thread."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self.waiting: list[Waiting] = []
        #: What was found around the hits that were handed over last.
        self.around: Around = {}

    def keep(self, data: bytes, base: int) -> None:
        """Remember whole lines that begin at `base`."""
        self._pieces.append((base, data))
        self._size += len(data)
        while len(self._pieces) > 1 and self._size - len(self._pieces[0][1]) >= MOST_BYTES:
            self._size -= len(self._pieces.popleft()[1])

    def extend(self, data: bytes) -> None:
        """Give hits that wait the lines that have come."""
        lines = _first(data, 0, max((each.missing for each in self.waiting), default=0))
        for place, each in enumerate(self.waiting):
            more = lines[: each.missing]
            self.waiting[place] = each._replace(after=[*each.after, *more], missing=each.missing - len(more))

    def hold(
        self, hits: Iterable[Hit], ends: Mapping[int, int], contexts: Mapping[int, Context], now: float
    ) -> list[Hit]:
        """Return the hits that wait for nothing; `ends` are the places behind those that are not one line."""
        ready: list[Hit] = []
        for hit in hits:
            wanted = [contexts[rule] for rule in hit.rules if rule in contexts]
            if not wanted:
                ready.append(hit)
                continue
            most = max(each.after for each in wanted)
            before = b"".join(self._before(hit.start, max(each.before for each in wanted)))
            after = self._after(ends.get(hit.start, hit.end), most)
            if len(after) < most:
                self.waiting.append(Waiting(hit.start, hit.line, before, after, most - len(after), now + PATIENCE))
            else:
                ready.append(hit)
                self.around[hit.start] = (before, b"".join(after))
        return ready

    def due(self, now: float, *, at_end: bool = False) -> list[Waiting]:
        """Return the hits that have all their lines, or have waited long enough; at the end, all."""
        few = max(len(self.waiting) - MOST_WAITING, 0)
        ended = [
            each
            for place, each in enumerate(self.waiting)
            if at_end or not each.missing or each.until <= now or place < few
        ]
        if ended:
            self.waiting = [each for each in self.waiting if each not in ended]
            self.around.update((each.start, (each.before, b"".join(each.after))) for each in ended)
        return ended

    def next_due(self) -> float | None:
        """Return when `due` has something to return; None if nothing waits."""
        return min((each.until for each in self.waiting), default=None)

    def take_around(self) -> Around:
        """Return what was found around the hits since the last call."""
        found, self.around = self.around, {}
        return found

    def _before(self, start: int, most: int) -> list[bytes]:
        found: list[bytes] = []
        for base, data in reversed(self._pieces):
            end = min(start - base, len(data))
            while end > 0 and len(found) < most:
                begin = data.rfind(b"\n", 0, end - 1) + 1
                found.append(_shown(data[begin:end]))
                end = begin
        return found[::-1]

    def _after(self, start: int, most: int) -> list[bytes]:
        found: list[bytes] = []
        for base, data in self._pieces:
            found += _first(data, max(start - base, 0), most - len(found))
        return found


def _first(data: bytes, begin: int, most: int) -> list[bytes]:
    """Return the first lines of data from `begin` on, as they are shown."""
    found: list[bytes] = []
    while begin < len(data) and len(found) < most:
        end = data.find(b"\n", begin) + 1 or len(data)
        found.append(_shown(data[begin:end]))
        begin = end
    return found


def _shown(line: bytes) -> bytes:
    """Return a line as it is shown, with its end."""
    text = line.rstrip(b"\r\n")
    return (text if len(text) <= LONGEST else text[:LONGEST] + b" \xe2\x80\xa6") + b"\n"
