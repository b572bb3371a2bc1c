"""``alarm-mw silence`` and ``alarm-mw unsilence``: hold messages back for a time, and end that."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import click

from alarm_mw.cli.servers import ask_api, find, placed
from alarm_mw.engine.flood_control.limits import read_duration
from alarm_mw.model.errors import NotRunningError
from alarm_mw.model.keyvalue import did_you_mean
from alarm_mw.model.printable import printable
from alarm_mw.transports.control import ask

#: Selects every message.
EVERY_ALARM = 'alarm=~".+"'


def duration(text: str) -> float:
    """Return the seconds of a time such as ``2h``, or of a number of them."""
    try:
        return read_duration(float(text) if text.replace(".", "", 1).isdecimal() else text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def moment(text: str) -> float:
    """Return the seconds since the epoch of ``2026-11-30T22:00``, or of a time from now such as ``2h``."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        pass
    try:
        return time.time() + read_duration(text)
    except ValueError:
        raise click.BadParameter(f"expected a time such as 2026-11-30T22:00, or 2h from now, got {text!r}") from None


@click.command()
@click.argument("targets", metavar="[MATCHER…|ALARM]", nargs=-1)
@click.option("--for", "seconds", type=duration, metavar="TIME", help="Duration: 90s, 10m, 2h, 1d; at most 30d.")
@click.option("--start", type=moment, metavar="TIME", help="Begin at 2026-11-30T22:00, or 2h from now. [default: now]")
@click.option("--comment", default="", help="Reason; shown with the silence.")
@click.option("--list", "is_list", is_flag=True, help="List the silences; with --all, also expired ones.")
@click.option("--all", "is_all", is_flag=True, help="All messages of the server.")
@click.option("--json", "as_json", is_flag=True, help="With --list: as a JSON array.")
@placed
def silence(  # noqa: PLR0917  # the command line's options
    targets: tuple[str, ...],
    seconds: float | None,
    start: float | None,
    comment: str,
    is_list: bool,
    is_all: bool,
    as_json: bool,
    state_dir: str | None,
    socket_path: str | None,
) -> None:
    """Hold messages of a running server back for a time, such as a deployment; without arguments, list the silences.

    Name an alarm, or give matchers of labels such as rule="db" or host=~"eu-.*": a message must match all of them. The
    labels are those of the rule, the values of an incident's key, and the names of `rule` and `alarm`.

    Suppressed messages are counted as `silenced`, and one message reports them when the silence ends. A silence
    survives restarts, and replaces an active one with the same matchers. Prints its id, and on the standard error its
    end, how many open incidents it covers, and a warning for each matcher that selects nothing of the configuration.
    No options are needed if only one server is running. The exit status is 1 if no server answers, 2 for an alarm that
    is not configured or a wrong matcher.
    """
    if is_list or not (targets or is_all):
        _refuse_without_targets(targets, seconds, start, comment)
        _list(state_dir, socket_path, is_all=is_all, as_json=as_json)
        return
    if as_json:
        raise click.UsageError("--json is for a list of the silences: give it with --list")
    if seconds is None:
        unknown = _unknown_alarms(targets, state_dir, socket_path)
        raise click.UsageError("\n".join(["no duration given: give --for, as in --for 2h", *unknown]))
    if targets and is_all:
        raise click.UsageError("give an alarm or matchers, or --all, not both")
    wanted = {"targets": targets or [EVERY_ALARM], "seconds": seconds, "starts": start, "comment": comment}
    answer = ask_api(state_dir, socket_path, "/api/1/silences", wanted)
    click.echo(answer["id"])
    click.echo(describe(answer), err=True)
    if "covers" in answer:  # a server that is older does not say it
        is_one = answer["open"] == 1
        click.echo(f"covers {answer['covers']} of {answer['open']} open incident{'' if is_one else 's'}", err=True)
        for doubt in answer["doubts"]:
            click.echo(printable(f"warning: {doubt}"), err=True)


def _unknown_alarms(targets: Iterable[str], state_dir: str | None, socket_path: str | None) -> list[str]:
    """Return a sentence for each target that is neither a matcher nor an alarm of the server; none if none answers."""
    try:
        lanes: Any = ask(find(state_dir, socket_path), "/api/1/delivery")
    except NotRunningError:
        return []
    names = [lane["alarm"] for lane in lanes] if isinstance(lanes, list) else []
    unknown = [target for target in targets if names and target not in names and not re.search("[=~]", target)]
    return [
        f"unknown alarm {target!r}{did_you_mean(target, names)}; there are: {', '.join(names)}" for target in unknown
    ]


def _refuse_without_targets(targets: tuple[str, ...], seconds: float | None, start: float | None, comment: str) -> None:
    if targets:
        raise click.UsageError("--list with an alarm or matchers")
    if seconds is not None or start is not None or comment:
        raise click.UsageError("no alarm given: name one, give matchers, or give --all")


def _list(state_dir: str | None, socket_path: str | None, *, is_all: bool, as_json: bool) -> None:
    found = ask_api(state_dir, socket_path, f"/api/1/silences?all={int(is_all)}")
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        _show(found)


def _show(silences: Iterable[dict[str, Any]]) -> None:
    sentences = [f"{each['id']}  {describe(each)}" for each in silences]
    for sentence in sentences or ["no silences"]:
        click.echo(sentence)


def describe(silence: dict[str, Any]) -> str:
    """Return a sentence about a silence, with its end and its comment; without control characters."""
    what = f"alarm {silence['alarm']}" if silence["alarm"] else ", ".join(silence["matchers"])
    starts, ends = (time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(silence[at])) for at in ("starts", "ends"))
    state = {"pending": f"will be silenced from {starts} until {ends}", "expired": f"was silenced until {ends}"}
    text = f"{what} {state.get(silence['state'], f'is silenced until {ends}')}"
    author = f" by {silence['author']}" if silence["author"] else ""
    comment = f": {silence['comment']}" if silence["comment"] else ""
    return printable((text + author + comment).encode("utf-8", "backslashreplace"))


@click.command()
@click.argument("targets", metavar="[ID|ALARM|MATCHER]…", nargs=-1)
@click.option("--all", "is_all", is_flag=True, help="All silences of the server.")
@placed
def unsilence(targets: tuple[str, ...], is_all: bool, state_dir: str | None, socket_path: str | None) -> None:
    """End a silence of a running server, by its id or its beginning, by its alarm, or by the matchers it was set with.

    One message reports what was suppressed. Prints the remaining silences. The exit status is 1 if no server answers,
    2 if there is no such silence.
    """
    if not targets and not is_all:
        raise click.UsageError("no silence given: give its id, its alarm or its matchers, or --all")
    if targets and is_all:
        raise click.UsageError("give an id or an alarm, or --all, not both")
    ask_api(state_dir, socket_path, "/api/1/silences/expire", {"targets": targets, "all": is_all})
    _list(state_dir, socket_path, is_all=False, as_json=False)
