"""``alarm-mw follow``: raises alarms for lines of existing logs."""

from __future__ import annotations

import glob
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from msgspec import structs

from alarm_mw.app.launch.launch import Places, RefusedError, become_supervisor
from alarm_mw.cli.options import BAD_CONFIG, ConfiguredCommand, config_options, loaded_or_exit, sources
from alarm_mw.cli.start.run import NO_ALARM
from alarm_mw.config.tables.texts import SERVER_NAME, is_server_name
from alarm_mw.model.printable import printable

#: The standard input, among the arguments.
STDIN = "-"

#: Is supervised in the place of a server: waits for a signal to end, or passes the standard input on to its end.
WAIT = "import signal; numbers = {1, 2, 15}; signal.pthread_sigmask(0, numbers); signal.sigwait(numbers)"
_COPY = "import shutil, sys; shutil.copyfileobj(open(0, 'rb', 0), open(1, 'wb', 0))"


@click.command(cls=ConfiguredCommand)
@config_options
@click.option("--from-beginning", is_flag=True, help="Also read what a log that was never followed already contains.")
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False),
    help="Directory of the outbox. [default: one for these logs in the XDG state directory]",
)
@click.option("--name", default="", help="Name in messages and of the state directory.")
@click.argument("logs", nargs=-1, metavar="[FILE|GLOB|-|journal:UNIT[,UNIT]]...")
def follow(  # noqa: PLR0917  # the command line's options
    toml_files: tuple[str, ...],
    ini_files: tuple[str, ...],
    from_beginning: bool,
    state_dir: str | None,
    name: str,
    logs: tuple[str, ...],
) -> None:
    """Raise alarms for what is added to existing logs, until it is stopped.

    \b
    alarm-mw follow --config alarm-mw.toml "/var/log/nginx/*.log" journal:postgresql.service

    Quote patterns: they are searched for again and again. "-" is the standard input, which is passed on to the standard
    output. Logs in tables [[follow]] of the configuration are followed as well. Rotated logs are read to their ends.
    Each line is judged once, however often this command is stopped, killed and started again.
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    if name and not is_server_name(name):
        click.echo(f"alarm-mw: --name: {SERVER_NAME}, got {name!r}", err=True)
        sys.exit(BAD_CONFIG)
    files = tuple(log for log in logs if log != STDIN)
    named = structs.replace(sources(toml_files, ini_files), follow=files, follows_from_beginning=from_beginning)
    loaded = loaded_or_exit(named)
    if not loaded.settings.alarms:
        click.echo(NO_ALARM, err=True)
    if not loaded.settings.follow and STDIN not in logs:
        click.echo("alarm-mw: no log to follow: name one, or configure [[follow]]", err=True)
        sys.exit(BAD_CONFIG)
    _look_at_files([path for follow in loaded.settings.follow for path in follow.paths])
    command = [sys.executable, "-I", "-S", "-c", _COPY if STDIN in logs else WAIT, "alarm-mw", "follow"]
    try:
        become_supervisor(loaded, command, Places(state_dir, None, name, identity=("follow", *logs)))
    except RefusedError as error:
        click.echo(f"alarm-mw: {error}", err=True)
        sys.exit(BAD_CONFIG)


def _look_at_files(paths: Sequence[str]) -> None:
    """Exit with 2 for a directory; print one warning for files that are not there."""
    if folders := [path for path in paths if Path(path).is_dir()]:
        for folder in folders:
            remedy = printable(f"{folder.rstrip('/')}/*.log")
            click.echo(f'alarm-mw: follow: {printable(folder)} is a directory; name its files: "{remedy}"', err=True)
        sys.exit(BAD_CONFIG)
    missing = [path for path in paths if next(glob.iglob(path, recursive=True), None) is None]  # noqa: PTH207  # as followed
    if missing:
        names = printable(", ".join(missing))
        click.echo(f"alarm-mw: follow: warning: no such file yet, it is followed once it appears: {names}", err=True)
