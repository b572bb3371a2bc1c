"""The whole fleet, for people."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from alarm_mw.fleet.link import Clock, Link
from alarm_mw.fleet.messages import Info, in_order
from alarm_mw.fleet.store import Ack, Facts, IncidentFacts, IncidentRecord, PastEpisode
from alarm_mw.model.fleet import (
    FleetBudget,
    FleetHistory,
    FleetIncident,
    FleetMember,
    FleetNotification,
    FleetOverview,
    FleetPlan,
    FleetRecord,
)


class _Machine(msgspec.Struct):
    """What a machine says of itself."""

    labels: dict[str, str] = {}
    version: str = ""
    rules: str = ""
    lag: float = 0.0
    program: str = ""
    page: str = ""


class _Alarm(msgspec.Struct):
    """The state of an alarm about an incident, as the functions keep it."""

    o: str = ""
    told: float | None = None
    by: str = ""
    #: The episode that it was notified of, what of, and how often.
    te: int = 0
    ts: str = ""
    q: int = 0
    #: Its first message.
    ft: float | None = None
    fb: str = ""


class _PastAlarm(msgspec.Struct):
    """What an alarm was told of an episode, as the functions keep it."""

    first: float | None = None
    first_by: str = ""
    last: float | None = None
    last_by: str = ""
    over: float | None = None
    over_by: str = ""
    n: int = 0


class _Past(msgspec.Struct):
    """An episode that is over, as the functions keep it."""

    ep: int
    began: float
    ended: float
    n: int = 0
    machines: tuple[str, ...] = ()
    count: int = 0
    #: JSON.
    info: str = "{}"
    cause: str = ""
    by: str = ""
    ack: Ack | None = None
    alarms: dict[str, _PastAlarm] = {}


_past_decoder = msgspec.json.Decoder(_Past)


def overview_of(plan: FleetPlan, link: Link, facts: Facts | None, counters: Mapping[str, int]) -> FleetOverview:
    """Return what is known of the fleet; without facts, only what this member knows itself."""
    about = FleetOverview(
        plan.name,
        plan.machine,
        link.state,
        link.error or link.warning,
        link.lag,
        counters=dict(counters),
        is_hub=plan.is_hub,
    )
    if facts is None:
        return about
    return msgspec.structs.replace(
        about, members=_members(facts), incidents=_incidents(facts, link.clock), budgets=_budgets(plan, facts)
    )


def _members(facts: Facts) -> tuple[FleetMember, ...]:
    found = []
    for machine in in_order({*facts.beats, *facts.left}):
        state = "left" if machine in facts.left else "silent" if machine in facts.dead else "alive"
        seen = facts.left.get(machine, facts.beats.get(machine, 0.0))
        said = msgspec.json.decode(facts.machines.get(machine, b"{}"), type=_Machine)
        seconds = max((facts.now - seen) / 1000, 0.0)
        found.append(
            FleetMember(
                machine, state, seconds, said.labels, said.version, said.rules, said.lag, said.program, _page(said)
            )
        )
    return tuple(found)


def _page(said: _Machine) -> str:
    """Return the URL of a machine's page, if it is one that a browser may be sent to."""
    return said.page if said.page.startswith(("https://", "http://")) else ""


def _incidents(facts: Facts, clock: Clock) -> tuple[FleetIncident, ...]:
    return tuple(_incident(key, found, clock) for key, found in facts.incidents.items() if _is_open(found))


def _is_open(found: IncidentFacts) -> bool:
    return found.fields.get("open") == b"1"


def _incident(key: str, found: IncidentFacts, clock: Clock) -> FleetIncident:
    fields = found.fields
    said = msgspec.json.decode(fields.get("info", b"{}"), type=Info)
    episode = int(fields.get("ep", b"0"))
    alarms = {
        name.removeprefix("a:"): _notification(msgspec.json.decode(value, type=_Alarm), episode, clock)
        for name, value in fields.items()
        if name.startswith("a:")
    }
    ack = msgspec.json.decode(fields["ack"], type=Ack) if "ack" in fields else None
    started = clock.wall(int(fields.get("st", b"0")))
    return FleetIncident(
        key,
        said.rule,
        started,
        found.machine_count,
        in_order(found.machines),
        key=said.key,
        labels=said.labels,
        text=said.text,
        count=found.matches,
        alarms=alarms,
        episode=episode,
        **_acknowledged(ack, clock),
    )


def _acknowledged(ack: Ack | None, clock: Clock) -> dict[str, Any]:
    if ack is None:
        return {}
    return {
        "acknowledged_by": ack.by,
        "acknowledged_at": clock.wall(ack.at),
        "acknowledged_until": clock.wall(ack.until),
        "comment": ack.comment,
    }


def _notification(alarm: _Alarm, episode: int, clock: Clock) -> FleetNotification:
    if alarm.told is None or alarm.te != episode:
        return FleetNotification(alarm.o)
    first, told = _walls(clock, alarm.told if alarm.ft is None else alarm.ft, alarm.told)
    return FleetNotification(alarm.o, told, alarm.by, first, alarm.fb or alarm.by, messages=alarm.q)


def _walls(clock: Clock, *moments: float | None) -> list[float | None]:
    """Return shared times by this machine's clock, the same for the same one: both clocks go on between two looks."""
    walls = {moment: clock.wall(moment) for moment in moments if moment is not None}
    return [None if moment is None else walls[moment] for moment in moments]


async def history_of(link: Link, machine: str, since: float) -> FleetHistory:
    """Return the episodes that are open, and those that ended since a time. Raises `FleetUnreachableError`."""
    facts = await link.store.facts({})
    found = {(each.id, each.episode): each for each in _incidents(facts, link.clock)}
    begin, skip = max(link.clock.shared(since), 0), 0
    while part := await link.store.past(begin, facts.now, skip):
        skip += len(part)
        found |= {(each.id, each.episode): each for each in _past(part, link.clock)}
    return FleetHistory(tuple(found.values()), machine=machine)


def _past(found: Iterable[PastEpisode], clock: Clock) -> Iterator[FleetIncident]:
    """Yield the episodes that can be read: those of a later version may not be."""
    for each in found:
        with contextlib.suppress(msgspec.MsgspecError):
            yield _past_episode(each, clock)


def _past_episode(found: PastEpisode, clock: Clock) -> FleetIncident:
    past = _past_decoder.decode(found.facts)
    said = msgspec.json.decode(past.info, type=Info)
    return FleetIncident(
        found.key,
        said.rule,
        clock.wall(past.began),
        past.n,
        in_order(past.machines),
        key=said.key,
        labels=said.labels,
        text=said.text,
        count=past.count,
        alarms={alarm: _past_notification(told, clock) for alarm, told in past.alarms.items()},
        episode=past.ep,
        ended=clock.wall(past.ended),
        ended_by=past.cause,
        resolved_by=past.by if past.cause == "operator" else "",
        **_acknowledged(past.ack, clock),
    )


def _past_notification(alarm: _PastAlarm, clock: Clock) -> FleetNotification:
    first, last, over = _walls(clock, alarm.first, alarm.last, alarm.over)
    return FleetNotification(
        "",
        first if last is None else last,
        alarm.last_by or alarm.first_by,
        first,
        alarm.first_by,
        over,
        alarm.over_by,
        alarm.n,
    )


def record_of(key: str, record: IncidentRecord, clock: Clock) -> FleetRecord:
    """Return what is known of one incident."""
    now = [_incident(key, record.now, clock)] if record.now is not None and _is_open(record.now) else []
    past = sorted(_past(record.past, clock), key=lambda each: -each.started)
    said = {name: msgspec.json.decode(facts, type=_Machine) for name, facts in record.machines.items()}
    pages = {name: page for name, each in said.items() if (page := _page(each))}
    return FleetRecord((*now, *past), pages)


def _budgets(plan: FleetPlan, facts: Facts) -> tuple[FleetBudget, ...]:
    found = []
    for alarm, times in facts.budgets.items():
        rate = plan.alarm_rate if not alarm else plan.alarms[alarm].rate
        if rate is not None:
            found.append(FleetBudget(alarm, min(len(times), rate[0]), rate[0], rate[1]))
    return tuple(found)
