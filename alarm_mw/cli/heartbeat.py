"""``alarm-mw heartbeat``: sends a sign of life, as from cron."""

from __future__ import annotations

import sys
import urllib.parse

import click

from alarm_mw.cli.servers import find, needing_answers, placed
from alarm_mw.cli.silence import duration
from alarm_mw.model.printable import printable
from alarm_mw.transports.control import ask_patiently

#: The exit status for a heartbeat that no monitor expects.
REFUSED = 2


@click.command()
@click.argument("beat", metavar="NAME")
@click.option("--every", type=duration, metavar="TIME", help="When the next one is expected: 10m, 1d …")
@click.option("--grace", type=duration, metavar="TIME", help="How late the next one may be.")
@click.option("--fail", "is_failure", is_flag=True, help="Report a failure: the incident begins at once.")
@click.option("--message", default="", help="With --fail: what has failed.")
@click.option("--last", "is_last", is_flag=True, help="Expect no other heartbeat of this name.")
@placed
def heartbeat(  # noqa: PLR0917  # the command line's options
    beat: str,
    every: float | None,
    grace: float | None,
    is_failure: bool,
    message: str,
    is_last: bool,
    state_dir: str | None,
    socket_path: str | None,
) -> None:
    """Send a heartbeat to the monitor `heartbeat` of a running server, as at the end of a cron job.

    If the next one does not come in time, an incident begins; with the next one, it ends. Options override the times in
    the configuration until the next heartbeat. The exit status is 1 if no server answers, 2 if no monitor expects
    a heartbeat of this name.
    """
    if message and not is_failure:
        raise click.UsageError("--message without --fail")
    asked: dict[str, object] = {"name": beat, "every": every, "grace": grace}
    asked |= {"failed": message if is_failure else None, "last": 1 if is_last else None}
    query = urllib.parse.urlencode({key: value for key, value in asked.items() if value is not None})
    with needing_answers():
        answer = ask_patiently(find(state_dir, socket_path), f"/heartbeat?{query}", method="POST")
    if "error" in answer:
        click.echo(f"alarm-mw: {printable(answer['error'])}", err=True)
        sys.exit(REFUSED)
    if not answer["expected"]:
        click.echo(f"alarm-mw: no monitor 'heartbeat' expects {printable(beat)!r}", err=True)
        sys.exit(REFUSED)
