"""``alarm-mw dead``: dead letters are looked at, put back, dropped."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click
import msgspec

from alarm_mw.cli.asking import Command, placed
from alarm_mw.cli.dead_desk import Desk, DeskError, desk, desks
from alarm_mw.cli.dead_tables import show_letter, show_letters
from alarm_mw.delivery.dead_letters import Answer, Order

#: The exit status when there is no such server or outbox.
NO_OUTBOX = 1

#: The exit status when something could not be done to some letter.
REFUSED = 3


def _choosing(command: Command) -> Command:
    """Add what says which letters are meant."""
    ids = click.argument("ids", nargs=-1, type=int)
    every = click.option("--all", "is_all", is_flag=True, help="All of them.")
    return ids(every(_filtered(command)))


def _filtered(command: Command) -> Command:
    alarms = click.option("--alarm", "alarms", multiple=True, help="Only those of this alarm; may be repeated.")
    waiting = click.option("--waiting", is_flag=True, help="Also what waits and nobody delivers.")
    return alarms(waiting(command))


@click.group()
def dead() -> None:
    """Look at dead letters, put them back to be delivered, or drop them.

    Works with a running server, and on the state directory of one that does not run. Needs neither --state-dir nor
    --socket where there is only one. Exit status 1 when there is none, 3 when something was refused.
    """


@dead.command("list")
@_filtered
@placed
@click.option("--limit", type=click.IntRange(min=1), default=1000, help="The newest so many. [default: 1000]")
@click.option("--all-servers", is_flag=True, help="Those of all servers with a default state directory.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(  # noqa: PLR0917  # the command line's options
    alarms: tuple[str, ...],
    waiting: bool,
    state_dir: str | None,
    socket_path: str | None,
    limit: int,
    all_servers: bool,
    as_json: bool,
) -> None:
    """Show dead letters, the newest last.

    With --waiting also what waits and nobody delivers: for an alarm that is configured no more, or in the state
    directory of a server that does not run.
    """
    order = Order(verb="list", alarms=alarms, waiting=waiting, limit=limit)
    if all_servers:
        _list_all(order, as_json=as_json)
        return
    answer = _ask(_desk(state_dir, socket_path), order)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(answer), indent=2))
    else:
        show_letters(answer)
    _end(answer)


def _list_all(order: Order, *, as_json: bool) -> None:
    """Show those of all servers; of one that cannot be asked it is said, and the others are shown."""
    answers: dict[str, Answer] = {}
    errors = []
    for each in desks(os.environ):
        try:
            answers[str(each.place)] = each.carry_out(order)
        except DeskError as error:
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
        click.echo(f"no letters; {len(answers)} state director{'y was' if len(answers) == 1 else 'ies were'} looked at")


@dead.command()
@click.argument("number", metavar="ID", type=int)
@placed
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(number: int, state_dir: str | None, socket_path: str | None, as_json: bool) -> None:
    """Show one letter whole."""
    answer = _ask(_desk(state_dir, socket_path), Order(verb="list", ids=(number,)))
    for letter in answer.letters:
        if as_json:
            click.echo(json.dumps(msgspec.to_builtins(letter), indent=2))
        else:
            show_letter(letter)
    _end(answer)


@dead.command()
@_choosing
@click.option("--as", "to", metavar="ALARM", default="", help="Let this alarm deliver them, in place of their own.")
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
    """Put letters back to be delivered: at once by a running server, else at its next start.

    Their time for retries begins anew. A running server also tries at once what else waits for the alarms that deliver
    them, whatever the receiver has asked for.
    """
    order = _order("retry", ids, alarms, is_all=is_all, waiting=waiting, to=to)
    answer = _ask(_desk(state_dir, socket_path), order)
    n = answer.retried_now
    click.echo(f"{answer.count} put back" + (f"; {n} that wait{'s is' if n == 1 else ' are'} tried now" if n else ""))
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
    """Throw letters away for good."""
    answer = _ask(_desk(state_dir, socket_path), _order("drop", ids, alarms, is_all=is_all, waiting=waiting))
    click.echo(f"{answer.count} dropped")
    _end(answer)


def _order(
    verb: str, ids: tuple[int, ...], alarms: tuple[str, ...], *, is_all: bool, waiting: bool, to: str = ""
) -> Order:
    if not (ids or alarms or is_all):
        raise click.UsageError("no letters are named: give their IDs, --alarm, or --all")
    if ids and is_all:
        raise click.UsageError("both IDs and --all, expected one of them")
    return msgspec.convert({"verb": verb, "ids": ids, "alarms": alarms, "waiting": waiting, "to": to}, Order)


def _desk(state_dir: str | None, socket_path: str | None) -> Desk:
    try:
        return desk(Path(state_dir) if state_dir else None, socket_path, os.environ)
    except DeskError as error:
        click.echo(f"alarm-mw: {error}", err=True)
        sys.exit(NO_OUTBOX)


def _ask(chosen: Desk, order: Order) -> Answer:
    try:
        return chosen.carry_out(order)
    except DeskError as error:
        click.echo(f"alarm-mw: {error}", err=True)
        sys.exit(NO_OUTBOX)


def _end(answer: Answer) -> None:
    for sentence in answer.refused:
        click.echo(f"alarm-mw: {sentence}", err=True)
    sys.exit(REFUSED if answer.refused else 0)
