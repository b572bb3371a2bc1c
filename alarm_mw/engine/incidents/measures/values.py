"""Which values were seen: the number of different ones, and those that are new."""

from __future__ import annotations

import hashlib
from typing import Self

import msgspec

from alarm_mw.engine.flood_control.limits import span
from alarm_mw.engine.incidents.measures.judgement import Dump, Judgement, Sample, is_news
from alarm_mw.model.measures import Cardinality, New
from alarm_mw.model.types import Reason

#: How often, within the time of a rule, it is looked at whether an open incident has ended.
LOOKS = 60

#: A value that is seen again is written down after this part of the time for which it is remembered.
WRITE_PART = 100


class CardinalityState:
    """Remembers the values that were seen last, as many as decide.

    Whether there are more than N within a time depends on the N + 1 that were seen last: that is exact, apart from two
    values of which the 64-bit hashes are the same.
    """

    def __init__(self, measure: Cardinality) -> None:
        self._measure = measure
        #: When each value was last seen, the latest at the end; by its hash.
        self._seen: dict[int, float] = {}

    @classmethod
    def load(cls, measure: Cardinality, dump: Dump) -> Self:
        """Go on from what `dump` has returned; raise `msgspec.ValidationError` for anything else."""
        state = cls(measure)
        state._seen = dict(msgspec.convert(dump, list[tuple[int, float]]))
        return state

    def configure(self, measure: Cardinality) -> None:
        """Go on by other bounds."""
        self._measure = measure

    def add(self, sample: Sample, now: float) -> bool:
        """Take a value in; a record without one does not count."""
        value = sample.fields.get(self._measure.field)
        if value is None:
            return False
        name = _hash(value)
        self._seen.pop(name, None)
        self._seen[name] = now
        if len(self._seen) > self._measure.above + 1:
            del self._seen[next(iter(self._seen))]
        return True

    def judge(self, now: float, *, is_open: bool) -> Judgement:
        """Compare the number of values with the bounds."""
        self._expire(now)
        n, measure = len(self._seen), self._measure
        begins, ends = n > measure.above, n <= measure.below
        if not is_news(begins, ends, is_open=is_open):
            return Judgement(begins, ends)
        figure = f"more than {measure.above}" if begins else str(n)
        return Judgement(begins, ends, f"{figure} values of {measure.field} within {span(measure.within)}")

    def due(self, now: float, *, is_open: bool) -> float | None:
        """Return when the value that was not seen for longest leaves."""
        if not is_open or not self._seen:
            return None
        within = self._measure.within
        return max(next(iter(self._seen.values())) + within, now + within / LOOKS)

    def postpone(self, seconds: float, now: float) -> bool:  # noqa: ARG002  # a State's
        """Return False: what is too old does not count."""
        return False

    def dump(self) -> Dump:
        """Return what a later process goes on from."""
        return list(self._seen.items())

    def _expire(self, now: float) -> None:
        oldest = now - self._measure.within
        while self._seen and next(iter(self._seen.values())) <= oldest:
            del self._seen[next(iter(self._seen))]


class NewState:
    """When one value was seen last."""

    def __init__(self, measure: New, learns_until: float) -> None:
        """Take the value for known if it is first seen before `learns_until`."""
        self._measure = measure
        self._learns_until = learns_until
        self._last: float | None = None
        self._written = 0.0
        self._is_new = False

    @classmethod
    def load(cls, measure: New, dump: Dump) -> Self:
        """Go on from what `dump` has returned; raise `msgspec.ValidationError` for anything else."""
        state = cls(measure, 0.0)
        state._last = state._written = msgspec.convert(dump, float)
        return state

    def configure(self, measure: New) -> None:
        """Go on by another time."""
        self._measure = measure

    def add(self, sample: Sample, now: float) -> bool:  # noqa: ARG002  # a State's
        """Note that the value was seen."""
        is_unseen = self._last is None or now - self._last > self._measure.unseen_for
        self._is_new = is_unseen and now >= self._learns_until
        self._last = now
        is_due = is_unseen or now - self._written >= self._measure.unseen_for / WRITE_PART
        self._written = now if is_due else self._written
        return is_due

    def judge(self, now: float, *, is_open: bool) -> Judgement:  # noqa: ARG002  # a State's
        """Let an incident begin with a new value; nothing but time ends it."""
        return Judgement(begins=self._is_new, otherwise=Reason.KNOWN)

    def due(self, now: float, *, is_open: bool) -> float | None:  # noqa: ARG002  # a State's
        """Return None: only a match changes anything."""
        return None

    def postpone(self, seconds: float, now: float) -> bool:  # noqa: ARG002  # a State's
        """Return False: a value that nobody could see has not been seen."""
        return False

    def dump(self) -> Dump:
        """Return what a later process goes on from."""
        return self._last


def _hash(value: str) -> int:
    """Return 63 bits that stand for a value: the same in each process, and in range for SQLite and msgpack."""
    return int.from_bytes(hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 1
