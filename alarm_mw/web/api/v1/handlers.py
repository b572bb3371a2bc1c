"""The operations of our API. Each returns what its annotation says; the docstring is its text in the document."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from alarm_mw.config.lint.labels import doubts_of_silence
from alarm_mw.delivery.dead_letters import Answer, Order
from alarm_mw.delivery.outbox import incident_rows
from alarm_mw.engine.incidents import incident as engine
from alarm_mw.engine.incidents.measures.heartbeat import Beat
from alarm_mw.engine.incidents.stored import Event
from alarm_mw.engine.matchers import parse_matchers
from alarm_mw.model.fleet import FleetIncident
from alarm_mw.web.api.operation import Call, Nothing, Operation
from alarm_mw.web.api.v1.schema import (
    Acknowledgement,
    Delivery,
    Done,
    EventsWanted,
    FailureWanted,
    HistoryEvent,
    Ids,
    Incident,
    IncidentsWanted,
    Ledger,
    LettersMeant,
    LettersWanted,
    NewSilence,
    OneIncident,
    PingWanted,
    Pong,
    RuleFigures,
    Silence,
    SilencesMeant,
    SilencesWanted,
    SilenceWanted,
)
from alarm_mw.web.incidents import Row, alarms_by_rule, covered, facts_of_incident, find, listed, row_of_other
from alarm_mw.web.master import Master, WantedSilence
from alarm_mw.web.pages.delivery import lanes_of
from alarm_mw.web.pages.episodes import elsewhere_since, events_of
from alarm_mw.web.pages.rules import shown_rules
from alarm_mw.web.samples import trend

NoQuery = Call[Nothing, Nothing]

#: How many incidents of a list have their trends: the worst.
MAX_TRENDS = 500


# Incidents


def list_incidents(call: Call[IncidentsWanted, Nothing]) -> list[Incident]:
    """List incidents, the worst first.

    Those that are firing, or all that are remembered.
    """
    found = listed(call.master, call.query.filter, is_all=call.query.all)
    trends = _trends(call, [row.id for row, _ in found[:MAX_TRENDS]])
    return [_incident(row, incident, trends.get(row.id, ())) for row, incident in found]


def get_incident(call: NoQuery) -> OneIncident:
    """Show one incident with its time line, as this machine or its fleet knows it."""
    name = call.path["id"]
    found = find(call.master, name)
    if found is None or not found[0].is_open:
        record = call.master.fleet_incident(name)
        if record is not None and record.episodes and (found is None or record.episodes[0].ended is None):
            return _elsewhere(record.episodes[0])
    if found is None:
        raise LookupError(f"there is no incident {name!r}")
    return OneIncident(_incident(*found, _trends(call, [name])[name]), tuple(_events(call.master, 0.0, name)))


def acknowledge(call: Call[Nothing, Acknowledgement]) -> Done:
    """Acknowledge incidents: no reminders and no further steps of an escalation.

    It lasts for `seconds`, or as long as the configuration says; the end of an incident is reported in any case.
    """
    return _done(call, "ack", call.body.ids, call.body.seconds, call.body.comment)


def unacknowledge(call: Call[Nothing, Ids]) -> Done:
    """Take acknowledgements back."""
    return _done(call, "unack", call.body.ids)


def resolve(call: Call[Nothing, Ids]) -> Done:
    """Resolve incidents by hand."""
    return _done(call, "resolve", call.body.ids)


def get_history(call: Call[EventsWanted, Nothing]) -> list[HistoryEvent]:
    """List what has happened to incidents, the oldest first."""
    query = call.query
    found = _events(call.master, query.since, query.incident)
    if query.fleet:
        others = elsewhere_since(call.master, query.since)
        found += [_event(event, machine) for event, machine in others if query.incident in ("", event.incident)]
        found.sort(key=lambda each: each.time)
    return found


def _done(
    call: Call[Nothing, Acknowledgement] | Call[Nothing, Ids],
    verb: str,
    ids: tuple[str, ...],
    seconds: float | None = None,
    comment: str = "",
) -> Done:
    done = tuple(call.master.order(verb, ids, call.identity.name, seconds, comment))
    return Done(done, tuple(name for name in ids if name not in done))


def _trends(call: Call[Any, Any], names: Sequence[str]) -> Mapping[str, Sequence[int]]:
    """Return the matches of each minute of the last hour; nothing where they are not counted."""
    samples = call.master.samples()
    return dict.fromkeys(names, ()) if samples is None else trend(samples, "incident", names)


def _incident(row: Row, incident: engine.Incident, matches: Sequence[int] = ()) -> Incident:
    facts = facts_of_incident(incident)
    return Incident(
        id=row.id,
        rule=row.rule,
        key=row.key,
        labels=row.labels,
        state=row.state,
        marks=tuple(sorted([*row.marks, *(["acknowledged"] if row.acknowledged_by else [])])),
        episode=row.episode,
        started=row.started,
        ended=row.ended,
        ended_by=row.ended_by,
        end=row.end,
        count=row.count,
        last=row.last,
        trend=tuple(matches),
        notified={alarm: str(told.status) for alarm, told in incident.notified.items()},
        acknowledged_by=row.acknowledged_by,
        acknowledged_until=row.acknowledged_until or None,
        comment=row.comment,
        severity=row.severity,
        message=row.message,
        fields=facts.fields,
        delivery={told.alarm: told.state for told in row.told},
        is_unreached=row.is_unreached,
    )


def _events(master: Master, since: float, incident: str) -> list[HistoryEvent]:
    with master.reading() as reader:
        return list(map(_event, incident_rows.events(reader, since, incident)))


def _event(event: Event, machine: str = "") -> HistoryEvent:
    return msgspec.convert(msgspec.structs.asdict(event) | {"machine": machine}, HistoryEvent)


def _elsewhere(incident: FleetIncident) -> OneIncident:
    """Return an incident that only other machines have."""
    row = row_of_other(incident)
    shown = Incident(
        id=row.id,
        rule=row.rule,
        key=row.key,
        labels=row.labels,
        state=row.state,
        marks=("acknowledged",) if row.acknowledged_by else (),
        episode=row.episode,
        started=row.started,
        ended=row.ended,
        ended_by=row.ended_by,
        end=row.end,
        count=row.count,
        last=row.last,
        notified={alarm: "firing" if each.over_at is None else "resolved" for alarm, each in incident.alarms.items()},
        acknowledged_by=row.acknowledged_by,
        acknowledged_until=row.acknowledged_until or None,
        comment=row.comment,
        severity=row.severity,
        message=row.message,
        fields={},
        delivery={told.alarm: told.state for told in row.told},
        machines=row.machines,
    )
    events = sorted((_event(*each) for each in events_of(incident)), key=lambda each: each.time)
    return OneIncident(shown, tuple(events))


# Rules and the ledger


def list_rules(call: NoQuery) -> list[RuleFigures]:
    """List the rules, how often each has matched, and how much of that was noise."""
    return [
        RuleFigures(
            id=each.id,
            name=each.rule.name,
            pattern=each.rule.pattern,
            alarms=each.rule.alarms,
            labels=dict(each.rule.labels),
            where=str(each.rule.where),
            kind=each.kind,
            matches=each.matches,
            today=each.today,
            open=each.open,
            episodes=each.worth.episodes,
            messages=each.worth.messages,
            acknowledged=each.worth.acknowledged,
            noise=each.worth.noise,
            again=each.worth.again,
            flapping=each.worth.flapping,
            remedies=each.worth.remedies,
            is_off=each.is_off,
        )
        for each in shown_rules(call.site)
    ]


def get_ledger(call: NoQuery) -> Ledger:
    """Show the ledger: what happened to every line and every message."""
    return msgspec.convert({name: call.master.status()[name] for name in Ledger.__struct_fields__}, Ledger)


# Delivery


def list_delivery(call: NoQuery) -> list[Delivery]:
    """Show how each alarm reaches its receiver, those that fail first."""
    return [
        Delivery(
            alarm=lane.name,
            action=lane.action,
            target=lane.target,
            waiting=lane.waiting,
            dead=lane.dead,
            delivered=lane.delivered,
            today=lane.today,
            latency=lane.latency,
            last=lane.last,
            error=lane.failing.get("error", ""),
            failing_since=lane.failing.get("since"),
            next_attempt=lane.failing.get("next_at"),
        )
        for lane in lanes_of(call.master)
    ]


def retry_delivery(call: NoQuery) -> Nothing:
    """Try what waits for an alarm now, without its pause."""
    call.master.retry_now(_alarm(call))
    return Nothing()


def send_test(call: NoQuery) -> Nothing:
    """Send a test alarm."""
    call.master.test(_alarm(call), call.identity.name)
    return Nothing()


def _alarm(call: NoQuery) -> str:
    name = call.path["alarm"]
    if name not in {alarm.name for alarm in call.master.settings().alarms}:
        raise LookupError(f"there is no alarm {name!r}")
    return name


def list_letters(call: Call[LettersWanted, Nothing]) -> Answer:
    """List dead letters, the newest last."""
    query = call.query
    order = Order(verb="list", ids=query.id, alarms=query.alarm, waiting=query.waiting, limit=query.limit)
    return call.master.dead(order)


def retry_letters(call: Call[Nothing, LettersMeant]) -> Answer:
    """Retry dead letters, and everything else that waits for the same alarms."""
    meant = call.body
    return call.master.dead(Order(verb="retry", ids=meant.ids, alarms=meant.alarms, waiting=meant.waiting, to=meant.to))


def drop_letters(call: Call[Nothing, LettersMeant]) -> Answer:
    """Drop dead letters permanently."""
    meant = call.body
    return call.master.dead(Order(verb="drop", ids=meant.ids, alarms=meant.alarms, waiting=meant.waiting))


# Silences


def list_silences(call: Call[SilencesWanted, Nothing]) -> list[Silence]:
    """List the silences that are pending or active."""
    return _silences(call.master.silences(call.query.all))


def put_silence(call: Call[Nothing, SilenceWanted]) -> NewSilence:
    """Create a silence, or update one.

    A silence with the same matchers as an active one continues that one. A silence lasts at most 30 days.
    """
    wanted, master = call.body, call.master
    starts = time.time() if wanted.starts is None else wanted.starts
    order = WantedSilence(
        wanted.targets, starts + wanted.seconds, call.identity.name, wanted.comment, wanted.starts, wanted.id
    )
    name = master.put_silence(order)
    silence = next(each for each in master.silences(True) if each["id"] == name)
    matchers = parse_matchers(silence["matchers"])
    with master.reading() as reader:
        incidents = incident_rows.incidents(reader)
    covers = len(covered(matchers, incidents, alarms_by_rule(master)))
    doubts = doubts_of_silence(master.settings(), matchers)
    return msgspec.convert({**silence, "covers": covers, "open": len(incidents), "doubts": doubts}, NewSilence)


def expire_silences(call: Call[Nothing, SilencesMeant]) -> list[Silence]:
    """End silences, and return them."""
    return _silences(call.master.expire_silences(call.body.targets))


def _silences(found: Iterable[Mapping[str, object]]) -> list[Silence]:
    return [msgspec.convert(dict(silence), Silence) for silence in found]


# Heartbeats


def ping(call: Call[PingWanted, Nothing]) -> Pong:
    """Send a heartbeat: the next one is expected as the monitor, or `every`, says."""
    query = call.query
    return _beat(call.master, Beat(call.path["name"], query.every, query.grace, last=query.last))


def ping_failure(call: Call[FailureWanted, Nothing]) -> Pong:
    """Report that what should have sent a heartbeat has failed: the incident begins at once."""
    return _beat(call.master, Beat(call.path["name"], failed=call.query.message))


def _beat(master: Master, beat: Beat) -> Pong:
    if not master.heartbeat(beat):
        raise LookupError(f"no monitor 'heartbeat' expects {beat.name!r}")
    return Pong(beat.name)


#: All operations, in the order of the document.
OPERATIONS = (
    Operation(method="GET", path="/api/1/incidents", call=list_incidents, query=IncidentsWanted),
    Operation(method="GET", path="/api/1/incidents/{id}", call=get_incident),
    Operation(method="POST", path="/api/1/incidents/ack", call=acknowledge, body=Acknowledgement),
    Operation(method="POST", path="/api/1/incidents/unack", call=unacknowledge, body=Ids),
    Operation(method="POST", path="/api/1/incidents/resolve", call=resolve, body=Ids),
    Operation(method="GET", path="/api/1/history", call=get_history, query=EventsWanted),
    Operation(method="GET", path="/api/1/silences", call=list_silences, query=SilencesWanted),
    Operation(method="POST", path="/api/1/silences", call=put_silence, body=SilenceWanted),
    Operation(method="POST", path="/api/1/silences/expire", call=expire_silences, body=SilencesMeant),
    Operation(method="GET", path="/api/1/rules", call=list_rules),
    Operation(method="GET", path="/api/1/ledger", call=get_ledger),
    Operation(method="GET", path="/api/1/delivery", call=list_delivery),
    Operation(method="POST", path="/api/1/delivery/{alarm}/retry", call=retry_delivery),
    Operation(method="POST", path="/api/1/delivery/{alarm}/test", call=send_test),
    Operation(method="GET", path="/api/1/letters", call=list_letters, query=LettersWanted),
    Operation(method="POST", path="/api/1/letters/retry", call=retry_letters, body=LettersMeant),
    Operation(method="POST", path="/api/1/letters/drop", call=drop_letters, body=LettersMeant),
    Operation(method="POST", path="/ping/{name}", call=ping, query=PingWanted),
    Operation(method="POST", path="/ping/{name}/fail", call=ping_failure, query=FailureWanted),
)
