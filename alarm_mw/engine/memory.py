"""The state of an engine apart from its rules: passed to the next engine, and stored for the next process."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from typing import TypeVar

import msgspec

from alarm_mw.engine.antiloop import LoopGuard
from alarm_mw.engine.echo import EchoGuard, SavedEchoes
from alarm_mw.engine.flood_control.limiters import ALL, Rates, Repeats, SameMessage, Thresholds
from alarm_mw.engine.flood_control.pending_digest import PendingDigest, PendingDigests
from alarm_mw.engine.flood_control.silences import Silence, Silences, of_alarm

_FORMAT = 1

T = TypeVar("T")


class _Saved(msgspec.Struct, array_like=True, frozen=True):
    """The stored form of a memory."""

    format: int = _FORMAT
    #: Both clocks at the time of writing: the memory's own, and seconds since the epoch.
    now: float = 0.0
    time: float = 0.0
    last: dict[str, tuple[bytes, float]] = {}
    repeats: dict[str, dict[bytes, float]] = {}
    rates: dict[str, list[float]] = {}
    thresholds: dict[str, list[float]] = {}
    #: The ends and comments of silences by alarm, as former releases stored them.
    silences_of_alarms: dict[str, tuple[float, str]] = {}
    pending: dict[str, PendingDigest] = {}
    loops: dict[str, list[tuple[bytes, int]]] = {}
    echoes: SavedEchoes = SavedEchoes()
    #: Unused; kept so that stored memories can still be read.
    timeouts: dict[str, int] = {}
    costs: dict[str, tuple[float, float]] = {}
    silences: tuple[Silence, ...] = ()
    pending_repeats: dict[str, dict[bytes, PendingDigest]] = {}


class Memory:
    """The state of one engine. Used by that engine's thread only. Everything in it is bounded."""

    def __init__(self, saved: _Saved = _Saved(), offset: float = 0.0) -> None:  # noqa: B008  # frozen
        #: Offset of the memory's clock to `time.monotonic`; the memory's clock continues over restarts.
        self.offset = offset
        #: Whether it has changed since the last call of `dumps`.
        self.is_changed = False
        self.same_message = SameMessage(dict(saved.last))
        self.repeats = Repeats(saved.repeats)
        self.rates = Rates(dict(saved.rates))
        self.thresholds = Thresholds(dict(saved.thresholds))
        former = (of_alarm(alarm, *silence) for alarm, silence in saved.silences_of_alarms.items())
        self.silences = Silences((*saved.silences, *former))
        self.held_back = PendingDigests(
            dict(saved.pending), {alarm: dict(repeats) for alarm, repeats in saved.pending_repeats.items()}
        )
        self.loops = LoopGuard(saved.loops)
        self.echoes = EchoGuard(saved.echoes)
        #: The cost of each rule's slow searches in seconds, and the start of the window; by the rule's text.
        self.costs = dict(saved.costs)

    def keep_only(self, alarms: Collection[str], rules: Collection[str]) -> None:
        """Forget alarms and rules that are no longer configured, and what was held back for them."""
        self.same_message.last = _only(self.same_message.last, alarms)
        self.repeats.keep_only(alarms)
        self.rates.times = _only(self.rates.times, {*alarms, ALL})
        self.thresholds.times = _only(self.thresholds.times, rules)
        self.held_back.keep_only(alarms)
        self.loops.keep_only(alarms)
        self.costs = _only(self.costs, rules)

    def dumps(self, now: float, time: float) -> bytes:
        """Return the memory as bytes; `now` is `time.monotonic()`, `time` is `time.time()`."""
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
                pending=self.held_back.alarms,
                loops=self.loops.dump(),
                echoes=self.echoes.dump(),
                costs=self.costs,
                silences=tuple(self.silences),
                pending_repeats=self.held_back.repeats,
            )
        )

    @classmethod
    def loads(cls, saved: bytes, now: float, time: float) -> Memory:
        """Return the memory that `dumps` stored, aged by the time since then.

        Raises `ValueError` for bytes in another format.
        """
        try:
            found = msgspec.msgpack.decode(saved, type=_Saved)
        except msgspec.DecodeError as error:
            raise ValueError(f"this is no memory of alarms: {error}") from None
        if found.format != _FORMAT:
            raise ValueError(f"this memory of alarms has format {found.format}, not {_FORMAT}")
        # Setting the wall clock back must not make anything younger.
        return cls(found, found.now + max(time - found.time, 0.0) - now)


def _only(found: Mapping[str, T], names: Container[str]) -> dict[str, T]:
    return {name: state for name, state in found.items() if name in names}
