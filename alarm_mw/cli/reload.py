"""``alarm-mw reload``: has a running master read its configuration again."""

from __future__ import annotations

import sys

import click

from alarm_mw.cli.options import BAD_CONFIG
from alarm_mw.cli.servers import find, needing_answers, placed
from alarm_mw.transports.control import ask_patiently

#: Seconds for thousands of rules to be compiled, and for what is under way to be done.
TIMEOUT = 120.0


@click.command()
@placed
def reload(state_dir: str | None, socket_path: str | None) -> None:
    """Have a running server's alarms take up a changed configuration.

    The files and flags that `run` was given are read again, and checked as `alarm-mw check` does. A good
    configuration is in force when this command ends: no line, no firing and no count is lost for it, and the server
    does not notice. A bad one changes nothing.

    Prints what `alarm-mw check` prints, and what needs a restart of the server. Needs no options where only one server
    runs. Exit status 1 when none answers, 2 when the configuration was refused.
    """
    with needing_answers():
        answer = ask_patiently(find(state_dir, socket_path), "/reload", method="POST", timeout=TIMEOUT)
    for line in (*answer["lines"], *answer["notes"]):
        click.echo(line)
    sys.exit(0 if answer["taken"] else BAD_CONFIG)
