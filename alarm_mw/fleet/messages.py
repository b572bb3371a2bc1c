"""What a message is to the fleet, and what is sent for all machines."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec
from msgspec import structs

from alarm_mw.engine.flood_control.fingerprint import fingerprint_of
from alarm_mw.engine.messages import named
from alarm_mw.fleet.link import Periods
from alarm_mw.fleet.store import Answer, Offer, Owed, Told
from alarm_mw.model.fleet import FleetPlan, SharedAlarm
from alarm_mw.model.printable import printable
from alarm_mw.model.types import Firing, IncidentNotice, Machines, Place, Record, Trigger

Kind = Literal["begin", "repeat", "acknowledged", "resolved", "event"]

#: What holds for an alarm that is not shared, or not any more.
_NOT_SHARED = SharedAlarm(for_humans=False)

#: What the statuses of incidents are to the fleet.
_KINDS: dict[str, Kind] = {
    "firing": "begin",
    "flapping": "begin",
    "escalated": "begin",
    "reminder": "repeat",
    "acknowledged": "acknowledged",
    "resolved": "resolved",
}

#: Characters of an incident's text, of each label and value, and their number, that are shared.
TEXT, VALUE, VALUES = 500, 100, 10

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"

_MINUTE = 60_000


class Info(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the fleet knows of an incident, for people, and to say that it is over."""

    rule: str = ""
    key: dict[str, str] = {}
    labels: dict[str, str] = {}
    text: str = ""
    #: The rule's regexp.
    pattern: str = ""
    #: The name of the server that has reported it.
    program: str = ""


class Message(NamedTuple):
    """One machine's message, as the fleet sees it."""

    key: str
    alarm: str
    kind: Kind
    firing: Firing

    @property
    def is_event(self) -> bool:
        """Whether it is about no incident."""
        return self.kind == "event"

    @property
    def notice(self) -> IncidentNotice | None:
        """What it says of its incident."""
        return None if self.firing.trigger is None else self.firing.trigger.incident

    @property
    def name(self) -> str:
        """The alarm's name as a part of ids."""
        return named(self.alarm)

    @property
    def thread(self) -> str:
        """Names this machine's own episode of the incident."""
        return "" if self.notice is None else self.notice.thread


def message_of(firing: Firing) -> Message:
    """Return what a firing is to the fleet."""
    notice = None if firing.trigger is None else firing.trigger.incident
    if notice is not None:
        return Message(notice.id, firing.alarm, _KINDS.get(notice.status, "begin"), firing)
    if firing.is_digest:
        rule = hashlib.blake2b(firing.rule.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        return Message(f"{named(firing.alarm)}-digest-{rule}", firing.alarm, "event", firing)
    return Message(f"{named(firing.alarm)}-{fingerprint_of(firing)}", firing.alarm, "event", firing)


def shared_alarm(plan: FleetPlan, alarm: str) -> SharedAlarm:
    """Return what the fleet keeps of an alarm; no limits for one that is not shared."""
    return plan.alarms.get(alarm, _NOT_SHARED)


def window_of(plan: FleetPlan, alarm: str) -> int:
    """Return the milliseconds in which no machine sends another message without an incident."""
    return int(shared_alarm(plan, alarm).repeat_after * 1000)


def offer_of(
    kind: Kind | Literal["restore"], key: str, alarm: str, plan: FleetPlan, periods: Periods, *, is_event: bool
) -> Offer:
    """Return an offer that has what the configuration says, and no facts yet."""
    shared = shared_alarm(plan, alarm)
    return Offer(
        machine=plan.machine,
        key=key,
        alarm=alarm,
        name=named(alarm),
        kind=kind,
        is_event=is_event,
        window=window_of(plan, alarm) if is_event else None,
        rate=_limit(shared.rate),
        alarm_rate=_limit(plan.alarm_rate) if shared.for_humans else None,
        no_resolved=not shared.send_resolved,
        grace=int(periods.grace * 1000),
        owner_timeout=int(periods.owner_timeout * 1000),
        release_pause=int(periods.release_pause * 1000),
    )


def _limit(rate: tuple[int, float] | None) -> tuple[int, int] | None:
    return None if rate is None else (rate[0], int(rate[1] * 1000))


def info_of(firing: Firing, program: str) -> str:
    """Return what the fleet gets of a message of this server, as JSON of a bounded size."""
    trigger = firing.trigger or Trigger()
    key = {} if trigger.incident is None else trigger.incident.key
    return info(trigger.name, dict(key), dict(trigger.labels), firing.record.text, pattern=firing.rule, program=program)


def info(
    rule: str, key: dict[str, str], labels: dict[str, str], text: str, *, pattern: str = "", program: str = ""
) -> str:
    """Return facts about an incident as JSON of a bounded size."""
    found = Info(
        printable(rule, VALUE),
        _short(key),
        _short(labels),
        printable(text, TEXT),
        printable(pattern, VALUE),
        printable(program, VALUE),
    )
    return msgspec.json.encode(found).decode()


def _short(pairs: dict[str, str]) -> dict[str, str]:
    return {printable(name, VALUE): printable(value, VALUE) for name, value in list(pairs.items())[:VALUES]}


def in_order(machines: Iterable[str]) -> tuple[str, ...]:
    """Return names of machines in the order in which people count: ``web-2`` before ``web-10``."""
    return tuple(sorted(machines, key=_counted))


def _counted(name: str) -> list[tuple[bool, int, str]]:
    parts = re.split(r"([0-9]{1,18})", name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts if part]


def thread_of(key: str, fleet: str) -> str:
    """Return what all messages about an incident have in common, on every machine, and over its episodes.

    So a service closes with the first end what it has opened, even where two parts of a fleet could not reach each
    other and both have told it.
    """
    return f"{key}-{hashlib.blake2b(fleet.encode(), digest_size=2).hexdigest()}"


def base36(number: int) -> str:
    """Return a number as in ids."""
    digits = ""
    while True:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
        if not number:
            return digits


def shared(message: Message, answer: Answer, fleet: str, started: float | None) -> Firing:
    """Return what this machine sends for all; `started` is in seconds since the epoch by this machine's clock."""
    firing = structs.replace(
        message.firing,
        id=answer.id,
        machines=Machines(in_order(answer.machines), max(answer.n, len(answer.machines))),
        held_back=message.firing.held_back + answer.held,
    )
    if message.notice is None or firing.trigger is None:
        return structs.replace(firing, count=max(answer.count, firing.count))
    notice = structs.replace(
        message.notice,
        thread=thread_of(message.key, fleet),
        count=max(answer.count, message.notice.count),
        started=min(message.notice.started, started) if started is not None else message.notice.started,
        status="reminder" if answer.claimed == "update" else message.notice.status,
    )
    return structs.replace(firing, trigger=structs.replace(firing.trigger, incident=notice))


def alone(message: Message, given: str, known: Told | None, fired: int, fleet: str) -> Firing:
    """Return what this machine sends while the fleet cannot be reached.

    `given` is the id that the fleet had given it; `known` the last message of which this machine knows. `fired` is when
    the incident began, in milliseconds. Machines that cannot reach each other mostly choose the same id.
    """
    firing = structs.replace(message.firing, machines=Machines(is_unreachable=True))
    if message.notice is None or firing.trigger is None:
        return structs.replace(firing, id=given) if given else firing
    notice = structs.replace(message.notice, thread=thread_of(message.key, fleet))
    ep, seq = next_message(message.kind, known, fired)
    number = "end" if message.kind == "resolved" else seq
    return structs.replace(
        firing,
        id=given or f"{message.key}-{base36(ep)}-{number}.{message.name}",
        trigger=structs.replace(firing.trigger, incident=notice),
    )


def next_message(kind: Kind, known: Told | None, fired: int) -> tuple[int, int]:
    """Return the episode and the number of the next message, by what this machine knows."""
    if known is None:
        return fired // _MINUTE, 1
    if known.status == "open" or kind == "resolved":
        return known.ep, known.seq + 1
    return max(known.ep + 1, fired // _MINUTE), 1


def end_of(owed: Owed, alarm: str, *, started: float, now: float) -> Firing:
    """Return the message that an incident is over which no machine reports any more, as the last one would send it.

    The times are in seconds since the epoch by this machine's clock.
    """
    key, thread = owed.key, f"{owed.key}-{base36(owed.ep)}"
    name = f"{thread}-end.{named(alarm)}"
    found = msgspec.json.decode(owed.info or "{}", type=Info)
    ended_by = "operator" if owed.by else "timeout"
    notice = IncidentNotice(
        key,
        "resolved",
        1,
        thread,
        started,
        found.key,
        int(owed.n),
        now,
        now,
        ended_by,
        owed.by,
        column="resolved",
    )
    record = Record(found.text.encode() + b"\n", "fleet", now, name)
    trigger = Trigger(found.rule, found.labels, incident=notice)
    # Its labels must be those of the beginning, for services that know an alert by them.
    origin = Place(owed.machine, found.program) if owed.machine and found.program else None
    return Firing(name, alarm, record.message, record, now, found.pattern, trigger=trigger, origin=origin)
