"""``alarm-mw status``: shows the ledger of a running master."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import click
from rich.table import Table

from alarm_mw.app.launch.state import running
from alarm_mw.cli.console import console as make_console
from alarm_mw.cli.console import plain_text
from alarm_mw.cli.console import table as make_table
from alarm_mw.cli.followed import describe_followed
from alarm_mw.cli.servers import all_running, find, needing_answers, placed
from alarm_mw.cli.top.masters import Masters
from alarm_mw.cli.top.now import Server, verdict
from alarm_mw.model.fleet import while_away
from alarm_mw.transports.control import ask_patiently, read_patiently
from alarm_mw.transports.places import SOCKET_VARIABLE

if TYPE_CHECKING:
    from alarm_mw.master.control.status import Status

#: The exit status if the ledger does not balance.
IMBALANCE = 3

SOURCE_COLUMNS = ("lines", "screened_out", "matched", "skipped")
#: Shown below the tables if they are not zero.
RARE_COLUMNS = ("oversized", "lost_bytes", "digests", "taken_over", "handed_over", "delivered_again", "deferred")
ALARM_COLUMNS = ("matched", "fired", "held_back", "delivered", "waiting", "dead", "dropped")

#: Maximum number of alarms listed for which nothing has matched.
MOST_UNMATCHED = 20


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--prometheus", "as_prometheus", is_flag=True, help="In Prometheus' format, for a textfile collector.")
@click.option("--all", "is_all", is_flag=True, help="All running servers with a default state directory.")
@placed
def status(as_json: bool, as_prometheus: bool, is_all: bool, state_dir: str | None, socket_path: str | None) -> None:
    """Show the ledger of a running server: what happened to every line and every alarm.

    No options are needed if only one server is running; of several, their names and a summary of each are shown. The
    exit status is 1 if no server answers, 3 if the ledger does not balance.
    """
    if is_all:
        _show_all(as_json=as_json, as_prometheus=as_prometheus)
    if not (as_json or as_prometheus or state_dir or socket_path or os.environ.get(SOCKET_VARIABLE)):
        sockets = [str(path) for path in running(os.environ)]
        if len(sockets) > 1:
            _show_names(sockets)
    with needing_answers():
        socket_file = find(state_dir, socket_path)
        if as_prometheus:
            click.echo(read_patiently(socket_file, "/metrics"), nl=False)
            return
        answer = ask_patiently(socket_file, "/status")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        _show(answer)
    sys.exit(IMBALANCE if answer["imbalances"] else 0)


def _show_names(sockets: list[str]) -> NoReturn:
    """Show how each of several servers is, in a line, and exit."""
    console = make_console()
    servers = Masters(lambda: sockets).look()
    table = make_table("name", "state")
    for server in servers:
        table.add_row(plain_text(server.name), plain_text(server.error or verdict([server])))
    console.print(table)
    hint = f"`alarm-mw status --name {servers[0].name}` shows more of one, --all of all"
    console.print(plain_text(hint), soft_wrap=True)
    sys.exit(IMBALANCE if any(server.status and server.status["imbalances"] for server in servers) else 0)


def _show_all(*, as_json: bool, as_prometheus: bool) -> NoReturn:
    """Show all servers, one after the other or as one array, and exit."""
    if as_prometheus:
        raise click.UsageError("--all and --prometheus cannot be combined: the names of the metrics would be the same")
    with needing_answers():
        answers = [ask_patiently(socket_file, "/status") for socket_file in all_running()]
    if as_json:
        click.echo(json.dumps(answers, indent=2))
    else:
        for number, answer in enumerate(answers):
            click.echo("\n" * bool(number), nl=False)
            _show(answer)
    sys.exit(IMBALANCE if any(answer["imbalances"] for answer in answers) else 0)


def _show(answer: dict[str, Any]) -> None:
    console = make_console()
    name = f"{answer['name']}: " if answer.get("name") else ""
    words = verdict([Server("", "", cast("Status", answer))])
    console.print(plain_text(f"{name}{words}", style="bold"), soft_wrap=True)
    replaced = _replaced(answer["masters_replaced"])
    console.print(plain_text(f"master {answer['pid']}, server {answer['server_pid']}{replaced}"), soft_wrap=True)
    console.print(plain_text(f"state in {answer['state_dir']}"), soft_wrap=True)
    console.print(plain_text(_configuration(answer["configuration"])), soft_wrap=True)
    for line in _refused(answer["configuration"]["refused"]):
        console.print(plain_text(line, style="yellow"), soft_wrap=True)
    if fleet := answer.get("fleet"):
        style = "" if fleet["state"] == "connected" and not fleet["error"] else "yellow"
        console.print(plain_text(_fleet(fleet), style=style), soft_wrap=True)
    console.print(_table("source", SOURCE_COLUMNS, answer["sources"]))
    console.print(_table("alarm", ALARM_COLUMNS, answer["alarms"]))
    for sentence in (*_details("source", answer["sources"]), *_details("alarm", answer["alarms"])):
        console.print(plain_text(sentence), soft_wrap=True)
    if answer["unmatched"]:
        console.print(plain_text(_unmatched(answer["unmatched"])), soft_wrap=True)
    for alarm, failing in answer["failing"].items():
        console.print(plain_text(_failing(alarm, failing), style="yellow"), soft_wrap=True)
    for alarm, since in answer["long_since"].items():
        console.print(plain_text(_running(alarm, since), style="yellow"), soft_wrap=True)
    if n := answer["letters"]:
        console.print(plain_text(f"{n} dead letter{'' if n == 1 else 's'}, see `alarm-mw dead`", style="yellow"))
    silences = (_silenced(what, **silence) for what, silence in answer["silences"].items())
    for sentence in (*describe_followed(answer["followed"]), *silences):
        console.print(plain_text(sentence), soft_wrap=True)
    for sentence in (*answer["imbalances"], *answer["findings"]):
        console.print(plain_text(sentence, style="red"), soft_wrap=True)


def _fleet(fleet: dict[str, Any]) -> str:
    """Return a sentence about the fleet of the server."""
    why = f": {fleet['error'].rstrip('.')}" if fleet["error"] else ""
    alone = f", {while_away(is_hub=fleet.get('is_hub', False))}" if fleet["state"] == "away" else ""
    return f"fleet {fleet['name']}: {fleet['machine']} is {fleet['state']}{alone}{why}; see `alarm-mw fleet`"


def _silenced(what: str, seconds: float, comment: str, author: str = "", **_: str) -> str:
    """Return a sentence about a silence of an alarm, or of what matchers select."""
    end = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() + seconds))
    name = what if "=" in what else f"alarm {what}"
    by = f" by {author}" if author else ""
    return f"{name} is silenced until {end}{by}" + (f": {comment}" if comment else "")


def _replaced(n: int) -> str:
    return f"; {n} earlier master{' was' if n == 1 else 's were'} replaced, see the log" if n else ""


def _refused(lines: list[str]) -> list[str]:
    """Return why the configuration that was read last is not in force."""
    return ["a later configuration was refused:", *(f"  {line}" for line in lines)] if lines else []


def _unmatched(alarms: list[str]) -> str:
    more = f" and {len(alarms) - MOST_UNMATCHED} more" if len(alarms) > MOST_UNMATCHED else ""
    return f"nothing has matched yet for {', '.join(alarms[:MOST_UNMATCHED])}{more}"


def _configuration(in_force: dict[str, Any]) -> str:
    n = in_force["generation"]
    again = f", reloaded {n} time{'' if n == 1 else 's'}" if n else ""
    files = ", ".join(
        _near(file) + ("" if is_same else " (changed since: `alarm-mw reload`)")
        for file, is_same in in_force["files"].items()
    )
    read_at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(in_force["read_at"]))
    return f"configuration of {read_at}{again}" + (f": {files}" if files else "")


def _near(file: str) -> str:
    """Return a path relative to the working directory, if it is below it."""
    with contextlib.suppress(OSError, ValueError):  # the directory is gone; the file is not below it
        return str(Path(file).relative_to(Path.cwd()))
    return file


def _failing(alarm: str, failing: dict[str, Any]) -> str:
    since, next_at = (datetime.fromtimestamp(failing[at], UTC).astimezone() for at in ("since", "next_at"))
    pace = ", tried with one firing at a time" if failing["is_open"] else ""
    if failing["next_at"] > time.time():  # otherwise the attempt is under way
        pace += f", next at {next_at:%H:%M:%S}"
    n = failing["failures"]
    times = f"{n} failed attempt{'' if n == 1 else 's'} since {since:%Y-%m-%d %H:%M:%S}"
    return f"alarm {alarm}: {times}{pace}: {failing['error']}"


def _running(alarm: str, since: float) -> str:
    began = datetime.fromtimestamp(since, UTC).astimezone()
    return f"alarm {alarm}: an attempt has been running for {time.time() - since:.0f} s, since {began:%H:%M:%S}"


def _table(name: str, columns: tuple[str, ...], rows: dict[str, dict[str, Any]]) -> Table:
    """Return the table of totals, which fits into a terminal of 80 columns."""
    table = make_table(name, *(column.replace("_", " ") for column in columns))
    for column in table.columns[1:]:
        column.no_wrap = True
    for row_name, row in rows.items():
        table.add_row(plain_text(row_name), *(str(_total(row[column])) for column in columns))
    return table


def _total(value: int | dict[str, int]) -> int:
    return sum(value.values()) if isinstance(value, dict) else value


def _details(name: str, rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield a sentence for each row that has reasons or rare counts."""
    for row_name, row in rows.items():
        reasons = {column: value for column, value in row.items() if isinstance(value, dict) and value}
        parts = [f"{column.replace('_', ' ')}: {_reasons(value)}" for column, value in reasons.items()]
        parts += [f"{column.replace('_', ' ')}: {row[column]}" for column in RARE_COLUMNS if row.get(column)]
        if row.get("retried"):  # the outcome of the retry is counted as well
            parts.append(f"dead letters that were retried since: {row['retried']}")
        if parts:
            yield f"{name} {row_name}: {'; '.join(parts)}"


def _reasons(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in counts.items())
