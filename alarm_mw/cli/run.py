"""``alarm-mw run``: checks everything, then becomes the supervisor."""

from __future__ import annotations

import os
import sys
import uuid
from pathlib import Path
from typing import NoReturn

import click

from alarm_mw.cli.options import BAD_CONFIG, ConfiguredCommand, config_options, settings_or_exit, sources
from alarm_mw.cli.state import StateDir, own_state_dir, state_home
from alarm_mw.config.deaths import asks_for_deaths
from alarm_mw.config.screens import Screens
from alarm_mw.config.snapshot import to_json
from alarm_mw.descriptors import is_open
from alarm_mw.sockets import is_served
from alarm_mw.supervisor.plan import Plan
from alarm_mw.transports.places import SOCKET_NAME, SOCKET_VARIABLE


@click.command(cls=ConfiguredCommand, context_settings={"allow_interspersed_args": False})
@config_options
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False),
    help="Where the outbox is kept. [default: one per server in the XDG state directory]",
)
@click.option(
    "--socket",
    "socket_path",
    type=click.Path(dir_okay=False),
    help="The socket for the server's processes. [default: in the state directory]",
)
@click.option("--buffered", is_flag=True, help="Leave Python's buffering of the server's output as it is.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(  # the command line's options  # noqa: PLR0913, PLR0917
    toml_files: tuple[str, ...],
    ini_files: tuple[str, ...],
    state_dir: str | None,
    socket_path: str | None,
    buffered: bool,
    command: tuple[str, ...],
) -> None:
    """Run a server, and let every line that it prints or logs raise alarms.

    \b
    alarm-mw run --alarm "mail cmd:mail -s Alarm me@example.org" \\
                 --log-alarm "mail ^TERRIBLE ALARM" -- gunicorn app:app

    The server's output passes through unchanged; signals reach it, and its exit status is ours.
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    found = sources(toml_files, ini_files)
    settings = settings_or_exit(found)
    Screens.of_user(os.environ).of_rules(settings.rules)  # now, while no output waits for it
    state = _claim(state_dir, command)
    socket_file = os.path.abspath(socket_path or state.path / SOCKET_NAME)
    if is_served(socket_file):
        _refuse(f"a server with the socket {socket_file} runs already; give another --state-dir or --socket")
    server_env = {SOCKET_VARIABLE: socket_file}
    if not buffered:
        server_env["PYTHONUNBUFFERED"] = os.environ.get("PYTHONUNBUFFERED") or "1"
    if asks_for_deaths(settings):
        # Every Python process then writes its stacks when a fatal signal ends it.
        server_env["PYTHONFAULTHANDLER"] = os.environ.get("PYTHONFAULTHANDLER", "1")
    plan = Plan(
        command=list(command),
        server_env=server_env,
        master_argv=[sys.executable, "-P", "-m", "alarm_mw.master"],
        socket=socket_file,
        run_id=uuid.uuid4().hex[:12],
        master_fds=sorted(filter(_was_passed, settings.descriptors)),
        settings={"settings": to_json(settings), "state_dir": str(state.path)},
        lock=state.lock,
    )
    _become_supervisor(plan)


def _claim(state_dir: str | None, command: tuple[str, ...]) -> StateDir:
    try:
        claimed = StateDir.claim(Path(state_dir).absolute()) if state_dir else own_state_dir(command, os.environ)
    except OSError as error:
        where = error.filename or state_dir or state_home(os.environ)
        _refuse(f"the state directory cannot be used: {where}: {error.strerror}; give another --state-dir")
    if claimed is None:
        _refuse(f"a server with the state directory {state_dir} runs already; give another --state-dir")
    if not os.access(claimed.path, os.W_OK | os.X_OK):
        _refuse(f"the state directory {claimed.path} cannot be written; give another --state-dir")
    return claimed


def _was_passed(descriptor: int) -> bool:
    """Return whether our caller has opened it: what Python opens is not inherited."""
    return is_open(descriptor) and os.get_inheritable(descriptor)


def _refuse(text: str) -> NoReturn:
    click.echo(f"alarm-mw: {text}", err=True)
    sys.exit(BAD_CONFIG)


def _become_supervisor(plan: Plan) -> NoReturn:
    """Replace this interpreter, with all that it loaded, by a lean one, which inherits the lock."""
    assert plan.lock is not None
    os.set_inheritable(plan.lock, True)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # None where its descriptor is closed
            stream.flush()
    arguments = plan.supervisor_argv(plan.write())
    os.execv(arguments[0], arguments)  # noqa: S606  # no shell is wanted
