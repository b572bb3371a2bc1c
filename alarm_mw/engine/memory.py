"""What an engine remembers, apart from its rules: given to the next engine, and written down for the next process."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from typing import TypeVar

import msgspec

from alarm_mw.engine.antiloop import LoopGuard
from alarm_mw.engine.echo import EchoGuard, SavedEchoes
from alarm_mw.engine.flood_control.limiters import ALL, Rates, Repeats, SameMessage, Silences, Thresholds
from alarm_mw.engine.flood_control.pending_digest import PendingDigest, PendingDigests

_FORMAT = 1

T = TypeVar("T")


class _Saved(msgspec.Struct, array_like=True, frozen=True):
    """A memory as bytes."""

    format: int = _FORMAT
    #: The two clocks when it was written: its own, and the seconds since the epoch.
    now: float = 0.0
    time: float = 0.0
    last: dict[str, tuple[bytes, float]] = {}
    repeats: dict[str, dict[bytes, float]] = {}
    rates: dict[str, list[float]] = {}
    thresholds: dict[str, list[float]] = {}
    silences: dict[str, tuple[float, str]] = {}
    pending: dict[str, PendingDigest] = {}
    loops: dict[str, list[tuple[bytes, int]]] = {}
    echoes: SavedEchoes = SavedEchoes()
    #: What versions before 1.1 counted.
    timeouts: dict[str, int] = {}
    costs: dict[str, tuple[float, float]] = {}


class Memory:
    """Belongs to one engine at a time, and to that engine's thread. Everything in it is bounded."""

    def __init__(self, saved: _Saved = _Saved(), offset: float = 0.0) -> None:  # noqa: B008  # frozen
        #: What is to be added to `time.monotonic` for the memory's own clock, which goes on over restarts.
        self.offset = offset
        #: Whether it was changed since `dumps` was called last.
        self.is_changed = False
        self.same_message = SameMessage(dict(saved.last))
        self.repeats = Repeats(saved.repeats)
        self.rates = Rates(dict(saved.rates))
        self.thresholds = Thresholds(dict(saved.thresholds))
        self.silences = Silences(dict(saved.silences))
        self.held_back = PendingDigests(dict(saved.pending))
        self.loops = LoopGuard(saved.loops)
        self.echoes = EchoGuard(saved.echoes)
        #: What each rule's slow searches have cost, in seconds, and since when that is counted; by the rule's text.
        self.costs = dict(saved.costs)

    def keep_only(self, alarms: Collection[str], rules: Collection[str]) -> None:
        """Forget alarms and rules that are not configured any more, and what was held back of them."""
        self.same_message.last = _only(self.same_message.last, alarms)
        self.repeats.keep_only(alarms)
        self.rates.times = _only(self.rates.times, {*alarms, ALL})
        self.thresholds.times = _only(self.thresholds.times, rules)
        self.silences.until = _only(self.silences.until, alarms)
        self.held_back.alarms = _only(self.held_back.alarms, alarms)
        self.loops.keep_only(alarms)
        self.costs = _only(self.costs, rules)

    def dumps(self, now: float, time: float) -> bytes:
        """Return it as bytes; `now` is that of `time.monotonic`, `time` that of `time.time`."""
        now += self.offset
        self.is_changed = False
        return msgspec.msgpack.encode(
            _Saved(
                now=now,
                time=time,
                last=self.same_message.last,
                repeats=self.repeats.dump(),
                rates=self.rates.times,
                thresholds=self.thresholds.times,
                silences=self.silences.until,
                pending=self.held_back.alarms,
                loops=self.loops.dump(),
                echoes=self.echoes.dump(),
                costs=self.costs,
            )
        )

    @classmethod
    def loads(cls, saved: bytes, now: float, time: float) -> Memory:
        """Return what `dumps` was given, older by the time that has passed since.

        Raises `ValueError` for bytes that are none of this version's.
        """
        try:
            found = msgspec.msgpack.decode(saved, type=_Saved)
        except msgspec.DecodeError as error:
            raise ValueError(f"this is no memory of alarms: {error}") from None
        if found.format != _FORMAT:
            raise ValueError(f"this memory of alarms has format {found.format}, not {_FORMAT}")
        # A wall clock that was put back must not make anything younger.
        return cls(found, found.now + max(time - found.time, 0.0) - now)


def _only(found: Mapping[str, T], names: Container[str]) -> dict[str, T]:
    return {name: state for name, state in found.items() if name in names}
