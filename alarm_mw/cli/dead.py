"""``alarm-mw dead``: lists, retries and drops dead letters, of a running server or in a state directory."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.text import Text

from alarm_mw.app.launch.state import OUTBOX_NAME, StateDir, running, state_dirs
from alarm_mw.cli.console import console as make_console
from alarm_mw.cli.console import plain_text
from alarm_mw.cli.servers import Command, choices, placed
from alarm_mw.delivery.dead_letters import Answer, DeadLetters, Letter, Order
from alarm_mw.delivery.outbox.database import Opened, UnusableError, open_existing
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.delivery.outbox.rescue import open_for_reading
from alarm_mw.model.errors import NotRunningError
from alarm_mw.model.printable import printable_lines
from alarm_mw.transports.control import ask_patiently
from alarm_mw.transports.places import SOCKET_NAME, SOCKET_VARIABLE

#: The exit status if there is no such server or outbox.
NO_OUTBOX = 1

#: How many letters are listed, the newest; and as JSON.
MOST = 50
MOST_AS_JSON = 1000
MOST_AT_ALL = 10_000

#: The exit status if an operation was refused for a letter.
REFUSED = 3


def _choosing(command: Command) -> Command:
    """Add the arguments and options that select letters."""
    ids = click.argument("ids", nargs=-1, type=int)
    every = click.option("--all", "is_all", is_flag=True, help="All letters.")
    return ids(every(_filtered(command)))


def _filtered(command: Command) -> Command:
    alarms = click.option("--alarm", "alarms", multiple=True, help="Only letters of this alarm. Repeatable.")
    waiting = click.option("--waiting", is_flag=True, help="Also waiting firings that no server delivers.")
    return alarms(waiting(command))


@click.group()
def dead() -> None:
    """List, retry, or drop dead letters.

    Works with a running server and with the state directory of a stopped one. --state-dir and --socket are not needed
    if there is only one server. The exit status is 1 if there is none, 3 if an operation was refused.
    """


@dead.command("list")
@_filtered
@placed
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=None,
    help="Show this many, the newest. [default: 50, with --json 1000]",
)
@click.option("--all", "is_all", is_flag=True, help="Show all of them, up to 10,000.")
@click.option("--all-servers", is_flag=True, help="Letters of all servers with a default state directory.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(  # noqa: PLR0917  # the command line's options
    alarms: tuple[str, ...],
    waiting: bool,
    state_dir: str | None,
    socket_path: str | None,
    limit: int | None,
    is_all: bool,
    all_servers: bool,
    as_json: bool,
) -> None:
    """List dead letters, newest last.

    With --waiting, also list waiting firings that no server delivers: those of an alarm that is no longer configured,
    or those in the state directory of a stopped server.
    """
    if limit and is_all:
        raise click.UsageError("both --limit and --all given, expected one of them")
    usual = MOST_AS_JSON if as_json else MOST
    order = Order(verb="list", alarms=alarms, waiting=waiting, limit=MOST_AT_ALL if is_all else limit or usual)
    if all_servers:
        _list_all(order, as_json=as_json)
        return
    answer = _ask(_server_or_exit(state_dir, socket_path), order)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(answer), indent=2))
    else:
        show_letters(answer)
    _end(answer)


def _list_all(order: Order, *, as_json: bool) -> None:
    """List the letters of all servers; report the servers that cannot be asked."""
    answers: dict[str, Answer] = {}
    errors = []
    for each in known_servers(os.environ):
        try:
            answers[str(each.place)] = each.carry_out(order)
        except UnreachableError as error:
            errors.append(f"alarm-mw: {error}")
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(answers), indent=2))
    else:
        _show_all(answers)
    for sentence in errors:
        click.echo(sentence, err=True)
    sys.exit(NO_OUTBOX if errors else 0)


def _show_all(answers: dict[str, Answer]) -> None:
    found = {place: answer for place, answer in answers.items() if answer.count}
    for place, answer in found.items():
        click.echo(f"{place}:")
        show_letters(answer)
    if not found:
        click.echo(f"no letters in {len(answers)} state director{'y' if len(answers) == 1 else 'ies'}")


@dead.command()
@click.argument("number", metavar="ID", type=int)
@placed
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(number: int, state_dir: str | None, socket_path: str | None, as_json: bool) -> None:
    """Show one letter in full."""
    answer = _ask(_server_or_exit(state_dir, socket_path), Order(verb="list", ids=(number,)))
    for letter in answer.letters:
        if as_json:
            click.echo(json.dumps(msgspec.to_builtins(letter), indent=2))
        else:
            show_letter(letter)
    _end(answer)


@dead.command()
@_choosing
@click.option("--as", "to", metavar="ALARM", default="", help="Deliver them by this alarm instead of their own.")
@placed
def retry(  # noqa: PLR0917  # the command line's options
    ids: tuple[int, ...],
    is_all: bool,
    alarms: tuple[str, ...],
    waiting: bool,
    to: str,
    state_dir: str | None,
    socket_path: str | None,
) -> None:
    """Retry letters: immediately if the server is running, else at its next start.

    Their time limit for retries restarts. A running server also immediately retries everything else that waits for the
    same alarms, even if the receiver asked for a pause.
    """
    order = _order("retry", ids, alarms, is_all=is_all, waiting=waiting, to=to)
    answer = _ask(_server_or_exit(state_dir, socket_path), order)
    n = answer.retried_now
    click.echo(
        f"{answer.count} queued for delivery"
        + (f"; {n} waiting firing{' is' if n == 1 else 's are'} tried now" if n else "")
    )
    _end(answer)


@dead.command()
@_choosing
@placed
def drop(  # noqa: PLR0917  # the command line's options
    ids: tuple[int, ...],
    is_all: bool,
    alarms: tuple[str, ...],
    waiting: bool,
    state_dir: str | None,
    socket_path: str | None,
) -> None:
    """Drop letters permanently."""
    answer = _ask(_server_or_exit(state_dir, socket_path), _order("drop", ids, alarms, is_all=is_all, waiting=waiting))
    click.echo(f"{answer.count} dropped")
    _end(answer)


def _order(
    verb: str, ids: tuple[int, ...], alarms: tuple[str, ...], *, is_all: bool, waiting: bool, to: str = ""
) -> Order:
    if not (ids or alarms or is_all):
        raise click.UsageError("no letters selected: give their IDs, --alarm, or --all")
    if ids and is_all:
        raise click.UsageError("both IDs and --all given, expected one of them")
    return msgspec.convert({"verb": verb, "ids": ids, "alarms": alarms, "waiting": waiting, "to": to}, Order)


def _server_or_exit(state_dir: str | None, socket_path: str | None) -> Server:
    try:
        return find_server(Path(state_dir) if state_dir else None, socket_path, os.environ)
    except UnreachableError as error:
        click.echo(f"alarm-mw: {error}", err=True)
        sys.exit(NO_OUTBOX)


def _ask(chosen: Server, order: Order) -> Answer:
    try:
        return chosen.carry_out(order)
    except UnreachableError as error:
        click.echo(f"alarm-mw: {error}", err=True)
        sys.exit(NO_OUTBOX)


def _end(answer: Answer) -> None:
    for sentence in answer.refused:
        click.echo(f"alarm-mw: {sentence}", err=True)
    sys.exit(REFUSED if answer.refused else 0)


#: Bytes of a message or an error that a line of the list shows.
SHOWN = 200


def show_letters(answer: Answer) -> None:
    """Print the letters, each with its message and its error below it, and how many there are."""
    console = make_console()
    width = max((len(str(letter.id)) for letter in answer.letters), default=0)
    for letter in answer.letters:
        attempts = f"{letter.attempts} attempt{'' if letter.attempts == 1 else 's'}"
        facts = [f"{letter.id:<{width}}", letter.alarm, _when(letter), _why(letter), attempts]
        facts += [f"rule {letter.rule}"] if letter.rule else []
        console.print(plain_text("  ".join(facts), style="bold", limit=SHOWN), soft_wrap=True)
        for text in (_first_line(letter.message), plain_text(letter.error, limit=SHOWN)):
            if text.plain:
                console.print(Text(" " * (width + 2)) + text, soft_wrap=True)
    more = answer.count - len(answer.letters)
    letters = "1 letter" if answer.count == 1 else f"{answer.count} letters"
    console.print(letters + (f", {more} older ones are not shown; --all shows them" if more else ""))


def show_letter(letter: Letter) -> None:
    """Print every detail of a letter."""
    facts = {
        "id": str(letter.id),
        "alarm": letter.alarm,
        "state": letter.state,
        "why": _why(letter),
        "attempts": str(letter.attempts),
        "error": letter.error,
        "fired": _time(letter.taken),
        "dead since": _time(letter.died) if letter.died else "",
        "source": letter.source,
        "rule": letter.rule,
        "key": letter.key,
    }
    console = make_console()
    for name, fact in facts.items():
        if fact:
            console.print(Text(f"{name + ':':12}", "bold") + plain_text(fact), soft_wrap=True)
    for line in printable_lines(letter.message.encode("utf-8", "backslashreplace")):
        console.print(Text(f"  {line}"), soft_wrap=True)


def _first_line(message: str) -> Text:
    """Return the first line, and the number of further lines."""
    first, *others = message.removesuffix("\n").split("\n")
    shown = plain_text(first, limit=SHOWN)
    return shown + Text(f" [+{len(others)} line{'' if len(others) == 1 else 's'}]") if others else shown


def _why(letter: Letter) -> str:
    return letter.reason or letter.state


def _when(letter: Letter) -> str:
    return _time(letter.died or letter.taken)


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


class UnreachableError(Exception):
    """No server can be asked, or it cannot answer; the text says why."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server's dead letters, by the server itself or by its state directory."""

    #: A state directory, or a records socket.
    place: Path
    is_socket: bool = False

    def carry_out(self, order: Order) -> Answer:
        """Carry out the order; raise `UnreachableError`. Blocks."""
        if self.is_socket:
            return _online(str(self.place), order)
        if not (self.place / OUTBOX_NAME).exists():
            raise UnreachableError(f"there is no outbox in {self.place}")
        try:
            claimed = StateDir.claim(self.place)
        except OSError as error:
            raise UnreachableError(f"the state directory {self.place} cannot be used: {error.strerror}") from error
        if claimed is None:  # its server runs
            return _online(str(self.place / SOCKET_NAME), order)
        try:
            return _offline(self.place / OUTBOX_NAME, order)
        finally:
            os.close(claimed.lock)


def find_server(state_dir: Path | None, socket: str | None, environ: Mapping[str, str]) -> Server:
    """Return the server that is meant; raise `UnreachableError` unless there is exactly one."""
    if socket or (not state_dir and environ.get(SOCKET_VARIABLE)):
        return Server(Path(socket or environ[SOCKET_VARIABLE]), is_socket=True)
    if state_dir:
        return Server(state_dir)
    found = [Server(path.parent) for path in running(environ)] or known_servers(environ)
    if not found:
        raise UnreachableError("no server has a default state directory here; give --state-dir")
    if len(found) > 1:
        raise UnreachableError(f"there are several servers, give one of{choices(each.place for each in found)}")
    return found[0]


def known_servers(environ: Mapping[str, str]) -> list[Server]:
    """Return the servers of all default state directories."""
    return [Server(path) for path in state_dirs(environ)]


def _online(socket: str, order: Order) -> Answer:
    try:
        return carry_out(socket, order)
    except (NotRunningError, msgspec.ValidationError) as error:
        raise UnreachableError(str(error)) from error


def carry_out(socket: str, order: Order) -> Answer:
    """Have a running master carry out an order; raise `NotRunningError` and `msgspec.ValidationError`."""
    if order.verb == "list":
        asked = {"id": order.ids, "alarm": order.alarms, "waiting": int(order.waiting), "limit": order.limit}
        answer: Any = ask_patiently(socket, f"/api/1/letters?{urllib.parse.urlencode(asked, doseq=True)}")
    else:
        meant = {"ids": order.ids, "alarms": order.alarms, "all": not (order.ids or order.alarms)}
        body = msgspec.json.encode({**meant, "waiting": order.waiting, **({"to": order.to} if order.to else {})})
        answer = ask_patiently(socket, f"/api/1/letters/{order.verb}", method="POST", body=body)
    return Answer(refused=(answer["error"],)) if "error" in answer else msgspec.convert(answer, Answer)


def _offline(path: Path, order: Order) -> Answer:
    try:
        with contextlib.closing(Outbox(path, opened=_opened(path, order))) as outbox:
            return DeadLetters(outbox, is_running=False).carry_out(order)
    except (UnusableError, sqlite3.Error) as error:
        raise UnreachableError(str(error)) from error


def _opened(path: Path, order: Order) -> Opened:
    try:
        return open_existing(path)
    except UnusableError:
        if order.verb != "list" or not path.exists():
            raise
        return open_for_reading(path)  # a list needs no space on the disk
