"""Incidents as the pages show them: read from the outbox, with the line that says what happened and whom it reached."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import msgspec

from alarm_mw.delivery.outbox import incident_rows
from alarm_mw.delivery.outbox.incident_rows import Reader
from alarm_mw.delivery.outbox.limits import State
from alarm_mw.engine.flood_control.silences import ALARM, labels_of
from alarm_mw.engine.incidents.incident import Acknowledgement, Incident, thread_of
from alarm_mw.engine.matchers import Matcher
from alarm_mw.model.fleet import FleetIncident, FleetOverview
from alarm_mw.model.types import Firing, Place, Record, Trigger
from alarm_mw.texts.facts import Facts, facts_of
from alarm_mw.texts.severities import tone_of, urgency, word_of
from alarm_mw.web.master import Master

#: How many incidents one page shows.
MAX_ROWS = 100

#: How many messages that were not delivered are looked at for incidents that have reached nobody.
MAX_CHECKED = 1_000

#: The maximum number of incidents in an answer to a program.
MAX_LISTED = 10_000

#: What a state of a firing looks like.
_SIGNS = {"delivered": "✓", "waiting": "…", "dead": "✗", "dropped": "✗", "handed_over": "→", "fleet": "✓"}


class Subject(Protocol):
    """An incident, as far as silences look at it."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def rule(self) -> str:
        """The rule's name."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""


S = TypeVar("S", bound=Subject)


def covered(
    matchers: Sequence[Matcher], incidents: Iterable[S], alarms: Mapping[str, Sequence[str]] | None = None
) -> list[S]:
    """Return the incidents of which a silence with these matchers holds messages back.

    `alarms` are those of each rule; without them, all that matchers of alarms say is left out.
    """
    if alarms is None:
        matchers = [matcher for matcher in matchers if matcher.name != ALARM]
    return [
        each
        for each in incidents
        for names in [[""] if alarms is None else alarms.get(each.rule, [""])]
        if any(all(one.matches(labels_of(name, each.rule, each.labels)) for one in matchers) for name in names)
    ]


def alarms_by_rule(master: Master) -> dict[str, tuple[str, ...]]:
    """Return the alarms that the incidents of each rule notify."""
    return {rule.name: rule.alarms for rule in master.settings().incident_rules}


class Told(msgspec.Struct, frozen=True):
    """An alarm, and what became of its last message about an episode."""

    alarm: str
    #: ``waiting``, ``delivered``, ``dead``, ``dropped``, ``handed_over`` or ``fleet``: another machine has sent it.
    state: str

    @property
    def sign(self) -> str:
        """The state as one character."""
        return _SIGNS.get(self.state, "?")

    @property
    def word(self) -> str:
        """The state in words."""
        return "sent by another machine" if self.state == "fleet" else self.state.replace("_", " ")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One incident. Times are in seconds since the epoch."""

    id: str
    rule: str
    key: Mapping[str, str]
    labels: Mapping[str, str]
    state: str
    episode: int
    severity: str
    message: str
    started: float
    last: float
    ended: float | None
    ended_by: str
    end: str
    count: int
    #: What holds messages back, beside an acknowledgement.
    marks: tuple[str, ...]
    acknowledged_by: str
    acknowledged_until: float
    comment: str
    told: tuple[Told, ...] = ()
    #: The server's name where those of several are shown; else empty.
    server: str = ""
    #: The first machines of a fleet on which it is firing, and how many there are; none without a fleet.
    machines: tuple[str, ...] = ()
    machine_count: int = 0
    #: Whether it is an incident of this machine as well.
    is_here: bool = True
    #: Whether it is firing, should be known to somebody, and no message about it was delivered yet.
    is_unreached: bool = False

    @property
    def machine_names(self) -> str:
        """The machines: ``web-1, web-2, …``."""
        return names_of(self.machines, self.machine_count)

    @property
    def is_open(self) -> bool:
        """Whether it is firing."""
        return self.state == "firing"

    @property
    def tone(self) -> str:
        """How bad it is, in three steps, for its color."""
        return tone_of(self.severity)

    @property
    def word(self) -> str:
        """What its severity is called."""
        return word_of(self.severity)

    @property
    def urgency(self) -> tuple[int, bool, float]:
        """What puts it in order among others."""
        return urgency(self.severity, self.acknowledged_by, self.started)

    @property
    def facts(self) -> dict[str, str]:
        """Its key and labels, without what stands elsewhere."""
        return {**self.key, **{name: value for name, value in self.labels.items() if name != "severity"}}

    def matches(self, text: str) -> bool:
        """Return whether all words of a filter are found in it: ``name=value`` for a label, others anywhere."""
        pairs = {**self.labels, **self.key, "rule": self.rule, "severity": self.severity}
        pairs |= {"server": self.server} if self.server else {}
        anywhere = " ".join([self.id, self.message, self.acknowledged_by, *pairs.values(), *self.machines]).lower()
        labels = " ".join(f"{name}={value}" for name, value in pairs.items()).lower()
        return all(word in anywhere or ("=" in word and word in labels) for word in text.lower().split())


class Found(NamedTuple):
    """What a page shows of incidents."""

    rows: list[Row]
    #: How many there are in all, without the filter and the bound.
    total: int


def names_of(machines: Sequence[str], count: int) -> str:
    """Return the names of machines, of which there are so many: ``web-1, web-2, …``."""
    return ", ".join((*machines, *(["…"] if count > len(machines) else [])))


def open_incidents(master: Master, text: str = "") -> Found:
    """Return the incidents that are firing and match a filter, the most urgent first. May block.

    Those that are firing on other machines of a fleet are among them.
    """
    fleet = master.fleet()
    with master.reading() as reader:
        found = incident_rows.firing(reader, master.known)
        if fleet is not None and fleet.incidents:
            return _with_fleet(reader, found, master.offset(), text, fleet)
        rows = _matching(reader, found, master.offset(), text, MAX_ROWS)
        return Found([row for row, _ in rows], len(found))


def _with_fleet(reader: Reader, found: Sequence[Incident], offset: float, text: str, fleet: FleetOverview) -> Found:
    """Return incidents with the machines on which they are firing, and those of other machines alone."""
    known = {incident.id: incident for incident in found}
    others = {incident.id: incident for incident in fleet.incidents}
    rows = [
        msgspec.structs.replace(row_of(incident, offset), **_machines(others.get(incident.id))) for incident in found
    ]
    rows += [row_of_other(incident) for incident in fleet.incidents if incident.id not in known]
    rows.sort(key=lambda row: row.urgency)
    shown = [*itertools.islice((row for row in rows if row.matches(text)), MAX_ROWS)]
    return Found([_with_told(reader, row, known[row.id]) if row.is_here else row for row in shown], len(rows))


def _machines(incident: FleetIncident | None) -> dict[str, Any]:
    return {} if incident is None else {"machines": incident.machines, "machine_count": incident.machine_count}


def row_of_other(incident: FleetIncident) -> Row:
    """Return an incident of other machines alone; when it matched last is not known."""
    told = (Told(alarm, "waiting" if each.told_at is None else "fleet") for alarm, each in incident.alarms.items())
    is_acknowledged = incident.ended is None and (incident.acknowledged_until or math.inf) > time.time()
    return Row(
        id=incident.id,
        rule=incident.rule,
        key=incident.key,
        labels=incident.labels,
        state="firing" if incident.ended is None else "resolved",
        episode=incident.episode,
        severity=incident.labels.get("severity", ""),
        message=incident.text,
        started=incident.started,
        last=incident.started,
        ended=incident.ended,
        ended_by=incident.ended_by,
        end=incident.resolved_by,
        count=incident.count,
        marks=(),
        acknowledged_by=incident.acknowledged_by if is_acknowledged else "",
        acknowledged_until=incident.acknowledged_until or 0.0,
        comment=incident.comment,
        told=tuple(told),
        machines=incident.machines,
        machine_count=incident.machine_count,
        is_here=False,
    )


def listed(master: Master, text: str = "", *, is_all: bool = False) -> list[tuple[Row, Incident]]:
    """Return the incidents that are firing, or all that are remembered, in the same order. May block."""
    with master.reading() as reader:
        return _matching(reader, incident_rows.incidents(reader, is_all=is_all), master.offset(), text, MAX_LISTED)


def find(master: Master, name: str) -> tuple[Row, Incident] | None:
    """Return an incident by its id. May block."""
    offset = master.offset()
    with master.reading() as reader:
        incident = incident_rows.find(reader, name)
        if incident is None:
            return None
        return _with_told(reader, row_of(incident, offset), incident), incident


def _matching(
    reader: Reader, found: Iterable[Incident], offset: float, text: str, limit: int
) -> list[tuple[Row, Incident]]:
    """Return the first `limit` incidents that match a filter, the most urgent first."""
    ordered = sorted(found, key=lambda each: urgency(_severity(each), _acknowledged_by(each, offset), each.opened))
    rows = ((row_of(incident, offset), incident) for incident in ordered)
    matching = itertools.islice((found for found in rows if found[0].matches(text)), limit)
    return [(_with_told(reader, row, incident), incident) for row, incident in matching]


def _with_told(reader: Reader, row: Row, incident: Incident) -> Row:
    states = {name: "delivered" for name, told in incident.notified.items() if told.episode == incident.episode}
    states |= incident_rows.deliveries(reader, thread_of(incident))
    is_unreached = incident.is_open and incident_rows.is_unreached(reader, thread_of(incident), states)
    told = tuple(Told(alarm, state) for alarm, state in states.items())
    return msgspec.structs.replace(row, told=told, is_unreached=is_unreached)


def count_unreached(reader: Reader, alarm: str) -> int:
    """Return how many incidents are firing that an alarm should report, and that have reached nobody at all.

    At most `MAX_CHECKED` episodes that wait or are dead letters are looked at, the newest. May block.
    """
    rows = reader.query(
        "SELECT id FROM firings WHERE alarm = ? AND state IN (?, ?) ORDER BY seq DESC LIMIT ?",
        (alarm, str(State.WAITING), str(State.DEAD), MAX_CHECKED),
    )
    threads = dict.fromkeys(incident_rows.episode_of(cast("str", name)) for (name,) in rows)
    found = ((thread, incident_rows.find(reader, thread.partition("-")[0])) for thread in threads)
    return sum(
        incident is not None
        and incident.is_open
        and thread_of(incident) == thread
        and incident_rows.is_unreached(reader, thread, {alarm: str(State.WAITING)})
        for thread, incident in found
    )


def _severity(incident: Incident) -> str:
    """Return the severity without the cost of all facts: thousands of incidents are put in order by it."""
    if given := incident.labels.get("severity"):
        return given
    if incident.first is None or incident.first.level is None:
        return ""
    return Facts(id="", alarm="", message="", time=0.0, level=incident.first.level).severity


def _ack_of(incident: Incident, offset: float) -> Acknowledgement | None:
    """Return the acknowledgement that is in force."""
    ack = incident.ack
    return ack if incident.is_open and ack is not None and ack.until + offset > time.time() else None


def _acknowledged_by(incident: Incident, offset: float) -> str:
    ack = _ack_of(incident, offset)
    return "" if ack is None else ack.by


def facts_of_incident(incident: Incident) -> Facts:
    """Return the facts of the match with which an incident has begun."""
    record = incident.first or Record(b"", "incident", 0.0, "")
    trigger = Trigger(incident.rule, incident.labels)
    return facts_of(Firing(incident.id, "", record.message, record, record.time, trigger=trigger), Place())


def row_of(incident: Incident, offset: float) -> Row:
    """Return an incident for a page, not yet with the alarms that were notified; `offset` is `Master.offset`."""
    ack = _ack_of(incident, offset)
    marks = {str(mark) for mark in incident.held.values()} - {"acknowledged"}
    if incident.flapping_since is not None:
        marks.add("flapping")
    return Row(
        id=incident.id,
        rule=incident.rule,
        key=dict(incident.key),
        labels=incident.labels,
        state=str(incident.state),
        episode=incident.episode,
        severity=_severity(incident),
        message=facts_of_incident(incident).headline if incident.first is not None else "",
        started=incident.opened + offset,
        last=incident.last + offset,
        ended=None if incident.ended is None else incident.ended + offset,
        ended_by="" if incident.ended_by is None else str(incident.ended_by),
        end=incident.end,
        count=incident.count,
        marks=tuple(sorted(marks)),
        acknowledged_by="" if ack is None else ack.by,
        acknowledged_until=0.0 if ack is None else ack.until + offset,
        comment="" if ack is None else ack.comment,
    )
