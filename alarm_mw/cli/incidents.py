"""``alarm-mw incidents``, ``ack``, ``unack``, ``resolve`` and ``history``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import click
import msgspec

from alarm_mw.cli.servers import ask_api, find, needing_answers, placed
from alarm_mw.cli.silence import duration
from alarm_mw.engine.flood_control.limits import span
from alarm_mw.model.printable import printable
from alarm_mw.texts.severities import urgency, word_of
from alarm_mw.transports.control import read_patiently

#: The exit status for an incident that is not open, or not clear.
UNKNOWN = 2

#: Digits of an id; fewer are its beginning.
ID_LENGTH = 10

#: What history shows of messages, whose states are added while they have not been delivered.
MESSAGES = frozenset({"firing", "reminder", "escalated", "flapping"})

#: The state of a firing that another machine of the fleet has sent.
FLEET = "fleet"

#: How many incidents are named whose ids begin with the same digits.
MOST_NAMED = 10


@click.command()
@click.option("--all", "is_all", is_flag=True, help="Also those that are pending or resolved.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
@placed
def incidents(is_all: bool, as_json: bool, state_dir: str | None, socket_path: str | None) -> None:
    """Show the incidents of a running server that are firing.

    The worst come first; within a severity those that nobody has acknowledged, then the oldest. A message that is not
    delivered is shown with its state, such as "mail=firing (waiting)". While no message about an incident is
    delivered, it says "nobody reached yet". Counts are at most a second old. Exit status 1 if no server answers.
    """
    url = f"/incidents?all={int(is_all)}"
    if as_json:
        with needing_answers():
            # There may be 100,000.
            click.echo(msgspec.json.format(read_patiently(find(state_dir, socket_path), url), indent=2))
        return
    found = ask_api(state_dir, socket_path, url)
    for each in sorted(found, key=_urgency):
        click.echo("\n".join(map(printable, _lines(each))))
    if not found:
        click.echo("no incidents")


def _urgency(incident: dict[str, Any]) -> tuple[bool, int, bool, float]:
    """Return the order of the page and of `alarm-mw top`; what is not firing comes behind."""
    is_over = incident["state"] != "firing"
    return is_over, *urgency(incident["severity"], incident["acknowledged_by"], incident["started"])


def _lines(incident: dict[str, Any]) -> Iterator[str]:
    """Yield what has happened, and below it how it stands and who knows."""
    key = ",".join(f"{name}={value}" for name, value in incident["key"].items())
    lasted = span(max((incident["ended"] or time.time()) - incident["started"], 0.0))
    matches = f"{incident['count']} match{'' if incident['count'] == 1 else 'es'}"
    by = f"acknowledged by {incident['acknowledged_by']}" if incident["acknowledged_by"] else ""
    others = [mark for mark in incident["marks"] if mark != "acknowledged"]
    unreached = "nobody reached yet" if incident["is_unreached"] else ""
    begin = [incident["id"], word_of(incident["severity"]).upper(), incident["rule"], key]
    yield "  ".join(filter(None, [*begin, incident["message"].partition("\n")[0]]))
    parts = [incident["state"], lasted, matches, by, *others, unreached, " ".join(_notifications(incident))]
    yield " " * (ID_LENGTH + 2) + "  ".join(filter(None, parts))


def _notifications(incident: dict[str, Any]) -> Iterator[str]:
    """Yield the last message to each alarm, with its state unless it was delivered; ``mail=firing (waiting)``."""
    for alarm in {**incident["notified"], **incident["delivery"]}:
        status, state = incident["notified"].get(alarm, ""), incident["delivery"].get(alarm, "delivered")
        name = f"{alarm}={status}" if status else alarm  # a fallback has no status of its own
        state = "sent by another machine" if state == FLEET else state
        yield name if state == "delivered" else f"{name} ({state.replace('_', ' ')})"


@click.command()
@click.argument("ids", metavar="ID…", nargs=-1, required=True)
@click.option("--for", "seconds", type=duration, metavar="TIME", help="How long; by default as `[ack] expire` says.")
@click.option("--comment", default="", help="What is shown with the incident.")
@placed
def ack(
    ids: tuple[str, ...], seconds: float | None, comment: str, state_dir: str | None, socket_path: str | None
) -> None:
    """Acknowledge incidents: no reminders and no further steps of an escalation until it expires.

    Messages of that kind that wait for delivery are dropped. The end is reported, and the next episode begins
    unacknowledged. ID is an id or its first digits, as many as no other open incident has. Exit status 1 if no server
    answers, 2 if an incident is not open.
    """
    for_seconds = {} if seconds is None else {"seconds": seconds}
    _order("ack", ids, {"comment": comment, **for_seconds}, state_dir, socket_path)


@click.command()
@click.argument("ids", metavar="ID…", nargs=-1, required=True)
@placed
def unack(ids: tuple[str, ...], state_dir: str | None, socket_path: str | None) -> None:
    """Take back an acknowledgement.

    ID is an id or its first digits, as many as no other open incident has. Exit status 1 if no server answers, 2 if an
    incident is not open.
    """
    _order("unack", ids, {}, state_dir, socket_path)


@click.command()
@click.argument("ids", metavar="ID…", nargs=-1, required=True)
@placed
def resolve(ids: tuple[str, ...], state_dir: str | None, socket_path: str | None) -> None:
    """Resolve incidents by hand.

    ID is an id or its first digits, as many as no other open incident has. Exit status 1 if no server answers, 2 if an
    incident is not open.
    """
    _order("resolve", ids, {}, state_dir, socket_path)


@click.command()
@click.option("--since", type=duration, metavar="TIME", help="Only the last 10m, 2h, 1d … [default: all]")
@click.option("--fleet", "is_fleet", is_flag=True, help="Also of incidents that only other machines of the fleet had.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
@placed
def history(since: float | None, is_fleet: bool, as_json: bool, state_dir: str | None, socket_path: str | None) -> None:
    """Show what happened to incidents: beginnings, messages, acknowledgements, ends.

    A message about an incident that is firing is shown with its state while it is not delivered, such as
    "firing  mail (waiting)"; "nobody reached yet" is added while no other alarm has reported the incident either.

    Exit status 1 if no server answers, or if the fleet cannot be asked.
    """
    begin = 0.0 if since is None else time.time() - since
    found = ask_api(state_dir, socket_path, f"/api/1/history?since={begin}&fleet={int(is_fleet)}")
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    firing = {each["id"]: each for each in ask_api(state_dir, socket_path, "/incidents?all=0")} if found else {}
    for each in found:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each["time"]))
        key = ",".join(f"{name}={value}" for name, value in each["key"].items())
        state = _state_of(each, firing.get(each["incident"]))
        by = f"by {each['machine']}" if each["machine"] else ""
        parts = [at, each["incident"], each["rule"], key, each["kind"], f"{each['text']}{state}", by]
        click.echo(printable("  ".join(filter(None, parts))))


def _state_of(event: dict[str, Any], incident: dict[str, Any] | None) -> str:
    """Return the state of the message that an event is about, while it is not delivered, and whether nobody knows."""
    if incident is None or event["kind"] not in MESSAGES or event["episode"] != incident["episode"]:
        return ""
    state = incident["delivery"].get(event["text"], "delivered")
    unreached = ", nobody reached yet" if incident["is_unreached"] else ""
    return "" if state in {"delivered", FLEET} else f" ({state.replace('_', ' ')}{unreached})"


def _order(
    verb: str, ids: tuple[str, ...], others: dict[str, object], state_dir: str | None, socket_path: str | None
) -> None:
    whole = _whole(ids, state_dir, socket_path)
    answer = ask_api(state_dir, socket_path, f"/api/1/incidents/{verb}", {"ids": whole, **others})
    for name in answer["done"]:
        click.echo(f"{name}: {_DONE[verb]}")
    for name in answer["unknown"]:
        click.echo(f"alarm-mw: {name}: no such incident is open", err=True)
    sys.exit(UNKNOWN if answer["unknown"] else 0)


def _whole(ids: tuple[str, ...], state_dir: str | None, socket_path: str | None) -> list[str]:
    """Return the ids that begin with these digits; exit where one begins those of several open incidents."""
    if all(len(name) == ID_LENGTH for name in ids):
        return list(dict.fromkeys(ids))
    known = {each["id"]: each for each in ask_api(state_dir, socket_path, "/incidents?all=0")}
    found = {name: [name] if name in known else _beginning(name, known) for name in ids}
    several = {name: those for name, those in found.items() if len(those) > 1}
    for name, those in several.items():
        click.echo(f"alarm-mw: {printable(name)!r} begins the ids of {len(those)} open incidents:", err=True)
        for each in those[:MOST_NAMED]:
            line = "  ".join([each, known[each]["rule"], known[each]["message"]])
            click.echo(f"  {printable(line)}", err=True)
        if len(those) > MOST_NAMED:
            click.echo(f"  and {len(those) - MOST_NAMED} more", err=True)
    if several:
        sys.exit(UNKNOWN)
    return list(dict.fromkeys(next(iter(those), name) for name, those in found.items()))


def _beginning(digits: str, ids: Iterable[str]) -> list[str]:
    return [each for each in ids if digits and each.startswith(digits.lower())]


_DONE = {"ack": "acknowledged", "unack": "not acknowledged any more", "resolve": "resolved"}
