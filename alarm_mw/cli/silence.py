"""``alarm-mw silence`` and ``alarm-mw unsilence``: hold an alarm back for a time, and end that."""

from __future__ import annotations

import sys
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

import click

from alarm_mw.cli.servers import find, needing_answers, placed
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
@click.argument("alarm", required=False)
@click.option("--for", "seconds", type=duration, metavar="TIME", help="Duration: 90s, 10m, 2h, 1d.")
@click.option("--all", "is_all", is_flag=True, help="All alarms of the server.")
@click.option("--comment", default="", help="Reason and author; shown by `alarm-mw status`.")
@placed
def silence(  # noqa: PLR0917  # the command line's options
    alarm: str | None,
    seconds: float | None,
    is_all: bool,
    comment: str,
    state_dir: str | None,
    socket_path: str | None,
) -> None:
    """Silence an alarm of a running server for a time, such as a deployment; without arguments, list the silences.

    Suppressed messages are counted as `silenced`, and one message reports them when the silence ends. A silence
    survives a restart of the master and replaces an earlier silence of the alarm. Prints the silences with their end.
    No options are needed if only one server is running. The exit status is 1 if no server answers, 2 for an alarm that
    is not configured.
    """
    is_list = alarm is None and not is_all
    if is_list and (seconds is not None or comment):
        raise click.UsageError("no alarm given: name one, or give --all")
    if seconds is None and not is_list:
        raise click.UsageError("no duration given: give --for, as in --for 2h")
    order(alarm, seconds or 0.0, comment, state_dir, socket_path, is_all=is_all)


def order(
    alarm: str | None, seconds: float, comment: str, state_dir: str | None, socket_path: str | None, *, is_all: bool
) -> None:
    """Have a master silence an alarm or all (0 seconds: end the silence), and print the silences.

    Exits if no server answers or the alarm is not configured.
    """
    if alarm is not None and is_all:
        raise click.UsageError("give the name of an alarm or --all, not both")
    with needing_answers():
        socket_file = find(state_dir, socket_path)
        answer = ask_patiently(socket_file, "/status")
        known = [*answer["alarms"], *answer["unmatched"]]
        for name in known if is_all else [] if alarm is None else [alarm]:
            query = urllib.parse.urlencode({"alarm": name, "seconds": seconds, "comment": comment})
            answer = ask_patiently(socket_file, f"/silence?{query}", method="POST")
    if alarm is not None and alarm not in answer["alarms"]:
        click.echo(f"alarm-mw: unknown alarm {alarm!r}; there are: {', '.join(answer['alarms'])}", err=True)
        sys.exit(UNKNOWN)
    for sentence in describe_silences(answer["silences"]) or ["no alarm is silenced"]:
        click.echo(sentence)


def describe_silences(silences: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each silence, with its end and its comment; without control characters."""
    return [_shown(alarm, **silence) for alarm, silence in silences.items()]


def _shown(alarm: str, seconds: float, comment: str) -> str:
    end = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() + seconds))
    text = f"alarm {alarm} is silenced until {end}" + (f": {comment}" if comment else "")
    return printable(text.encode("utf-8", "backslashreplace"))


@click.command()
@click.argument("alarm", required=False)
@click.option("--all", "is_all", is_flag=True, help="All alarms of the server.")
@placed
def unsilence(alarm: str | None, is_all: bool, state_dir: str | None, socket_path: str | None) -> None:
    """End the silence of an alarm of a running server.

    One message reports what was suppressed. Prints the remaining silences with their end. The exit status is 1 if no
    server answers, 2 for an alarm that is not configured.
    """
    if alarm is None and not is_all:
        raise click.UsageError("no alarm given: name one, or give --all")
    order(alarm, 0.0, "", state_dir, socket_path, is_all=is_all)
