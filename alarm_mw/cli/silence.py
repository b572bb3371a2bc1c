"""``alarm-mw silence``: holds an alarm back for a time."""

from __future__ import annotations

import sys
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

import click

from alarm_mw.cli.asking import find, needing_answers, placed
from alarm_mw.engine.flood_control.limits import read_duration
from alarm_mw.model.printable import printable
from alarm_mw.transports.control import ask_patiently

#: The exit status for an alarm that is not configured.
UNKNOWN = 2


def duration(text: str) -> float:
    """Return the seconds of a time such as ``2h``, or of a number of them."""
    try:
        return read_duration(float(text) if text.replace(".", "", 1).isdecimal() else text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("alarm")
@click.option("--for", "seconds", type=duration, required=True, metavar="TIME", help="How long: 90s, 10m, 2h, 1d.")
@click.option("--comment", default="", help="Why, and by whom; `alarm-mw status` shows it.")
@placed
def silence(alarm: str, seconds: float, comment: str, state_dir: str | None, socket_path: str | None) -> None:
    """Hold an alarm of a running server back for a time, as for a deployment.

    Whatever it would have sent is counted, as `silenced`, and told in one message when the time is over. A silence
    outlives the master, and takes the place of one that the alarm has already. Prints what is silenced now, and until
    when. Needs no options where only one server runs. Exit status 1 when none answers, 2 for an alarm that is not
    configured.
    """
    order(alarm, seconds, comment, state_dir, socket_path)


def order(alarm: str, seconds: float, comment: str, state_dir: str | None, socket_path: str | None) -> None:
    """Have a master silence an alarm, or end its silence for 0 seconds, and print what is silenced then.

    Exits where that cannot be had.
    """
    query = urllib.parse.urlencode({"alarm": alarm, "seconds": seconds, "comment": comment})
    with needing_answers():
        answer = ask_patiently(find(state_dir, socket_path), f"/silence?{query}", method="POST")
    if alarm not in answer["alarms"]:
        click.echo(f"alarm-mw: unknown alarm {alarm!r}; there is {', '.join(answer['alarms'])}", err=True)
        sys.exit(UNKNOWN)
    for sentence in told(answer["silences"]) or ["no alarm is silenced"]:
        click.echo(sentence)


def told(silences: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each silence: until when, and what was said about it; nothing that a terminal obeys."""
    return [_shown(alarm, **silence) for alarm, silence in silences.items()]


def _shown(alarm: str, seconds: float, comment: str) -> str:
    end = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() + seconds))
    text = f"alarm {alarm} is silenced until {end}" + (f": {comment}" if comment else "")
    return printable(text.encode("utf-8", "backslashreplace"))
