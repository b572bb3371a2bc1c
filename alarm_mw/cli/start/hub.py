"""``alarm-mw hub``: delivers what the machines of a fleet leave to it."""

from __future__ import annotations

import sys

import click

from alarm_mw.app.launch.launch import Places, RefusedError, become_supervisor
from alarm_mw.cli.options import BAD_CONFIG, ConfiguredCommand, config_options_without_server, loaded_or_exit, sources
from alarm_mw.cli.start.follow import WAIT
from alarm_mw.config.tables.texts import SERVER_NAME, is_server_name


@click.command(cls=ConfiguredCommand)
@config_options_without_server
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False),
    help="Directory of the outbox. [default: one for the hub in the XDG state directory]",
)
@click.option("--name", default="", help="Name in messages and of the state directory.")
def hub(toml_files: tuple[str, ...], ini_files: tuple[str, ...], state_dir: str | None, name: str) -> None:
    """Run a master without a server, until it is stopped: it delivers what the machines of a fleet leave to it.

    Alarms of the machines with the action "hub" are delivered by the hub's alarms of the same names, so that only the
    hub knows secrets and has to reach the receivers. Its configuration says hub = true in [fleet]. The page, silent
    machines and follow tables work as in any master.
    """
    if name and not is_server_name(name):
        click.echo(f"alarm-mw: --name: {SERVER_NAME}, got {name!r}", err=True)
        sys.exit(BAD_CONFIG)
    loaded = loaded_or_exit(sources(toml_files, ini_files))
    if loaded.settings.fleet is None or not loaded.settings.fleet.hub:
        click.echo("alarm-mw: the configuration of a hub needs a table [fleet] with hub = true", err=True)
        sys.exit(BAD_CONFIG)
    try:
        become_supervisor(
            loaded, [sys.executable, "-I", "-S", "-c", WAIT, "alarm-mw", "hub"], Places(state_dir, None, name, ("hub",))
        )
    except RefusedError as error:
        click.echo(f"alarm-mw: {error}", err=True)
        sys.exit(BAD_CONFIG)
