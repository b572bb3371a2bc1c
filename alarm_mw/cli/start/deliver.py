"""``alarm-mw deliver``: delivers what programs that have ended have left."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from alarm_mw.app.launch.one_off import Delivered, to_deliver
from alarm_mw.app.launch.one_off import deliver as deliver_left
from alarm_mw.app.launch.state import state_home
from alarm_mw.cli.options import ConfiguredCommand, complain, config_options, read_wait, settings_or_exit, sources
from alarm_mw.supervisor.supervisor import UNDELIVERED
from alarm_mw.system.log_lines import start_logging

#: Seconds for the delivery of each outbox.
WAIT = 60.0


@click.command(cls=ConfiguredCommand)
@config_options
@click.option(
    "--state-dir",
    "state_dirs",
    type=click.Path(file_okay=False, exists=True),
    multiple=True,
    help="State directory of a program that has ended. Repeatable. [default: all in the XDG state directory]",
)
@click.option("--name", default="", help="Name that was given to `run`.")
@click.option(
    "--wait", metavar="TIME", callback=read_wait, help="Deliver for up to this time, such as 60s. [default: 60s]"
)
@click.option("--strict", "is_strict", is_flag=True, help="Exit with status 75 if something still waits.")
@click.option("--quiet", "-q", is_flag=True, help="Print only what cannot be delivered.")
def deliver(  # noqa: PLR0917  # the command line's options
    toml_files: tuple[str, ...],
    ini_files: tuple[str, ...],
    state_dirs: tuple[str, ...],
    name: str,
    wait: float | None,
    is_strict: bool,
    quiet: bool,
) -> None:
    """Deliver the alarms that programs under `alarm-mw run` and `alarm-mw cron` have left when they ended.

    By default they are delivered as the configuration says with which each program was started. A program that is
    running delivers its own. Jobs of `alarm-mw cron` that did not start in time are reported. For a timer or a crontab.
    """
    start_logging("ERROR")
    given = sources(toml_files, ini_files)
    settings = settings_or_exit(given) if toml_files or ini_files or given.flags else None
    folders = [Path(each).absolute() for each in state_dirs] + ([state_home(os.environ) / name] if name else [])
    if not folders:
        folders = [*to_deliver(os.environ)]
    left = 0
    for folder in folders:
        found = deliver_left(folder, os.environ, WAIT if wait is None else wait, settings)
        left += found.left
        _report(folder, found, is_quiet=quiet)
    sys.exit(UNDELIVERED if is_strict and left else 0)


def _report(folder: Path, found: Delivered, *, is_quiet: bool) -> None:
    complain(found.problems)
    if found.left:
        why = "" if found.problems else "; `alarm-mw dead` lists them, and what went wrong"
        click.echo(f"{folder}: {found.delivered} delivered, {found.left} still wait{why}", err=True)
    elif found.delivered and not is_quiet:
        click.echo(f"{folder}: {found.delivered} delivered")
