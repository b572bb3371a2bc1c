"""From a configuration to the running supervisor: everything is checked, then this process becomes the supervisor."""

from __future__ import annotations

import os
import sys
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from alarm_mw.app.launch.origin import Origin
from alarm_mw.app.launch.state import (
    StateDir,
    named_state_dir,
    own_state_dir,
    state_home,
)
from alarm_mw.config.literal_cache import LiteralCache
from alarm_mw.config.settings import Loaded, Settings, asks_for_deaths
from alarm_mw.master.records.publisher import Publisher
from alarm_mw.patterns.record_prefilter import record_rules
from alarm_mw.supervisor.descriptors import warn
from alarm_mw.supervisor.plan import STACKS, Plan
from alarm_mw.supervisor.start import start
from alarm_mw.system.descriptors import is_open
from alarm_mw.system.directories import check_directory
from alarm_mw.system.sockets import is_served
from alarm_mw.transports.places import SOCKET_NAME, SOCKET_VARIABLE, TOKEN_VARIABLE
from alarm_mw.transports.published import withdraw


class RefusedError(Exception):
    """The server cannot be supervised; the text says why, and what to do."""


class Places(msgspec.Struct, frozen=True):
    """The places of a run's files, as far as they were given."""

    state_dir: str | None = None
    socket: str | None = None
    #: The server's name; empty: the one in the configuration.
    name: str = ""
    #: What distinguishes it from others, where that is not its command: without a server, as of a hub.
    identity: tuple[str, ...] = ()


class End(msgspec.Struct, frozen=True):
    """What is to happen with alarms that wait when the server has ended."""

    #: Seconds for their delivery, later attempts included; None: a few seconds, without these.
    wait: float | None = None
    #: The exit status says whether everything was delivered.
    is_strict: bool = False


_AT_ONCE = End()

_IS_HUB = (
    "[fleet] hub = true: this server also delivers what other machines leave to the hub, and their messages wait while "
    "it is stopped; remove the key, and give `alarm-mw hub` a file of its own"
)


def become_supervisor(
    loaded: Loaded, command: Sequence[str], places: Places, *, is_buffered: bool = False, end: End = _AT_ONCE
) -> NoReturn:
    """Run `command` under the supervisor, in place of this process; raise `RefusedError` if that is impossible."""
    if sys.platform != "linux":
        raise RefusedError("the supervisor needs Linux; alarm_mw.init() works in process")
    if threading.current_thread() is not threading.main_thread():  # only it may set signal handlers
        raise RefusedError("only the main thread can start the supervisor")
    if loaded.settings.fleet is not None and loaded.settings.fleet.hub and not places.identity:
        warn(_IS_HUB)
    rules = loaded.settings.rules
    compiled = LiteralCache.of_user(os.environ).compiled(rules)  # now, before there is output that would wait for it
    name = places.name or loaded.settings.name
    state = _claim(places.state_dir, name, places.identity or command)
    if loaded.sources is not None:
        Origin(loaded.sources, os.getcwd(), name).write(state.path)
    try:
        plan = _plan(loaded, command, state, places.socket, name, is_buffered=is_buffered)
        plan = plan._replace(is_strict=end.is_strict)
        if end.wait is not None:
            plan = plan._replace(shutdown_timeout=end.wait, waits=True)
        Publisher(plan.socket).publish_rules(rules, record_rules(compiled))  # before the first request needs them
    except RefusedError:
        os.close(state.lock)
        raise
    _flush()
    start(plan)


def _plan(
    loaded: Loaded, command: Sequence[str], state: StateDir, socket: str | None, name: str, *, is_buffered: bool
) -> Plan:
    socket_file = os.path.abspath(socket or state.path / SOCKET_NAME)
    try:
        check_directory(Path(socket_file).parent)
    except OSError as error:
        raise RefusedError(f"no --socket can be in {error.filename}: {error.strerror}; give another one") from error
    if is_served(socket_file):
        raise RefusedError(
            f"a server with the socket {socket_file} is already running; give another --state-dir or --socket"
        )
    withdraw(socket_file)  # an earlier run that was killed may have left its rules
    return Plan(
        command=list(command),
        server_env=_server_env(loaded.settings, socket_file, is_buffered=is_buffered),
        master_argv=[sys.executable, "-P", "-m", "alarm_mw.master"],
        socket=socket_file,
        run_id=uuid.uuid4().hex[:12],
        master_fds=sorted(filter(_was_passed, loaded.settings.descriptors)),
        settings={"state_dir": str(state.path), "name": name, **loaded.to_json()},
        lock=state.lock,
    )


def _server_env(settings: Settings, socket: str, *, is_buffered: bool) -> dict[str, str]:
    added = {**settings.execution.env, SOCKET_VARIABLE: socket, TOKEN_VARIABLE: os.urandom(16).hex()}
    if not is_buffered:
        added["PYTHONUNBUFFERED"] = os.environ.get("PYTHONUNBUFFERED") or "1"
    if asks_for_deaths(settings.monitors):
        # Makes every Python process write its stacks when a fatal signal ends it.
        added[STACKS] = os.environ.get(STACKS, "1")
    return added


def _claim(state_dir: str | None, name: str, command: Sequence[str]) -> StateDir:
    try:
        claimed = _claimed(state_dir, name, command)
    except OSError as error:
        where = error.filename or state_dir or state_home(os.environ)
        raise RefusedError(
            f"the state directory cannot be used: {where}: {error.strerror}; give another --state-dir"
        ) from error
    if claimed is None and not state_dir:
        raise RefusedError(f"a server with the name {name!r} is already running; give another --name, or a --state-dir")
    if claimed is None:
        raise RefusedError(
            f"a server with the state directory {state_dir} is already running; give another --state-dir"
        )
    if not os.access(claimed.path, os.W_OK | os.X_OK):
        raise RefusedError(f"the state directory {claimed.path} cannot be written; give another --state-dir")
    return claimed


def _claimed(state_dir: str | None, name: str, command: Sequence[str]) -> StateDir | None:
    if state_dir:
        return StateDir.claim(Path(state_dir).absolute())
    return named_state_dir(name, os.environ) if name else own_state_dir(command, os.environ)


def _was_passed(descriptor: int) -> bool:
    """Return whether our parent opened it: what Python opens is not inheritable."""
    return is_open(descriptor) and os.get_inheritable(descriptor)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # None if its descriptor is closed
            stream.flush()
