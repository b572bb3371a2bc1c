"""Counts over a sliding time: shares, quantiles and spikes.

A window has `PARTS` parts, of which the oldest leaves at once: what is counted is between 59/60 of the time and the
whole time old. Within that, the counts are exact.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Self

import msgspec

from alarm_mw.engine.flood_control.limits import span
from alarm_mw.engine.incidents.measures.judgement import Dump, Judgement, Sample, is_news
from alarm_mw.model.measures import Quantile, Ratio, Spike

PARTS = 60

#: The number of a part, and its counts.
Part = tuple[int, int, int, int]


class Window:
    """Three sums over the last `within` seconds."""

    def __init__(self, within: float, parts: Iterable[Part] = ()) -> None:
        self._width = within / PARTS
        self._parts: deque[list[int]] = deque(map(list, parts))
        self.sums = [sum(part[place] for part in self._parts) for place in (1, 2, 3)]

    @property
    def width(self) -> float:
        """Seconds of a part."""
        return self._width

    def add(self, now: float, *counts: int) -> None:
        """Add to the sums."""
        number = int(now // self._width)
        if not self._parts or self._parts[-1][0] < number:
            self._parts.append([number, 0, 0, 0])
        for place, n in enumerate(counts):
            self._parts[-1][place + 1] += n
            self.sums[place] += n

    def expire(self, now: float) -> list[list[int]]:
        """Take the parts out that are too old, and return them."""
        expired = []
        oldest = int(now // self._width) - PARTS + 1
        while self._parts and self._parts[0][0] < oldest:
            part = self._parts.popleft()
            for place in range(3):
                self.sums[place] -= part[place + 1]
            expired.append(part)
        return expired

    def dump(self) -> list[Part]:
        """Return the parts, for another window."""
        return [(part[0], part[1], part[2], part[3]) for part in self._parts]


class _Windowed:
    """A state with one window."""

    def __init__(self, within: float, parts: Iterable[Part] = ()) -> None:
        self._window = Window(within, parts)

    def due(self, now: float, *, is_open: bool) -> float | None:
        """Return when the oldest part of an open incident's window leaves it."""
        return now + self._window.width if is_open else None

    def postpone(self, seconds: float, now: float) -> bool:  # noqa: ARG002  # a State's
        """Return False: what is too old has left the window."""
        return False

    def dump(self) -> Dump:
        """Return what a later process goes on from."""
        return self._window.dump()


def parts_of(dump: Dump) -> list[Part]:
    """Return the parts of a window that was written down; raise `msgspec.ValidationError` for anything else."""
    return msgspec.convert(dump, list[Part])


class RatioState(_Windowed):
    """Counts all records, and the matches among them."""

    def __init__(self, measure: Ratio, parts: Iterable[Part] = ()) -> None:
        super().__init__(measure.within, parts)
        self._measure = measure

    def configure(self, measure: Ratio) -> None:
        """Go on by other bounds."""
        self._measure = measure

    def add(self, sample: Sample, now: float) -> bool:
        """Count a record."""
        self._window.expire(now)
        self._window.add(now, 1, sample.is_match)
        return True

    def judge(self, now: float, *, is_open: bool) -> Judgement:
        """Compare the share with the bounds."""
        self._window.expire(now)
        total, matches, _ = self._window.sums
        share = matches / total if total else 0.0
        begins = total >= self._measure.at_least and share > self._measure.above
        ends = share <= self._measure.below
        return Judgement(begins, ends, self._figures(share, total) if is_news(begins, ends, is_open=is_open) else "")

    def _figures(self, share: float, total: int) -> str:
        figures = f"{_percent(share)} of {total:,} within {span(self._measure.within)}"
        return f"{figures}, more than {_percent(self._measure.above)}" if share > self._measure.above else figures


class QuantileState(_Windowed):
    """Counts values, and those that are above the bounds: whether a quantile is above one follows exactly."""

    def __init__(self, measure: Quantile, parts: Iterable[Part] = ()) -> None:
        super().__init__(measure.within, parts)
        self._measure = measure

    def configure(self, measure: Quantile) -> None:
        """Go on by other bounds; what was counted by the former ones leaves with the time."""
        self._measure = measure

    def add(self, sample: Sample, now: float) -> bool:
        """Count a value; a record without one does not count."""
        try:
            value = float(sample.fields.get(self._measure.field, ""))
        except ValueError:
            return False
        self._window.expire(now)
        self._window.add(now, 1, value > self._measure.above, value > self._measure.below)
        return True

    def judge(self, now: float, *, is_open: bool) -> Judgement:
        """Compare the quantile with the bounds: it is above one where more than the rest of the values are."""
        self._window.expire(now)
        total, above, not_below = self._window.sums
        rest = 1.0 - self._measure.quantile
        begins = total >= self._measure.at_least and above > rest * total
        ends = not_below <= rest * total
        text = self._figures(total, above, begins=begins) if is_news(begins, ends, is_open=is_open) else ""
        return Judgement(begins, ends, text)

    def _figures(self, total: int, above: int, *, begins: bool) -> str:
        measure = self._measure
        limit = span(measure.above) if measure.is_time else f"{measure.above:g}"
        share = _percent(above / total if total else 0.0)
        figures = f"{share} of {total:,} within {span(measure.within)} above {limit}"
        name = f"p{100 * measure.quantile:g} of {measure.field}"
        return f"{name} is above {limit}: {figures}" if begins else f"{name}: {figures}"


class SpikeState:
    """Counts matches in two windows, one behind the other."""

    def __init__(self, measure: Spike, since: float) -> None:
        """Compare what is counted from `since` on."""
        self._measure = measure
        self._since = since
        self._now = Window(measure.within)
        self._before = Window(measure.within)
        #: How many matches there were in the time before the incident began.
        self._base = 0

    @classmethod
    def load(cls, measure: Spike, dump: Dump) -> Self:
        """Go on from what `dump` has returned; raise `msgspec.ValidationError` for anything else."""
        since, base, now, before = msgspec.convert(dump, tuple[float, int, list[Part], list[Part]])
        state = cls(measure, since)
        state._base, state._now = base, Window(measure.within, now)
        state._before = Window(measure.within, before)
        return state

    def configure(self, measure: Spike) -> None:
        """Go on by other bounds."""
        self._measure = measure

    def add(self, sample: Sample, now: float) -> bool:  # noqa: ARG002  # a State's
        """Count a match."""
        self._expire(now)
        self._now.add(now, 1)
        return True

    def judge(self, now: float, *, is_open: bool) -> Judgement:
        """Compare the two windows; an incident ends when there are as few matches as would not have begun it."""
        self._expire(now)
        measure, present = self._measure, self._now.sums[0]
        if not is_open:
            self._base = self._before.sums[0]
        limit = max(measure.times * self._base, measure.at_least)
        begins = present >= limit and now - self._since >= 2 * measure.within
        ends = present < limit
        if not is_news(begins, ends, is_open=is_open):
            return Judgement(begins, ends)
        return Judgement(begins, ends, f"{present:,} within {span(measure.within)}, {self._base:,} before")

    def due(self, now: float, *, is_open: bool) -> float | None:
        """Return when the oldest part of an open incident's window leaves it."""
        return now + self._now.width if is_open else None

    def postpone(self, seconds: float, now: float) -> bool:
        """Start from scratch after downtime: the time before cannot be compared with."""
        if seconds < self._now.width:
            return False
        self._since, self._now, self._before = now, Window(self._measure.within), Window(self._measure.within)
        return True

    def dump(self) -> Dump:
        """Return what a later process goes on from."""
        return (self._since, self._base, self._now.dump(), self._before.dump())

    def _expire(self, now: float) -> None:
        """Let what leaves the present window enter the one before, as many parts later as a window has."""
        for number, n, *_ in self._now.expire(now):
            self._before.add((number + PARTS + 0.5) * self._now.width, n)
        self._before.expire(now)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
