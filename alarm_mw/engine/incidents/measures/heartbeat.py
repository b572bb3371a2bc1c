"""One heartbeat: overdue, failed, or as expected."""

from __future__ import annotations

import re
from typing import NamedTuple, Self

import msgspec

from alarm_mw.engine.flood_control.limits import read_duration, span
from alarm_mw.engine.incidents.measures.judgement import Dump, Judgement, Sample
from alarm_mw.model.measures import HEARTBEAT, Heartbeat


class Beat(NamedTuple):
    """A heartbeat, as somebody sends it."""

    name: str
    #: Seconds, or texts such as ``5m``; None: as configured.
    every: str | float | None = None
    grace: str | float | None = None
    #: What has failed; None: nothing.
    failed: str | None = None
    #: No other is expected after it.
    last: bool = False

    def fields(self) -> dict[str, str]:
        """Return the fields of its record; raise `ValueError` with a sentence for people."""
        if not _NAME.fullmatch(str(self.name)):
            raise ValueError(f"a heartbeat's name has 1 to 200 ASCII characters without blanks, got {self.name!r}")
        times = {"every": self.every, "grace": self.grace}
        fields = {key: str(read_duration(value)) for key, value in times.items() if value is not None}
        failed = {} if self.failed is None else {"failed": str(self.failed)[:_MOST_TEXT]}
        return {HEARTBEAT: self.name, **fields, **failed, **({"last": "1"} if self.last else {})}


#: Characters of what is said of a failure.
_MOST_TEXT = 200

_NAME = re.compile(r"[!-~]{1,200}")


class _Saved(msgspec.Struct, frozen=True, array_like=True):
    """The stored form of a heartbeat."""

    last: float
    has_come: bool
    every: float
    grace: float
    failure: str | None


class HeartbeatState:
    """Silence counts only while somebody could have heard the heartbeat: after downtime of ours it goes on."""

    def __init__(self, name: str, measure: Heartbeat, last: float) -> None:
        """Expect heartbeats from `last` on."""
        self._name = name
        self._measure = measure
        #: When the last one came, or was expected from.
        self._last = last
        self._has_come = False
        #: The times that the last one brought with it; 0: those of the configuration.
        self._own_every = self._own_grace = 0.0
        #: What the last one said had failed; None: it was as expected.
        self._failure: str | None = None

    @classmethod
    def load(cls, name: str, measure: Heartbeat, dump: Dump) -> Self:
        """Go on from what `dump` has returned; raise `msgspec.ValidationError` for anything else."""
        saved = msgspec.convert(dump, _Saved)
        state = cls(name, measure, saved.last)
        state._has_come, state._failure = saved.has_come, saved.failure
        state._own_every, state._own_grace = saved.every, saved.grace
        return state

    def configure(self, measure: Heartbeat) -> None:
        """Go on by another configuration."""
        self._measure = measure

    def add(self, sample: Sample, now: float) -> bool:
        """Take a heartbeat in."""
        self._own_every = _seconds(sample.fields.get("every", ""))
        self._own_grace = _seconds(sample.fields.get("grace", ""))
        self._last, self._has_come = now, True
        self._failure = sample.fields.get("failed")
        return True

    def judge(self, now: float, *, is_open: bool) -> Judgement:  # noqa: ARG002  # a State's
        """Let an incident begin when a heartbeat is overdue or has failed, and end with the next one."""
        if self._failure is not None:
            text = f"heartbeat {self._name!r} failed" + (f": {self._failure}" if self._failure else "")
            return Judgement(begins=True, text=text)
        if now >= self._deadline:
            return Judgement(begins=True, text=self._overdue(now))
        return Judgement(ends=True, text=f"heartbeat {self._name!r}")

    def due(self, now: float, *, is_open: bool) -> float | None:
        """Return when the next one is overdue."""
        return None if is_open or self._failure is not None or now >= self._deadline else self._deadline

    def postpone(self, seconds: float, now: float) -> bool:  # noqa: ARG002  # a State's
        """Do not count downtime as silence."""
        self._last += seconds
        return True

    def dump(self) -> Dump:
        """Return what a later process goes on from."""
        return _Saved(self._last, self._has_come, self._own_every, self._own_grace, self._failure)

    @property
    def _every(self) -> float:
        return self._own_every or self._measure.every

    @property
    def _deadline(self) -> float:
        return self._last + self._every + (self._own_grace or self._measure.grace)

    def _overdue(self, now: float) -> str:
        ago = f"for {span(now - self._last)}" if self._has_come else f"yet, after {span(now - self._last)}"
        return f"no heartbeat {self._name!r} {ago}; expected every {span(self._every)}"


def _seconds(text: str) -> float:
    """Return the seconds that a heartbeat brings with it; 0 for what is no time."""
    try:
        return read_duration(float(text))
    except ValueError:
        return 0.0
