"""``alarm-mw fleet``: the machines that share their alarms, what is firing on them, and what is wrong with them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import click
import msgspec

from alarm_mw.cli.console import console, plain_text, table
from alarm_mw.cli.servers import find, needing_answers, placed
from alarm_mw.config.settings import FLEET
from alarm_mw.engine.flood_control.limits import span
from alarm_mw.model.fleet import FleetBudget, FleetIncident, FleetMember, FleetNotification, FleetOverview
from alarm_mw.texts.severities import urgency, word_of
from alarm_mw.transports.control import read_patiently

#: The exit status where the fleet cannot be reached.
AWAY = 3

#: The exit status where the configuration names none.
NO_FLEET = 2

#: How many machines of an incident are named.
MOST_NAMED = 5


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@placed
def fleet(as_json: bool, state_dir: str | None, socket_path: str | None) -> None:
    """Show the machines that share their alarms with a running server, and the incidents that are firing on them.

    Exit status 1 if no server answers, 2 if it is in no fleet, 3 if it cannot reach the fleet.
    """
    with needing_answers():
        answer = read_patiently(find(state_dir, socket_path), "/fleet")
    found = msgspec.json.decode(answer, type=FleetOverview | None)
    if found is None:
        click.echo("alarm-mw: this server is in no fleet: its configuration has no table [fleet]", err=True)
        sys.exit(NO_FLEET)
    if as_json:
        click.echo(msgspec.json.format(answer, indent=2))
    else:
        _show(found)
    sys.exit(0 if found.state == "connected" else AWAY)


def _show(found: FleetOverview) -> None:
    terminal = console()
    lag = f", {found.lag * 1000:.0f} ms" if found.state == "connected" else ""
    terminal.print(
        plain_text(f"fleet {found.name}: {found.machine} is {found.state}{lag}", style="bold"), soft_wrap=True
    )
    if found.error:
        terminal.print(plain_text(found.error, style="red"), soft_wrap=True)
    own = next((member for member in found.members if member.machine == found.machine), None)
    machines = table("machine", "state", "heard", "lag", "version", "rules", "labels")
    for member in found.members:
        machines.add_row(*(plain_text(cell) for cell in _machine(member, own)))
    if found.members:
        terminal.print(machines)
    for incident in sorted(found.incidents, key=_urgency):
        for line, style in zip(_lines(incident), ("bold", "", ""), strict=True):
            terminal.print(plain_text(line, style=style), soft_wrap=True)
    if not found.incidents and found.state == "connected":
        terminal.print("no incidents")
    for budget in found.budgets:
        terminal.print(plain_text(_budget(budget)), soft_wrap=True)


def _machine(member: FleetMember, own: FleetMember | None) -> Iterator[str]:
    yield member.machine
    yield member.state
    yield f"{span(member.seen)} ago"
    yield f"{member.lag * 1000:.0f} ms"
    yield member.version
    # While a machine restarts with other rules, its alarms may differ.
    if own is None or not member.is_comparable(own):
        yield ""
    else:
        yield "same" if member.rules_hash == own.rules_hash else "differ"
    yield " ".join(f"{name}={value}" for name, value in member.labels.items())


def _severity(incident: FleetIncident) -> str:
    return incident.labels.get("severity", "")


def _urgency(incident: FleetIncident) -> tuple[int, bool, float]:
    return urgency(_severity(incident), incident.acknowledged_by, incident.started)


def _lines(incident: FleetIncident) -> Iterator[str]:
    """Yield what has happened; below it where, how often and for how long; and below that who knows."""
    key = ",".join(f"{name}={value}" for name, value in incident.key.items())
    begin = [incident.id, word_of(_severity(incident)).upper(), incident.rule, key, incident.text.partition("\n")[0]]
    yield "  ".join(filter(None, begin))
    space = " " * (len(incident.id) + 2)
    names = ", ".join(incident.machines[:MOST_NAMED]) + (", …" if incident.machine_count > MOST_NAMED else "")
    # Of a machine that is silent, others report it.
    where = "reported by" if incident.rule == FLEET else "on"
    machines = f"{where} {incident.machine_count} machine{'' if incident.machine_count == 1 else 's'}: {names}"
    matches = "" if incident.rule == FLEET else f"{incident.count:,} match{'' if incident.count == 1 else 'es'}"
    lasted = f"for {span(max(time.time() - incident.started, 0.0))}"
    yield space + "  ".join(filter(None, [machines, matches, lasted]))
    by = f"acknowledged by {incident.acknowledged_by}" if incident.acknowledged_by else "not acknowledged"
    told = "; ".join(_notification(alarm, each) for alarm, each in incident.alarms.items())
    yield space + "  ".join(filter(None, [by, f"notified: {told}" if told else ""]))


def _notification(alarm: str, told: FleetNotification) -> str:
    if told.told_at is not None:
        return f"{alarm} by {told.told_by}"
    return f"{alarm}: {told.owner} is about to" if told.owner else f"{alarm}: not yet"


def _budget(budget: FleetBudget) -> str:
    whose = f"alarm {budget.alarm}" if budget.alarm else "all alarms for humans"
    left = max(budget.limit - budget.used, 0)
    return f"{whose}: {left:,} of {budget.limit:,} messages left in {span(budget.seconds)}"
