"""The facts of a firing for its messages. An unknown fact is empty, and is left out of every text."""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import structs

from alarm_mw.engine.flood_control.fingerprint import fingerprint_of
from alarm_mw.engine.flood_control.limits import span
from alarm_mw.engine.messages import severity_of
from alarm_mw.model.printable import printable, printable_lines
from alarm_mw.model.types import Firing, IncidentNotice, Machines, Place, Record, Stated, Trigger
from alarm_mw.system.forks import held_off

#: Fields of a request's record that the text states in a phrase of its own.
_REQUEST = ("method", "path", "status", "duration")

#: How many fields of a record a message can name, how many characters of their names, of a logger's, and of values;
#: and of a regexp.
FIELDS = 100
NAME = 200
VALUE = 10_000
RULE = 1000

#: Maximum number of characters of a line a title shows.
HEADLINE = 300

_TRACEBACK = re.compile(r"[\s|+]*(?:Exception Group )?Traceback \(most recent call last\):")
_NO_TRIGGER = Trigger()

_ICONS = {
    "resolved": "\N{WHITE HEAVY CHECK MARK}",
    "acknowledged": "\N{EYES}",
    "flapping": "\N{CLOCKWISE RIGHTWARDS AND LEFTWARDS OPEN CIRCLE ARROWS}",
    "critical": "\N{LARGE RED CIRCLE}",
    "error": "\N{LARGE ORANGE CIRCLE}",
    "warning": "\N{LARGE YELLOW CIRCLE}",
    "info": "\N{LARGE BLUE CIRCLE}",
    "debug": "\N{MEDIUM WHITE CIRCLE}",
}
_NOTHING = Stated()
_NO_MACHINES = Machines()


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """One message's facts, as text that is safe to show: hidden characters are visible, lines end with LF."""

    id: str
    alarm: str
    message: str
    #: Seconds since the epoch.
    time: float
    #: The machine; empty where several say the same.
    host: str = ""
    #: The first machines of the fleet that say the same, and how many there are; none for a machine alone.
    machines: tuple[str, ...] = ()
    machine_count: int = 0
    #: The machines of a fleet share the message, and whether others may send it as well, since they cannot be asked.
    is_shared: bool = False
    is_unreachable: bool = False
    #: The server's name.
    name: str = ""
    #: The rule's name, or its regexp where it has none; empty for `alarm_mw.alarm()` and monitors.
    rule: str = ""
    is_named: bool = False
    labels: Mapping[str, str] = {}
    level: int | None = None
    logger: str = ""
    pid: int = 0
    #: The same if the process is one of the server's workers, as far as known.
    worker: int = 0
    source: str = ""
    fields: Mapping[str, str] = {}
    #: What a record with fields says happened, the traceback in it, and the names of fields that say what others do.
    event: str = ""
    exception: str = ""
    repeated: tuple[str, ...] = ()
    #: For how many firings it stands.
    count: int = 1
    #: The count of matches, and the seconds, after which the rule fired; a count of 1 is every match.
    threshold: int = 1
    within: float = 0.0
    #: How long a request took, and the limit that it exceeded, in seconds.
    duration: float | None = None
    limit: float | None = None
    held_back: int = 0
    held_since: float | None = None
    #: Whether the message summarizes firings that were held back.
    is_digest: bool = False
    #: The alarms that could not deliver it.
    via: tuple[str, ...] = ()
    #: Lines around the message.
    context: str = ""
    #: The same for events that differ in times, numbers and ids alone.
    fingerprint: str = ""
    #: ``firing``, ``reminder``, ``escalated``, ``flapping``, ``acknowledged`` or ``resolved``.
    status: str = "firing"
    #: The incident's id, and what its messages have in common until it is over.
    incident: str = ""
    thread: str = ""
    #: When the incident began, in seconds since the epoch, and how many matches it has had.
    started: float | None = None
    matches: int = 0
    #: What ended it: ``line``, ``timeout``, ``operator`` or ``removed``; and the line, or who did it.
    ended_by: str = ""
    end: str = ""
    #: The person who acknowledged it, and the time.
    acknowledged_by: str = ""
    acknowledged_at: float | None = None
    #: The alarms that were notified before.
    told: tuple[str, ...] = ()
    #: When the incident ended, in seconds since the epoch.
    ended: float | None = None
    #: The page that shows it, and the link that acknowledges it after a question.
    url: str = ""
    ack_url: str = ""

    @property
    def app(self) -> str:
        """The label `app`, or the server's name."""
        return self.labels.get("app") or self.name

    @property
    def origin(self) -> str:
        """Application and machine: ``shop@web-3``, ``shop on 100 machines``, or what is known of it."""
        if self.machine_count > 1:
            return f"{self.app} on {self.machine_count:,} machines".lstrip()
        return "@".join(filter(None, (self.app, self.host)))

    @property
    def machine_names(self) -> str:
        """The machines: ``web-1, web-2, …``; empty for a machine alone."""
        return ", ".join((*self.machines, *(["…"] if self.machine_count > len(self.machines) else [])))

    @property
    def severity(self) -> str:
        """The label `severity`, or what the level means; empty where neither is known."""
        return self.labels.get("severity") or severity_of(self.level)

    @property
    def icon(self) -> str:
        """A sign for what has become of an incident, or for the severity; empty where it is not known."""
        return _ICONS.get(self.status) or _ICONS.get(self.severity.lower(), "")

    @property
    def level_name(self) -> str:
        """The level as `logging` calls it; empty where it is not known."""
        return "" if self.level is None else logging.getLevelName(self.level)

    @property
    def headline(self) -> str:
        """The line of the message that says what happened: its first one, of a bare traceback its last one."""
        return headline_of(self.event or self.message) or f"alarm {self.alarm}"

    @property
    def evidence(self) -> str:
        """The message's lines where there is more than the headline."""
        text = self.message.strip("\n")
        first, _, rest = text.partition("\n")
        if self.event:
            return self.exception or rest.strip("\n")
        return rest.strip("\n") if first.strip() in {self.headline, ""} else text

    @property
    def request(self) -> str:
        """What was asked and answered: ``POST /pay 502 in 6.02 s``; empty where the record is of no request."""
        method, path, status = (self.fields.get(name, "") for name in _REQUEST[:3])
        if not (method and path):
            return ""
        took = "" if self.duration is None else f"in {span(self.duration)}"
        return " ".join(filter(None, (method, path, status, took)))

    @property
    def other_fields(self) -> dict[str, str]:
        """The record's fields except those in `request`."""
        told = (*self.repeated, *_REQUEST) if self.request else self.repeated
        return {name: value for name, value in self.fields.items() if name not in told}

    @property
    def dedup_key(self) -> str:
        """What equal events have in common, for a receiver that keeps one alert for all of them."""
        if self.incident:
            return self.incident
        same = (self.app, "" if self.is_shared else self.host, self.alarm, self.rule, self.fingerprint)
        return hashlib.sha256("\0".join(same).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def headline_of(message: str) -> str:
    """Return the line of a message that says what happened; empty where it has none."""
    lines = [line for line in message.split("\n") if line.strip()]
    if not lines:
        return ""
    line = (_raised(lines) if _TRACEBACK.match(lines[0]) else lines[0]).strip()
    return line if len(line) <= HEADLINE else f"{line[: HEADLINE - 1]}…"


def fields_of(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the fields with values, at most as many as a message may hold."""
    given = itertools.islice(((name, value) for name, value in fields.items() if name and value), FIELDS)
    return {printable(name, NAME): printable(value, VALUE) for name, value in given}


def facts_of(firing: Firing, place: Place, server_pid: int | None = None) -> Facts:
    """Return the facts of a firing that comes from `place`, from a process of the server `server_pid`.

    One that a hub delivers comes from the place that it names itself.
    """
    if (origin := firing.origin) is not None:
        host, name, labels = (
            printable(origin.host, NAME),
            printable(origin.name, NAME),
            {**place.labels, **origin.labels},
        )
        place = structs.replace(place, host=host, name=name, labels=labels)
        server_pid = None
    record, trigger = firing.record, firing.trigger or _NO_TRIGGER
    fields, stated = fields_of(record.fields), record.stated or _NOTHING
    machines = firing.machines or _NO_MACHINES
    duration = _seconds(fields.get("duration", ""))
    return Facts(
        id=firing.id,
        alarm=firing.alarm,
        message="\n".join(printable_lines(firing.message)),
        time=firing.time,
        host=_host(machines, place),
        machines=tuple(printable(name, NAME) for name in machines.names),
        machine_count=machines.count,
        is_shared=firing.machines is not None,
        is_unreachable=machines.is_unreachable,
        name=place.name,
        rule=trigger.name or printable(firing.rule, RULE),
        is_named=bool(trigger.name),
        labels={**place.labels, **trigger.labels},
        level=record.level,
        logger=printable(record.logger, NAME),
        pid=record.pid,
        worker=record.pid if server_pid is not None and record.pid != server_pid else 0,
        source=record.source,
        fields=fields,
        event=_lines(stated.event),
        exception=_lines(stated.exception),
        repeated=stated.repeated,
        context=_context(record),
        count=firing.count,
        threshold=trigger.count,
        within=trigger.within,
        duration=duration,
        limit=None if duration is None else trigger.slower_than,
        held_back=firing.held_back,
        held_since=firing.held_since,
        is_digest=firing.is_digest,
        via=firing.via,
        fingerprint=fingerprint_of(firing),
        **({} if trigger.incident is None else _of_incident(trigger.incident)),
        **({} if trigger.incident is None or not place.url else _links(trigger.incident, place, firing.time)),
    )


def _host(machines: Machines, place: Place) -> str:
    """Return the machine where it has happened: another one may send the message."""
    if machines.count > 1:
        return ""
    return place.host if machines.is_unreachable or not machines.names else printable(machines.names[0], NAME)


def _of_incident(notice: IncidentNotice) -> dict[str, Any]:
    """Return the facts of a message's incident."""
    return {
        "status": notice.status,
        "incident": notice.id,
        "thread": notice.thread,
        "started": notice.started,
        "matches": notice.count,
        "ended": notice.ended if notice.status == "resolved" else None,
        "ended_by": notice.ended_by,
        "end": printable(notice.end, NAME),
        "acknowledged_by": printable(notice.acknowledged_by, NAME),
        "acknowledged_at": notice.acknowledged_at,
        "told": notice.told,
    }


def _links(notice: IncidentNotice, place: Place, time: float) -> dict[str, Any]:
    """Return the links of an incident; none to acknowledge what is over."""
    with held_off():  # most installations have no page
        from alarm_mw.texts.links import VALID, ack_link, incident_link  # noqa: PLC0415

    links = {"url": incident_link(place.url, notice.id)}
    if place.link_key and notice.status != "resolved":
        links["ack_url"] = ack_link(place.url, place.link_key, notice.id, notice.episode, time + VALID)
    return links


def _lines(text: str) -> str:
    return "\n".join(printable_lines(text.encode("utf-8", "backslashreplace")))


def _context(record: Record) -> str:
    """Return the lines before and after a record, indented below a heading each."""
    parts = (("before it:", record.before), ("after it:", record.after))
    return "\n".join(
        "\n".join([heading, *(f"  {line}" for line in printable_lines(lines))]) for heading, lines in parts if lines
    )


def _raised(lines: list[str]) -> str:
    """Return the line of a traceback that names the exception: the last one that is not indented."""
    flush = [line for line in lines if not line[:1].isspace() and not line.startswith(("+", "|"))]
    last = flush[-1] if flush else lines[-1]
    return lines[-1] if _TRACEBACK.match(last) else last


def _seconds(duration: str) -> float | None:
    """Return a field's number of seconds; None for what is none."""
    try:
        seconds = float(duration)
    except ValueError:
        return None
    return seconds if 0 <= seconds < math.inf else None


def clock(seconds: float) -> str:
    """Return a time since the epoch as this machine's clock shows it, with its zone: ``2026-11-24 03:12:07 UTC``."""
    return f"{datetime.fromtimestamp(seconds, UTC).astimezone():%Y-%m-%d %H:%M:%S %Z}"


def rfc3339(seconds: float) -> str:
    """Return a time since the epoch as RFC 3339 has it, with milliseconds, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
