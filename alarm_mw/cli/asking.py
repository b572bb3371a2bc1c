"""Which running server a command is about, and what is said where none answers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from alarm_mw.app.launch.state import running, state_home
from alarm_mw.model.errors import NotRunningError
from alarm_mw.transports.places import SOCKET_NAME, SOCKET_VARIABLE

#: The exit status when no master answers.
NO_MASTER = 1

_NAME = "alarm_mw.name"

Command = Callable[..., None]


def placed(command: Command) -> Command:
    """Add the options that say which server is meant: `state_dir` and `socket_path`."""
    state = click.option(
        "--state-dir",
        type=click.Path(file_okay=False),
        callback=_of_name,
        help="The state directory that `run` was given.",
    )
    socket = click.option(
        "--socket", "socket_path", type=click.Path(dir_okay=False), help="The socket that `run` was given."
    )
    name = click.option(
        "--name", expose_value=False, is_eager=True, callback=_note_name, help="The name that `run` was given."
    )
    return state(socket(name(command)))


def _note_name(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    context.meta[_NAME] = value


def _of_name(context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Return the state directory that was given, else that of the server's name."""
    name = context.meta.get(_NAME)
    return str(state_home(os.environ) / name) if name and value is None else value


def find(state_dir: str | None, socket_path: str | None) -> str:
    """Return the records socket of the master that is meant; raise `NotRunningError` where that is not one."""
    if socket_path or state_dir:
        return socket_path or str(Path(str(state_dir)) / SOCKET_NAME)
    if inherited := os.environ.get(SOCKET_VARIABLE):
        return inherited
    found = [str(path) for path in running(os.environ)]
    if not found:
        raise NotRunningError("no server runs under `alarm-mw run` with a default state directory; give --state-dir")
    if len(found) > 1:
        choices = "".join(f"\n  --state-dir {os.path.dirname(path)}" for path in found)
        raise NotRunningError(f"several servers run, give one of{choices}")
    return found[0]


@contextmanager
def needing_answers() -> Iterator[None]:
    """Exit with `NO_MASTER`, and say why, where no master answers."""
    try:
        yield
    except NotRunningError as error:
        click.echo(f"alarm-mw: {error}", err=True)
        sys.exit(NO_MASTER)
