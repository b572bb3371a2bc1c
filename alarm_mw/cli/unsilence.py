"""``alarm-mw unsilence``: ends what ``alarm-mw silence`` began."""

from __future__ import annotations

import click

from alarm_mw.cli.asking import placed
from alarm_mw.cli.silence import order


@click.command()
@click.argument("alarm", required=False)
@click.option("--all", "is_all", is_flag=True, help="All alarms of the server.")
@placed
def unsilence(alarm: str | None, is_all: bool, state_dir: str | None, socket_path: str | None) -> None:
    """End the silence of an alarm of a running server.

    What it has held back is told at once. Prints what is silenced still, and until when. Exit status 1 when no server
    answers, 2 for an alarm that is not configured.
    """
    if alarm is None and not is_all:
        raise click.UsageError("which alarm's silence is to end? Name it, or give --all")
    order(alarm, 0.0, "", state_dir, socket_path, is_all=is_all)
