"""Which running server a command is about, and what is printed where none answers."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec

from alarm_mw.app.launch.state import running, state_dirs, state_home
from alarm_mw.model.errors import NotRunningError
from alarm_mw.model.keyvalue import did_you_mean
from alarm_mw.model.printable import printable
from alarm_mw.transports.control import ask, ask_patiently
from alarm_mw.transports.places import SOCKET_NAME, SOCKET_VARIABLE

#: The exit status if no master answers.
NO_MASTER = 1

#: The exit status if a master refuses what it is asked for.
REFUSED = 2

#: Seconds to wait for a server's name, if several are running.
TIMEOUT_OF_NAMES = 1.0

_NAME = "alarm_mw.name"

#: What the name of a state directory has behind the program's name.
_HASH = re.compile(r"-[0-9a-f]{8}(?:-\d+)?$")

Command = Callable[..., None]


def placed(command: Command) -> Command:
    """Add the options that select a server: `state_dir` and `socket_path`."""
    state = click.option(
        "--state-dir",
        type=click.Path(file_okay=False),
        callback=_of_name,
        help="State directory that was given to `run`.",
    )
    socket = click.option(
        "--socket", "socket_path", type=click.Path(dir_okay=False), help="Socket that was given to `run`."
    )
    name = click.option(
        "--name",
        expose_value=False,
        is_eager=True,
        callback=_note_name,
        help="Name that was given to `run`, or the server's program.",
    )
    return state(socket(name(command)))


def _note_name(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    context.meta[_NAME] = value


def _of_name(context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Return the given state directory, else that of the server's name; exit if there is none of this name."""
    name = context.meta.get(_NAME)
    if not name or value is not None:
        return value
    home = state_home(os.environ)
    if (home / name).is_dir():
        return str(home / name)
    names = names_of(path.parent for path in running(os.environ))
    for place, known in (*names.items(), *names_of(state_dirs(os.environ)).items()):
        if known == name:
            return str(place)
    there_are = f"; running: {', '.join(sorted(names.values()))}" if names else ""
    hint = did_you_mean(name, [*names.values()])
    click.echo(f"alarm-mw: there is no server {name!r} with a default state directory{hint}{there_are}", err=True)
    sys.exit(NO_MASTER)


def names_of(places: Iterable[Path]) -> dict[Path, str]:
    """Return the names that distinguish servers, by their state directories.

    A server without a name is called by its program; only if several would have the same name, its hash is part of it.
    """
    known = [*places]
    short = {place: _HASH.sub("", place.name) for place in known}
    counts = Counter(short.values())
    return {place: short[place] if counts[short[place]] == 1 else place.name for place in known}


def find(state_dir: str | None, socket_path: str | None) -> str:
    """Return the records socket of the selected master; raise `NotRunningError` unless there is exactly one."""
    if socket_path or state_dir:
        return socket_path or str(Path(str(state_dir)) / SOCKET_NAME)
    if inherited := os.environ.get(SOCKET_VARIABLE):
        return inherited
    found = [str(path) for path in running(os.environ)]
    if not found:
        raise NotRunningError(
            "no server is running under `alarm-mw run` with a default state directory; give --state-dir"
        )
    if len(found) > 1:
        raise NotRunningError(f"several servers are running, give one of{choices(Path(path).parent for path in found)}")
    return found[0]


def choices(places: Iterable[Path]) -> str:
    """Return a line for each server: the option that selects it, and what it runs where."""
    names = names_of(places)
    longest = max(map(len, names.values()), default=0)
    lines = [f"  --name {name:{longest}}{_described(str(place / SOCKET_NAME))}" for place, name in names.items()]
    return "".join(f"\n{line.rstrip()}" for line in lines)


def _described(socket_path: str) -> str:
    """Return a server's command and its working directory in parentheses; empty if unknown."""
    try:
        folder = Path("/proc") / str(ask(socket_path, "/status", timeout=TIMEOUT_OF_NAMES)["server_pid"])
        words = os.fsdecode(folder.joinpath("cmdline").read_bytes()).removesuffix("\0").split("\0")
        if words[1:4] == ["-I", "-S", "-c"] and words[5:6] == ["alarm-mw"]:
            words = words[5:]  # the process in place of a server of `alarm-mw hub` and `alarm-mw follow`
        return printable(f"   ({shlex.join(words)} in {os.readlink(folder / 'cwd')})")
    except (NotRunningError, OSError, KeyError, ValueError):
        return ""


def all_running() -> list[str]:
    """Return the records sockets of all running servers; raise `NotRunningError` if there is none."""
    return [str(path) for path in running(os.environ)] or [find(None, None)]


def ask_api(state_dir: str | None, socket_path: str | None, url: str, body: object = None) -> Any:  # noqa: ANN401  # JSON
    """Return what the API of the selected master answers, to a POST where a body is given.

    Exit with `NO_MASTER` if none answers, and with `REFUSED` if it refuses; print why.
    """
    method, text = ("GET", b"") if body is None else ("POST", msgspec.json.encode(body))
    with needing_answers():
        answer: Any = ask_patiently(find(state_dir, socket_path), url, method=method, body=text)
    if isinstance(answer, dict) and "error" in answer:
        click.echo(f"alarm-mw: {printable(answer['error'])}", err=True)
        sys.exit(REFUSED)
    return answer


@contextmanager
def needing_answers() -> Iterator[None]:
    """Exit with `NO_MASTER` and print why, if no master answers."""
    try:
        yield
    except NotRunningError as error:
        click.echo(f"alarm-mw: {error}", err=True)
        sys.exit(NO_MASTER)
