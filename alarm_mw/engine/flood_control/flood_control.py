"""Fires an alarm or holds it back, and reports later what was held back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from alarm_mw.engine.echo import PRINTED
from alarm_mw.engine.flood_control.limiters import ALL
from alarm_mw.engine.flood_control.limits import Limits, Rate, read_duration, read_rate
from alarm_mw.engine.flood_control.pending_digest import PendingDigest, text
from alarm_mw.engine.flood_control.silences import labels_of
from alarm_mw.engine.memory import Memory
from alarm_mw.engine.messages import cut, cut_middle, named
from alarm_mw.engine.rules import CompiledRule
from alarm_mw.model.types import Firing, Held, Reason, Record

Labels = Mapping[str, str] | tuple[tuple[str, str], ...]


class _Bounds(NamedTuple):
    """The limits of one alarm."""

    rate: Rate | None
    repeat_after: float
    digest: bool | None
    for_humans: bool


class _Why(NamedTuple):
    """Why a firing is held back, and when that ends, if it does."""

    reason: Reason
    until: float | None = None


class Gate(NamedTuple):
    """Holds back every further line of the same alarms until something fires or time passes."""

    held: tuple[Held, ...]
    #: The one message that is held back; None: any.
    message: bytes | None


class FloodControl:
    """Applies the limits of all alarms. `now` is in seconds of the memory's clock."""

    def __init__(
        self,
        limits: Mapping[str, Limits],
        memory: Memory,
        *,
        left_out: Collection[str],
        alarm_rate: Rate | None,
        alarm_freq: float,
        alarm_msg_size: int,
    ) -> None:
        self._bounds = {alarm: _bounds(limit) for alarm, limit in limits.items()}
        self._memory = memory
        self._left_out = frozenset(left_out)
        self._alarm_rate = alarm_rate
        self._freq = alarm_freq
        self._msg_size = alarm_msg_size

    def decide(self, alarm: str, record: Record, now: float, rule: CompiledRule | None) -> Firing | Held:
        """Fire the alarm for a record, or hold it back; `rule` is None if it is fired directly."""
        is_block = record.source in PRINTED and record.message.find(b"\n", 0, -1) >= 0
        shorten = cut_middle if is_block else cut
        message = shorten(record.message, self._msg_size, record.size)
        name, labels = ("", ()) if rule is None else (rule.rule.name, rule.rule.labels)
        why = self._shut(alarm, now, name, labels) or self._held_message(alarm, message, record, now)
        if why is not None:
            due = self._due(alarm, why, now)
            self._memory.held_back.add(alarm, why.reason, record, last=record.message, due=due)
            return Held(alarm, why.reason)
        self._memory.same_message.fired(alarm, message, now)
        if self._bounds[alarm].repeat_after:
            self._memory.repeats.fired(alarm, message, now)
        self._count(alarm, now)
        pending = self._memory.held_back.take(alarm)
        count, since = (pending.count, pending.since) if pending is not None else (0, None)
        if record.context:
            message = cut(record.message + record.context, self._msg_size, record.size)
        key = f"{record.key}.{named(alarm)}"
        if rule is None:
            return Firing(key, alarm, message, record, record.time, "", count, since)
        return Firing(key, alarm, message, record, record.time, rule.text, count, since, trigger=rule.trigger)

    def hold_back(self, alarm: str, record: Record, reason: Reason) -> Held:
        """Hold a firing back for a reason that is none of the limits; the next message reports it."""
        self._memory.held_back.add(alarm, reason, record, last=record.message, due=None)
        return Held(alarm, reason)

    def gate(self, alarms: Sequence[str], now: float) -> Gate | None:
        """Return the gate that holds all of these alarms back, for any message or for one; None if there is none."""
        if self._memory.silences.is_selective(now):
            return None
        held = []
        messages = set()
        for alarm in alarms:
            if (why := self._shut(alarm, now)) is not None:
                held.append(Held(alarm, why.reason))
            elif (message := self._memory.same_message.held(alarm, self._freq, now)) is not None:
                held.append(Held(alarm, Reason.SAME_MESSAGE))
                messages.add(message)
            else:
                return None
        return Gate(tuple(held), messages.pop() if messages else None) if len(messages) <= 1 else None

    def hold(self, gate: Gate, first: Record, last: bytes, n: int, now: float) -> None:
        """Record that a gate held `n` printed lines back."""
        for held in gate.held:
            alarm, reason = held.alarm, held.reason
            why = self._shut(alarm, now) or _Why(reason)
            self._memory.held_back.add(alarm, reason, first, last=last, n=n, due=self._due(alarm, why, now))
            # For any other line it does not matter which of its two forms comes first: both are held back.
            if reason is Reason.SAME_MESSAGE:
                self._memory.echoes.note_printed(alarm, first.message, now, n)

    def admit(self, alarm: str, rule: str, labels: Labels, now: float) -> tuple[Reason, float | None] | None:
        """Count a message, whatever it says, or return what holds it back, with the seconds until that ends."""
        why = self._shut(alarm, now, rule, labels)
        if why is None:
            self._count(alarm, now)
            return None
        return why.reason, None if why.until is None else max(why.until - now, 0.0)

    def count_undelivered(self, waiting: Mapping[str, int], now: float) -> None:
        """Count firings of an earlier process that are sent now, by alarm."""
        for_humans = 0
        for alarm, n in waiting.items():
            bounds = self._bounds.get(alarm)
            if bounds is None:  # no longer configured
                continue
            if bounds.rate is not None:
                self._memory.rates.count_undelivered(alarm, n, now)
            if bounds.for_humans:
                for_humans += n
        if self._alarm_rate is not None:
            self._memory.rates.count_undelivered(ALL, for_humans, now)

    def tick(self, now: float, time: float, *, at_end: bool) -> Iterator[Firing]:
        """Fire the digests that are due; `time` is in seconds since the epoch."""
        for alarm, pending in list(self._memory.held_back.alarms.items()):
            if pending.due is None or (pending.due > now and not at_end):
                continue
            if alarm not in self._bounds:  # no longer configured
                self._memory.held_back.take(alarm)
            elif at_end:
                yield self._digest(alarm, pending, now, time)
            elif (why := self._shut(alarm, now) or self._silenced_in_part(alarm, pending, now)) is not None:
                pending.due = why.until
            else:
                yield self._digest(alarm, pending, now, time)

    def _silenced_in_part(self, alarm: str, pending: PendingDigest, now: float) -> _Why | None:
        """Return the silence that goes on for some messages of an alarm: a digest of them must not break it."""
        if Reason.SILENCED not in pending.reasons:
            return None
        until = self._memory.silences.holds_alarm_until(alarm, now, in_part=True)
        return None if until is None else _Why(Reason.SILENCED, until)

    def _digest(self, alarm: str, pending: PendingDigest, now: float, time: float) -> Firing:
        self._memory.held_back.take(alarm)
        self._count(alarm, now)
        message = cut(text(pending), self._msg_size)
        # If it comes back through the output, that is one round of a loop.
        self._memory.loops.is_loop(alarm, message)
        name = f"{pending.key}.{named(alarm)}.digest"
        record = Record(message, "digest", time, name)
        return Firing(name, alarm, message, record, time, "", pending.count, pending.since, is_digest=True)

    def _count(self, alarm: str, now: float) -> None:
        bounds = self._bounds[alarm]
        if bounds.rate is not None:
            self._memory.rates.fired(alarm, now)
        if bounds.for_humans and self._alarm_rate is not None:
            self._memory.rates.fired(ALL, now)

    def _shut(self, alarm: str, now: float, rule: str | None = None, labels: Labels = ()) -> _Why | None:
        """Return what holds the alarm back, whatever its message, or whatever its message by a rule with labels."""
        if alarm in self._left_out:
            return _Why(Reason.UNAVAILABLE)
        if (until := self._silenced_until(alarm, now, rule, labels)) is not None:
            return _Why(Reason.SILENCED, until)
        bounds = self._bounds[alarm]
        if bounds.rate is not None and (until := self._memory.rates.full_until(alarm, bounds.rate, now)) is not None:
            return _Why(Reason.RATE, until)
        if self._alarm_rate is None or not bounds.for_humans:
            return None
        until = self._memory.rates.full_until(ALL, self._alarm_rate, now)
        return None if until is None else _Why(Reason.ALARM_RATE, until)

    def _silenced_until(self, alarm: str, now: float, rule: str | None, labels: Labels) -> float | None:
        silences = self._memory.silences
        if rule is None or not silences.is_selective(now):
            return silences.holds_alarm_until(alarm, now)
        return silences.holds_until(labels_of(alarm, rule, dict(labels)), now)

    def _held_message(self, alarm: str, message: bytes, record: Record, now: float) -> _Why | None:
        if self._memory.same_message.holds(alarm, message, self._freq, now):
            return _Why(Reason.SAME_MESSAGE)
        repeat_after = self._bounds[alarm].repeat_after
        if repeat_after and self._memory.repeats.holds(alarm, message, repeat_after, now):
            return _Why(Reason.REPEAT, now + repeat_after)
        return _Why(Reason.LOOP) if self._memory.loops.is_loop(alarm, record.message) else None

    def _due(self, alarm: str, why: _Why, now: float) -> float | None:
        """Return when a digest for a firing held back now is due; None if the next firing reports it."""
        digest = self._bounds[alarm].digest if alarm in self._bounds else False
        if why.reason is Reason.SAME_MESSAGE and digest:
            return now + self._freq
        return None if digest is False else why.until


def _bounds(limits: Limits) -> _Bounds:
    return _Bounds(
        None if limits.rate is None else read_rate(limits.rate),
        0.0 if limits.repeat_after is None else read_duration(limits.repeat_after),
        False if limits.digest is None and limits.for_humans is False else limits.digest,
        limits.for_humans is not False,
    )
