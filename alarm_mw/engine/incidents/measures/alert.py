"""One alert of another program: firing until it is said to be over, or is not said any more."""

from __future__ import annotations

from typing import Self

import msgspec

from alarm_mw.engine.incidents.measures.judgement import Dump, Judgement, Sample
from alarm_mw.model.measures import ExternalAlerts


class _Saved(msgspec.Struct, frozen=True, array_like=True):
    """The stored form of an alert."""

    until: float
    text: str


class AlertState:
    """Lasts as long as its last posting says: while nobody could take another one, it goes on."""

    def __init__(self, until: float = 0.0, text: str = "") -> None:
        """Fire until then."""
        self._until = until
        self._text = text

    @classmethod
    def load(cls, dump: Dump) -> Self:
        """Go on from what `dump` has returned; raise `msgspec.ValidationError` for anything else."""
        saved = msgspec.convert(dump, _Saved)
        return cls(saved.until, saved.text)

    def configure(self, measure: ExternalAlerts) -> None:
        """Go on: another configuration changes nothing about it."""

    def add(self, sample: Sample, now: float) -> bool:
        """Take a posting in."""
        self._text = sample.fields["text"]
        self._until = now + float(sample.fields["ends_in"])
        return True

    def judge(self, now: float, *, is_open: bool) -> Judgement:  # noqa: ARG002  # a State's
        """Let an incident begin with an alert that fires, and end with it."""
        is_firing = now < self._until
        return Judgement(begins=is_firing, ends=not is_firing, text=self._text)

    def due(self, now: float, *, is_open: bool) -> float | None:
        """Return when it is over unless it is posted again."""
        return self._until if is_open and now < self._until else None

    def postpone(self, seconds: float, now: float) -> bool:
        """Do not count downtime, in which it could not be posted."""
        is_firing = self._until + seconds > now
        self._until += seconds
        return is_firing

    def dump(self) -> Dump:
        """Return what a later process goes on from."""
        return _Saved(self._until, self._text)
