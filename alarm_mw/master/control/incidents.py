"""Incidents on the control socket: all of them; and acknowledged, given back, resolved by hand."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import msgspec

from alarm_mw.delivery.outbox.limits import State
from alarm_mw.engine.messages import severity_of
from alarm_mw.master.control.fleet import overview
from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.model.fleet import SharedOrder
from alarm_mw.model.printable import printable_lines
from alarm_mw.model.types import Firing, Place, Trigger

if TYPE_CHECKING:  # few configurations have incidents
    from alarm_mw.engine.incidents.incident import Incident
    from alarm_mw.engine.incidents.incidents import Incidents


#: For how many incidents the outbox is asked one by one.
MOST_QUERIES = 200


class Shown(TypedDict):
    """An incident, as ``alarm-mw incidents --json`` prints it. Times are in seconds since the epoch."""

    id: str
    rule: str
    key: dict[str, str]
    labels: dict[str, str]
    state: str
    #: What holds messages back: ``acknowledged``, ``silenced``, ``flapping``, ``rate`` …
    marks: list[str]
    episode: int
    started: float
    ended: float | None
    #: Matches in this episode.
    count: int
    last: float
    #: The status of the last message to each alarm, delivered or not.
    notified: dict[str, str]
    acknowledged_by: str
    #: When the acknowledgement expires.
    acknowledged_until: float | None
    comment: str
    #: The label `severity`, or what the level of the first match means; empty where neither is known.
    severity: str
    #: The line of the first match that says what happened.
    message: str
    #: What else is known of the first match.
    fields: Mapping[str, str]
    #: The state of each alarm's last message: ``waiting``, ``delivered``, ``dead``, ``dropped``, ``handed_over``, or
    #: ``fleet`` where another machine has sent it.
    delivery: dict[str, str]
    #: It is firing, some alarm should have reported it, and no message about it was delivered yet.
    is_unreached: bool


@dataclass(frozen=True, slots=True)
class IncidentOrder:
    """What somebody wants done to incidents."""

    #: ``ack``, ``unack`` or ``resolve``.
    verb: str
    ids: tuple[str, ...]
    by: str
    #: For how long; None for as long as the configuration says.
    seconds: float | None = None
    comment: str = ""


def shown_as_json(runtime: Runtime, is_all: bool) -> bytes:  # noqa: FBT001  # asked by a query string
    """Return the incidents that are firing, or all that are remembered, as they were written down last.

    They are a JSON array of `Shown`: of 100,000, one after the other is in memory.
    """
    return b"[" + b",".join(map(msgspec.json.encode, _each(runtime, is_all=is_all))) + b"]"


def _each(runtime: Runtime, *, is_all: bool) -> Iterator[Shown]:
    clock = runtime.incident_clock
    if clock is None:
        return
    from alarm_mw.delivery.outbox import incident_rows  # noqa: PLC0415  # few configurations have incidents
    from alarm_mw.engine.incidents.incident import thread_of  # noqa: PLC0415  # as above

    now, outbox = clock(), runtime.outbox
    offset = time.time() - now
    known = incident_rows.all_deliveries(outbox) if incident_rows.count(outbox) > MOST_QUERIES else None
    for incident in incident_rows.each(outbox, is_all=is_all):
        thread = thread_of(incident)
        found = incident_rows.deliveries(outbox, thread) if known is None else known.get(thread, {})
        told = {
            name: str(State.DELIVERED) for name, told in incident.notified.items() if told.episode == incident.episode
        }
        delivery = {**told, **found}
        is_unreached = incident.is_open and incident_rows.is_unreached(outbox, thread, delivery)
        yield _shown(incident, delivery, now, offset, is_unreached=is_unreached)


def _shown(incident: Incident, delivery: dict[str, str], now: float, offset: float, *, is_unreached: bool) -> Shown:
    ack = incident.ack if incident.is_open and incident.ack is not None and incident.ack.until > now else None
    marks = {str(mark) for mark in incident.held.values()}
    marks |= {name for name, holds in (("acknowledged", ack), ("flapping", incident.flapping_since)) if holds}
    severity, message, fields = _first(incident)
    return {
        "id": incident.id,
        "rule": incident.rule,
        "key": dict(incident.key),
        "labels": incident.labels,
        "state": str(incident.state),
        "marks": sorted(marks),
        "episode": incident.episode,
        "started": incident.opened + offset,
        "ended": None if incident.ended is None else incident.ended + offset,
        "count": incident.count,
        "last": incident.last + offset,
        "notified": {alarm: str(told.status) for alarm, told in incident.notified.items()},
        "acknowledged_by": "" if ack is None else ack.by,
        "acknowledged_until": None if ack is None else ack.until + offset,
        "comment": "" if ack is None else ack.comment,
        "severity": severity,
        "message": message,
        "fields": fields,
        "delivery": delivery,
        "is_unreached": is_unreached,
    }


def _first(incident: Incident) -> tuple[str, str, Mapping[str, str]]:
    """Return the severity, the headline and the fields of the match with which an incident has begun."""
    from alarm_mw.texts.facts import facts_of, fields_of, headline_of  # noqa: PLC0415  # as in message_for

    record = incident.first
    severity = incident.labels.get("severity") or severity_of(None if record is None else record.level)
    if record is None:
        return severity, "", {}
    if record.stated is None:  # all others of the facts take ten times as long
        message = "\n".join(printable_lines(record.message))
        return severity, headline_of(message) or "alarm", fields_of(record.fields)
    trigger = Trigger(incident.rule, incident.labels)
    facts = facts_of(Firing(incident.id, "", record.message, record, record.time, trigger=trigger), Place())
    return severity, facts.headline, facts.fields


def carry_out(runtime: Runtime, order: IncidentOrder) -> list[str]:
    """Do something to incidents, and return the ids of those for which it was done; the others are not open.

    It takes effect before this returns, on other machines of a fleet soon.
    """
    done: list[str] = []
    runtime.order(lambda incidents: _carried_out(incidents, order, runtime.ack_expire, done))
    missing = {*order.ids}.difference(done)
    if missing and (found := overview(runtime)) is not None:
        for name in missing.intersection(incident.id for incident in found.incidents):
            runtime.share_order(_for_others(name, order, runtime.ack_expire))
            done.append(name)
    return done


#: What the orders of people are called among machines.
_KINDS = {"ack": "acknowledged", "unack": "unacknowledged", "resolve": "resolved"}


def _for_others(name: str, order: IncidentOrder, expire: float) -> SharedOrder:
    """Return an order about an incident that is firing on other machines alone."""
    now = time.time()
    seconds = expire if order.seconds is None else order.seconds
    return SharedOrder(_KINDS[order.verb], name, order.by, order.comment, now, now + seconds)


def _carried_out(incidents: Incidents, order: IncidentOrder, expire: float, done: list[str]) -> Sequence[Firing]:
    firings: list[Firing] = []
    for name in order.ids:
        match order.verb:
            case "ack":
                seconds = expire if order.seconds is None else order.seconds
                found = incidents.acknowledge(name, order.by, seconds, order.comment)
            case "unack":
                found = incidents.unacknowledge(name, order.by)
            case _:
                found = incidents.resolve_by_hand(name, order.by)
        if found is not None:
            firings += found
            done.append(name)
    return firings
