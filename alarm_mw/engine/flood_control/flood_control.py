"""Fires an alarm or holds it back, and reports later what was held back."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec import structs

from alarm_mw.engine.echo import PRINTED
from alarm_mw.engine.flood_control.limiters import ALL
from alarm_mw.engine.flood_control.limits import NO_TIME, Limits, Rate, read_duration, read_rate
from alarm_mw.engine.flood_control.pending_digest import PendingDigest, Repeated, repeats_text, text
from alarm_mw.engine.flood_control.silences import labels_of
from alarm_mw.engine.memory import Memory
from alarm_mw.engine.messages import cut, cut_middle, named
from alarm_mw.engine.rules import CompiledRule
from alarm_mw.model.types import Firing, Held, Reason, Record, Trigger
from alarm_mw.system.forks import held_off

Labels = Mapping[str, str] | tuple[tuple[str, str], ...]


class _Bounds(NamedTuple):
    """The limits of one alarm."""

    rate: Rate | None
    #: Seconds in which the alarm does not repeat its last message.
    freq: float
    #: Seconds in which it does not repeat a fingerprint; 0: no limit.
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


_NOTHING = Repeated()
_NO_TRIGGER = Trigger()


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
        self._bounds = {alarm: _bounds(limit, alarm_freq) for alarm, limit in limits.items()}
        self._memory = memory
        self._left_out = frozenset(left_out)
        self._alarm_rate = alarm_rate
        self._msg_size = alarm_msg_size
        #: The last record with its rule, and what was found out about them: several alarms ask for the same.
        self._last: tuple[Record, CompiledRule | None, Repeated] | None = None
        #: By alarm: the last message that it fired or held back as a repeat.
        self._repeated: dict[str, tuple[bytes, Repeated]] = {}

    def decide(self, alarm: str, record: Record, now: float, rule: CompiledRule | None) -> Firing | Held:
        """Fire the alarm for a record, or hold it back; `rule` is None if it is fired directly."""
        is_block = record.source in PRINTED and record.message.find(b"\n", 0, -1) >= 0
        shorten = cut_middle if is_block else cut
        message = shorten(record.message, self._msg_size, record.size)
        name, labels = ("", ()) if rule is None else (rule.rule.name, rule.rule.labels)
        why, repeated = self._shut(alarm, now, name, labels), _NOTHING
        repeat_after = self._bounds[alarm].repeat_after
        if why is None:
            repeated = self._look_up(record, rule) if repeat_after else _NOTHING
            why = self._held_message(alarm, message, repeated, record, now)
            if repeat_after and (why is None or why.reason is Reason.REPEAT):
                self._repeated[alarm] = message, repeated
        if why is not None:
            self._note_held(alarm, why, repeated, record, record.message, 1, now)
            return Held(alarm, why.reason)
        self._memory.same_message.fired(alarm, message, now)
        pending, fingerprint = self._memory.held_back.take(alarm), ""
        count, since = (0, None) if pending is None else (pending.count, pending.since)
        if repeat_after:
            fingerprint = repeated.fingerprint.hex()
            self._memory.repeats.fired(alarm, repeated.fingerprint, repeat_after, now)
            if (repeats := self._memory.held_back.take_repeats(alarm, repeated.fingerprint)) is not None:
                count, since = count + repeats.count, min(since or repeats.since, repeats.since)
        self._count(alarm, now)
        if (record.before or record.after) and (rule is None or rule.rule.context is None):
            record = structs.replace(record, before=b"", after=b"")  # another rule asks for them
        if record.context:
            message = cut(record.message + record.context, self._msg_size, record.size)
        key = f"{record.key}.{named(alarm)}"
        text, trigger = ("", None) if rule is None else (rule.text, rule.trigger)
        return Firing(
            key, alarm, message, record, record.time, text, count, since, trigger=trigger, fingerprint=fingerprint
        )

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
            elif (found := self._held_exactly(alarm, now)) is not None:
                held.append(Held(alarm, found[0]))
                messages.add(found[1])
            else:
                return None
        return Gate(tuple(held), messages.pop() if messages else None) if len(messages) <= 1 else None

    def hold(self, gate: Gate, first: Record, last: bytes, n: int, now: float) -> None:
        """Record that a gate held `n` printed lines back."""
        for held in gate.held:
            alarm, reason = held.alarm, held.reason
            why, repeated = self._shut(alarm, now), _NOTHING
            if why is None and reason is Reason.REPEAT:
                why, repeated = _Why(reason, now + self._bounds[alarm].repeat_after), self._repeated[alarm][1]
            self._note_held(alarm, why or _Why(reason), repeated, first, last, n, now)
            # For any other line it does not matter which of its two forms comes first: both are held back.
            if reason is Reason.REPEAT or reason is Reason.SAME_MESSAGE:
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
        held_back = self._memory.held_back
        held_back.keep_only(self._bounds)
        for alarm, fingerprint, pending in held_back.due_before(math.inf if at_end else now):
            if not at_end and (why := self._shut_for_digest(alarm, pending, now)) is not None:
                pending.due = why.until
            elif fingerprint:
                held_back.take_repeats(alarm, fingerprint)
                yield self._digest(alarm, repeats_text(pending), fingerprint, pending, now, time)
            else:
                held_back.take(alarm)
                yield self._digest(alarm, text(pending), fingerprint, pending, now, time)

    def _shut_for_digest(self, alarm: str, pending: PendingDigest, now: float) -> _Why | None:
        """Return what holds a digest back, such as a silence that goes on for some of the messages in it."""
        trigger = pending.trigger or _NO_TRIGGER
        why = self._shut(alarm, now, trigger.name if pending.rule else None, tuple(trigger.labels.items()))
        if why is not None or Reason.SILENCED not in pending.reasons:
            return why
        until = self._memory.silences.holds_alarm_until(alarm, now, in_part=True)
        return None if until is None else _Why(Reason.SILENCED, until)

    def _digest(  # noqa: PLR0917  # private
        self, alarm: str, said: bytes, fingerprint: bytes, pending: PendingDigest, now: float, time: float
    ) -> Firing:
        self._count(alarm, now)
        message = cut(said, self._msg_size)
        # If it comes back through the output, that is one round of a loop.
        self._memory.loops.is_loop(alarm, message)
        name = f"{pending.key}.{named(alarm)}.digest"
        record = Record(message, "digest", time, name, level=pending.level, logger=pending.logger)
        return Firing(
            name,
            alarm,
            message,
            record,
            time,
            pending.rule,
            pending.count,
            pending.since,
            is_digest=True,
            trigger=pending.trigger,
            fingerprint=fingerprint.hex(),
        )

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

    def _held_message(self, alarm: str, message: bytes, repeated: Repeated, record: Record, now: float) -> _Why | None:
        bounds = self._bounds[alarm]
        if self._memory.repeats.holds(alarm, repeated.fingerprint, bounds.repeat_after, now):
            return _Why(Reason.REPEAT, now + bounds.repeat_after)
        if self._memory.same_message.holds(alarm, message, bounds.freq, now):
            return _Why(Reason.SAME_MESSAGE)
        return _Why(Reason.LOOP) if self._memory.loops.is_loop(alarm, record.message) else None

    def _held_exactly(self, alarm: str, now: float) -> tuple[Reason, bytes] | None:
        """Return a message of the alarm that is held back, with the reason; None if there is none."""
        bounds = self._bounds[alarm]
        message, repeated = self._repeated.get(alarm, (b"", _NOTHING))
        if self._memory.repeats.holds(alarm, repeated.fingerprint, bounds.repeat_after, now):
            return Reason.REPEAT, message
        if bounds.repeat_after:  # its fingerprint has to be compared
            return None
        same = self._memory.same_message.held(alarm, bounds.freq, now)
        return None if same is None else (Reason.SAME_MESSAGE, same)

    def _look_up(self, record: Record, rule: CompiledRule | None) -> Repeated:
        last = self._last
        if last is None or last[0] is not record or last[1] is not rule:
            with held_off():  # few configurations need it before their first firing
                from alarm_mw.engine.flood_control.fingerprint import fingerprint  # noqa: PLC0415
            text, trigger, parts = ("", None, ()) if rule is None else (rule.text, rule.trigger, rule.rule.fingerprint)
            found = Repeated(bytes.fromhex(fingerprint(record, text, parts)), text, trigger)
            last = self._last = record, rule, found
        return last[2]

    def _note_held(  # noqa: PLR0917  # private
        self, alarm: str, why: _Why, repeated: Repeated, first: Record, last: bytes, n: int, now: float
    ) -> None:
        """Count what is held back, to be reported later."""
        due = self._due(alarm, why, now)
        if why.reason is Reason.REPEAT:
            self._memory.held_back.add_repeats(alarm, repeated, first, last=last, n=n, due=due)
        else:
            self._memory.held_back.add(alarm, why.reason, first, last=last, n=n, due=due)

    def _due(self, alarm: str, why: _Why, now: float) -> float | None:
        """Return when a digest for a firing held back now is due; None if the next firing reports it."""
        digest = self._bounds[alarm].digest if alarm in self._bounds else False
        if why.reason is Reason.SAME_MESSAGE and digest:
            return now + self._bounds[alarm].freq
        return None if digest is False else why.until


def _bounds(limits: Limits, alarm_freq: float) -> _Bounds:
    repeat_after = limits.repeat_after
    is_every = repeat_after is not None and repeat_after in NO_TIME
    return _Bounds(
        None if limits.rate is None else read_rate(limits.rate),
        0.0 if is_every else alarm_freq,
        0.0 if repeat_after is None or is_every else read_duration(repeat_after),
        False if limits.digest is None and limits.for_humans is False else limits.digest,
        limits.for_humans is not False,
    )
