"""From a plan to the running server, and to the supervisor in this process's place.

The server need not wait for the supervisor's interpreter: it starts before that, and its output waits in the pipes.
"""

from __future__ import annotations

import os
from typing import NoReturn

from alarm_mw.supervisor.descriptors import complain, fill_gaps, let_go, passed_on
from alarm_mw.supervisor.notify import NotifySocket
from alarm_mw.supervisor.plan import Plan
from alarm_mw.supervisor.process import NOT_FOUND, die_with, exit_status, spawn, with_own_pid
from alarm_mw.supervisor.records import RecordsSocket
from alarm_mw.supervisor.signals import Inherited, give_back, take_over
from alarm_mw.supervisor.started import Started
from alarm_mw.supervisor.streams import open_streams
from alarm_mw.system.linux import PR_SET_CHILD_SUBREAPER, prctl

CANNOT_START = 1


def start(plan: Plan) -> NoReturn:
    """Start the server, and let the supervisor take this process's place, with its pid; from the main thread only.

    Where that cannot be, the process ends as a shell would.
    """
    try:
        _start(plan)
    except OSError as error:  # such as too many open files; a server that runs already is ended by the kernel
        complain(f"the server cannot be supervised: {error}")
        os._exit(CANNOT_START)


def _start(plan: Plan) -> NoReturn:
    found = fill_gaps()
    passed = passed_on()
    inherited = take_over()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        records = RecordsSocket.bind(plan.socket)
    except OSError as error:
        complain(f"{plan.socket}: {error.strerror}")
        os._exit(CANNOT_START)
    notify = NotifySocket.of(os.environ)
    streams, ends = open_streams(found)
    try:
        server = _start_server(
            {**plan.server_env, **(notify.server_env if notify else {})}, plan.command, ends, inherited
        )
    except OSError as error:
        records.close()
        complain(f"{plan.command[0]}: {_cause(error)}")
        os._exit(exit_status(error))
    let_go([fd for fd in [*passed, *set(ends.values())] if fd not in plan.master_fds])
    started = Started(
        server, streams, records.listening.fileno(), records.file, notify.fileno() if notify else None, inherited
    )
    arguments = started.supervisor_argv(plan)
    try:
        os.execv(arguments[0], arguments)  # noqa: S606  # no shell is wanted
    except OSError as error:
        records.close()
        complain(f"{arguments[0]}: {error.strerror}")
        os._exit(CANNOT_START)  # the kernel ends the server


def _start_server(added: dict[str, str], command: list[str], ends: dict[int, int], inherited: Inherited) -> int:
    parent = os.getpid()

    def prepare() -> dict[str, str]:
        die_with(parent)
        for number, end in ends.items():
            os.dup2(end, number)
        give_back(inherited)
        return with_own_pid({**os.environ, **added}, parent)

    return spawn(prepare, command)


def _cause(error: OSError) -> str:
    return "command not found" if exit_status(error) == NOT_FOUND else str(error.strerror)
