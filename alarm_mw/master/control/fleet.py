"""The fleet of a master, as people see it."""

from __future__ import annotations

from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.model.fleet import FleetHistory, FleetMember, FleetOverview, FleetRecord, while_away

#: Seconds for the fleet to answer.
TIMEOUT = 5.0

#: How many machines with other rules are named.
MOST_NAMED = 10


def overview(runtime: Runtime) -> FleetOverview | None:
    """Return what is known of the fleet; None where the master is in none, and where its event loop is blocked.

    May block for `TIMEOUT` seconds; from any thread but the event loop's.
    """
    if runtime.fleet_state() is None:
        return None
    try:
        return runtime.call(runtime.fleet(), TIMEOUT)
    except TimeoutError:
        return None


def history(runtime: Runtime, since: float) -> FleetHistory | None:
    """Return the episodes of the fleet that are open, and those that ended since a time; None without a fleet.

    May block for `TIMEOUT` seconds; from any thread but the event loop's.
    """
    if runtime.fleet_state() is None:
        return None
    try:
        return runtime.call(runtime.fleet_history(since), TIMEOUT)
    except TimeoutError:
        return FleetHistory(error=f"no answer within {TIMEOUT:g} s")


def incident(runtime: Runtime, key: str) -> FleetRecord | None:
    """Return what the fleet knows of an incident; None where it cannot be asked. May block as `history` does."""
    if runtime.fleet_state() is None:
        return None
    try:
        return runtime.call(runtime.fleet_incident(key), TIMEOUT)
    except TimeoutError:
        return None


def faults(found: FleetOverview | None) -> tuple[str, ...]:
    """Return what is wrong with a fleet, a sentence each."""
    if found is None:
        return ()
    if found.state == "away":
        return (f"the fleet {found.name} cannot be reached, {while_away(is_hub=found.is_hub)}: {found.error}",)
    own = next((member for member in found.members if member.machine == found.machine), None)
    others = [each.machine for each in found.members if each.state == "alive" and own and _differs(each, own)]
    shown = ", ".join(others[:MOST_NAMED]) + (", …" if len(others) > MOST_NAMED else "")
    differ = f"machines of the fleet have other rules than {found.machine}: {shown}"
    return (*([found.error] if found.error else []), *([differ] if others else []))


def _differs(member: FleetMember, own: FleetMember) -> bool:
    return member.is_comparable(own) and member.rules_hash != own.rules_hash
