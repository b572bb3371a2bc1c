"""``alarm-mw reload``: reloads the configuration of a running server."""

from __future__ import annotations

import sys

import click

from alarm_mw.cli.options import BAD_CONFIG
from alarm_mw.cli.servers import find, needing_answers, placed
from alarm_mw.transports.control import ask_patiently

#: Seconds in which thousands of rules are compiled and the current work is finished.
TIMEOUT = 120.0


@click.command()
@placed
def reload(state_dir: str | None, socket_path: str | None) -> None:
    """Reload the configuration of a running server's alarms.

    The files and flags that were given to `run` are read and checked again. A valid configuration is in force when this
    command returns; no line, firing or count is lost, and the server does not notice. An invalid one changes nothing.

    Prints what `alarm-mw check` prints, and what needs a restart of the server. No options are needed if only one
    server is running. The exit status is 1 if no server answers, 2 if the configuration was refused.
    """
    with needing_answers():
        answer = ask_patiently(find(state_dir, socket_path), "/reload", method="POST", timeout=TIMEOUT)
    for line in (*answer["lines"], *answer["notes"]):
        click.echo(line)
    sys.exit(0 if answer["taken"] else BAD_CONFIG)
