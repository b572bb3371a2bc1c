"""``alarm-mw run``: runs a server with alarms."""

from __future__ import annotations

import sys

import click

from alarm_mw.app.launch.launch import End, Places, RefusedError, become_supervisor
from alarm_mw.cli.options import BAD_CONFIG, ConfiguredCommand, config_options, loaded_or_exit, read_wait, sources
from alarm_mw.config.tables.texts import SERVER_NAME, is_server_name

#: Printed if no alarm is configured.
NO_ALARM = (
    "alarm-mw: no alarm is configured, the output just passes; configure one, as in "
    "--alarm 'hook curl:https://example.org/' --log-alarm 'hook ^ERROR', or give --config FILE"
)


@click.command(cls=ConfiguredCommand, context_settings={"allow_interspersed_args": False})
@config_options
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False),
    help="Directory of the outbox. [default: one per server in the XDG state directory]",
)
@click.option(
    "--socket",
    "socket_path",
    type=click.Path(dir_okay=False),
    help="Socket for the server's processes. [default: in the state directory]",
)
@click.option("--name", default="", help="Name of the server, in messages and of its state directory.")
@click.option("--buffered", is_flag=True, help="Do not set PYTHONUNBUFFERED for the server.")
@click.option(
    "--wait",
    metavar="TIME",
    callback=read_wait,
    help="When the program has ended, deliver its alarms for up to this time, such as 60s. [default: 5s, without "
    "waiting for another attempt where one has failed]",
)
@click.option(
    "--strict",
    "is_strict",
    is_flag=True,
    help="Do not start if `alarm-mw check` reports a problem, and exit with status 75 if the program has succeeded and "
    "alarms still wait to be delivered.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(  # noqa: PLR0917  # the command line's options
    toml_files: tuple[str, ...],
    ini_files: tuple[str, ...],
    state_dir: str | None,
    socket_path: str | None,
    name: str,
    buffered: bool,
    wait: float | None,
    is_strict: bool,
    command: tuple[str, ...],
) -> None:
    """Run a server whose printed and logged lines can raise alarms.

    \b
    alarm-mw run --alarm "mail cmd:mail -s Alarm me@example.org" \\
                 --log-alarm "mail ^TERRIBLE ALARM" -- gunicorn app:app

    The server's output passes through unchanged, signals are forwarded to it, and its exit status is returned.
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    if name and not is_server_name(name):
        click.echo(f"alarm-mw: --name: {SERVER_NAME}, got {name!r}", err=True)
        sys.exit(BAD_CONFIG)
    loaded = loaded_or_exit(sources(toml_files, ini_files, is_strict=is_strict))
    if not loaded.settings.alarms:
        click.echo(NO_ALARM, err=True)
    try:
        places = Places(state_dir, socket_path, name)
        become_supervisor(loaded, command, places, is_buffered=buffered, end=End(wait, is_strict))
    except RefusedError as error:
        click.echo(f"alarm-mw: {error}", err=True)
        sys.exit(BAD_CONFIG)
