"""Messages about incidents: makes firings of notifications."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from msgspec import structs

from alarm_mw.engine.flood_control.limits import span
from alarm_mw.engine.incidents.incident import EndedBy, Incident, Status, thread_of
from alarm_mw.engine.incidents.reconcile import Notification
from alarm_mw.engine.messages import cut, named
from alarm_mw.engine.rules import CompiledRule
from alarm_mw.model.measures import ALERT, HEARTBEAT, ExternalAlerts, Heartbeat
from alarm_mw.model.types import Absence, Firing, IncidentNotice, Record, Rule, Stated, Trigger

#: How many bytes of an incident's first line are kept, and how many fields of its record, each of this many characters.
MESSAGE = 1024
FIELDS = 20
VALUE = 200

#: How many bytes are kept of the lines before the worst match, and of those after it.
AROUND = 4096

#: The statuses that a match may notify an alarm of.
BEGINNINGS = frozenset({Status.FIRING, Status.FLAPPING})

#: The ledger's columns of other messages.
_COLUMNS = {Status.REMINDER: "reminders", Status.ESCALATED: "escalated", Status.RESOLVED: "resolved"}

#: Sources of records whose messages are what is measured.
_MADE = frozenset({HEARTBEAT, ALERT})

_NO_TRIGGER = Trigger()


class Notices:
    """Makes the messages of one engine's incidents.

    `rules` are those with incidents, by their names; `wall` returns a moment of the incidents' clock in seconds since
    the epoch, and `time` the time of day.
    """

    def __init__(
        self,
        rules: Mapping[str, CompiledRule],
        alarm_msg_size: int,
        wall: Callable[[float], float],
        time: Callable[[], float],
    ) -> None:
        self._rules = rules
        self._msg_size = alarm_msg_size
        self._wall = wall
        self._time = time

    def firing(
        self,
        incident: Incident,
        notification: Notification,
        record: Record | None,
        before: tuple[str, ...],
        *,
        is_match: bool,
    ) -> Firing:
        """Return a message; `before` are the alarms that were notified of the episode before.

        `record` is that of the match with which the incident has begun, where that was now.
        """
        now = self._time()
        is_begin = notification.status in BEGINNINGS
        if record is None or not is_begin:
            record = self._record(incident, notification, now)
        column = "matched" if is_match and is_begin else _COLUMNS.get(notification.status, "delayed")
        notice = self._notice(incident, str(notification.status), before, column)
        compiled = self._rules.get(incident.rule)
        trigger = structs.replace(
            _NO_TRIGGER if compiled is None or compiled.trigger is None else compiled.trigger,
            name=incident.rule,
            labels=incident.labels,
            incident=notice,
        )
        message = cut(record.message + record.context, self._msg_size, record.size)
        text = "" if compiled is None else compiled.text
        name = f"{notification.id}.{named(notification.alarm)}"
        return Firing(name, notification.alarm, message, record, record.time, text, trigger=trigger)

    def _record(self, incident: Incident, notification: Notification, now: float) -> Record:
        """Return the record of a message that no match has made: that of the first match, as of now."""
        first = incident.first or Record(b"", "incident", now, "")
        options = compiled.rule.incident if (compiled := self._rules.get(incident.rule)) is not None else None
        is_end = notification.status is Status.RESOLVED and incident.ended_by is EndedBy.LINE
        if is_end and options is not None and options.ends_with_line:
            first = structs.replace(first, message=incident.end.encode("utf-8", "surrogateescape") + b"\n", size=0)
        return structs.replace(first, source="incident", time=now, key=notification.id)

    def _notice(self, incident: Incident, status: str, before: tuple[str, ...], column: str) -> IncidentNotice:
        """Return what a message says of an incident."""
        ack = incident.ack
        return IncidentNotice(
            incident.id,
            status,
            incident.episode,
            thread_of(incident),
            self._wall(incident.opened),
            dict(incident.key),
            incident.count,
            self._wall(incident.last),
            None if incident.ended is None else self._wall(incident.ended),
            "" if incident.ended_by is None else str(incident.ended_by),
            incident.end,
            "" if ack is None else ack.by,
            None if ack is None else self._wall(ack.time),
            before,
            column,
        )

    def absence(self, incident: Incident) -> Record | None:
        """Return the record of an incident that began without a match."""
        compiled = self._rules.get(incident.rule)
        options = None if compiled is None else compiled.rule.incident
        return None if options is None or options.absence is None else self._absent(incident, options.absence)

    def _absent(self, incident: Incident, absence: Absence) -> Record:
        key = ", ".join(f"{name}={value}" for name, value in incident.key)
        since = datetime.fromtimestamp(self._wall(incident.last), UTC)
        wanted = f"at {absence.schedule!r}" if absence.schedule else f"for {span(absence.after)}"
        text = f"{incident.rule}{f' ({key})' if key else ''}: no match {wanted}, since {since:%Y-%m-%d %H:%M:%S} UTC"
        return Record(text.encode("utf-8", "surrogateescape"), "incident", self._time(), "")


def with_figures(record: Record, rule: Rule, text: str, *, is_match: bool) -> Record:
    """Return a record whose message is what was measured, where that says more; the line of a match stands below it."""
    if not text:
        return record
    message = (text if isinstance(rule.measure, Heartbeat | ExternalAlerts) else f"{rule.name}: {text}").encode(
        "utf-8", "surrogateescape"
    )
    context = record.message + record.context if is_match and record.source not in _MADE else b""
    return structs.replace(record, message=message + b"\n", context=context, size=0, stated=None)


def numbers_of(rule: Rule) -> tuple[tuple[str, int], ...]:
    """Return the fields that say how bad a match of a rule is, with 1 where more is worse, and -1 where less is.

    They are those that its conditions compare with a number, and of requests the status and the duration.
    """
    found = [
        (condition.field, -1 if test.kind.startswith("<") else 1)
        for condition in rule.fields
        for test in condition.tests
        if test.kind[:1] in {"<", ">"}
    ]
    return (*dict(found).items(), *((("status", 1), ("duration", 1)) if rule.request is not None else ()))


def badness(record: Record, numbers: Iterable[tuple[str, int]]) -> tuple[float, ...]:
    """Return how bad a match is, to be compared with others of its rule: its level, then `numbers_of` the rule."""
    return record.level or 0, *(_number(record.fields.get(field, "")) * sign for field, sign in numbers)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0


def shortened(record: Record) -> Record:
    """Return a record in a bounded size, as an incident keeps it."""
    fields = dict(list(record.fields.items())[:FIELDS])
    return Record(
        record.message[:MESSAGE],
        record.source,
        record.time,
        record.key,
        record.pid,
        record.level,
        record.logger[:VALUE],
        {name[:VALUE]: value[:VALUE] for name, value in fields.items()},
        stated=record.stated and Stated(record.stated.event[:MESSAGE], repeated=record.stated.repeated[:FIELDS]),
    )
