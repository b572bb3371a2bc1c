"""The whole fleet, for people."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from alarm_mw.fleet.link import Clock, Link
from alarm_mw.fleet.messages import Info, in_order
from alarm_mw.fleet.store import Ack, Facts, IncidentFacts
from alarm_mw.model.fleet import (
    FleetBudget,
    FleetIncident,
    FleetMember,
    FleetNotification,
    FleetOverview,
    FleetPlan,
)


class _Machine(msgspec.Struct):
    """What a machine says of itself."""

    labels: dict[str, str] = {}
    version: str = ""
    rules: str = ""
    lag: float = 0.0
    program: str = ""


class _Alarm(msgspec.Struct):
    """The state of an alarm about an incident, as the functions keep it."""

    o: str = ""
    told: float | None = None
    by: str = ""
    #: The episode that it was notified of.
    te: int = 0


def overview_of(plan: FleetPlan, link: Link, facts: Facts | None, counters: Mapping[str, int]) -> FleetOverview:
    """Return what is known of the fleet; without facts, only what this member knows itself."""
    about = FleetOverview(
        plan.name, plan.machine, link.state, link.error or link.warning, link.lag, counters=dict(counters)
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
            FleetMember(machine, state, seconds, said.labels, said.version, said.rules, said.lag, said.program)
        )
    return tuple(found)


def _incidents(facts: Facts, clock: Clock) -> tuple[FleetIncident, ...]:
    return tuple(
        _incident(key, found, clock) for key, found in facts.incidents.items() if found.fields.get("open") == b"1"
    )


def _incident(key: str, found: IncidentFacts, clock: Clock) -> FleetIncident:
    fields = found.fields
    said = msgspec.json.decode(fields.get("info", b"{}"), type=Info)
    episode = int(fields.get("ep", b"0"))
    alarms = {
        name.removeprefix("a:"): _notification(msgspec.json.decode(value, type=_Alarm), episode, clock)
        for name, value in fields.items()
        if name.startswith("a:")
    }
    ack = msgspec.json.decode(fields["ack"], type=Ack).by if "ack" in fields else ""
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
        acknowledged_by=ack,
    )


def _notification(alarm: _Alarm, episode: int, clock: Clock) -> FleetNotification:
    if alarm.told is None or alarm.te != episode:
        return FleetNotification(alarm.o)
    return FleetNotification(alarm.o, clock.wall(alarm.told), alarm.by)


def _budgets(plan: FleetPlan, facts: Facts) -> tuple[FleetBudget, ...]:
    found = []
    for alarm, times in facts.budgets.items():
        rate = plan.alarm_rate if not alarm else plan.alarms[alarm].rate
        if rate is not None:
            found.append(FleetBudget(alarm, min(len(times), rate[0]), rate[0], rate[1]))
    return tuple(found)
