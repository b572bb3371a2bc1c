"""From a plan to the running server, and to the end of this process."""

from __future__ import annotations

import os

from alarm_mw.supervisor.carrier_start import CarrierStart
from alarm_mw.supervisor.carriers import Carriers, complain
from alarm_mw.supervisor.descriptors import fill_gaps, keep_back, let_go, passed_on
from alarm_mw.supervisor.linux import PR_SET_CHILD_SUBREAPER, prctl
from alarm_mw.supervisor.notify import NotifySocket
from alarm_mw.supervisor.plan import Plan
from alarm_mw.supervisor.process import NOT_FOUND, die_with, end_as, exit_status, spawn, with_own_pid
from alarm_mw.supervisor.records import RecordsSocket
from alarm_mw.supervisor.signals import Inherited, give_back, take_over
from alarm_mw.supervisor.streams import open_streams
from alarm_mw.supervisor.supervisor import Supervisor
from alarm_mw.supervisor.watchdog import patience_of

CANNOT_START = 1


def supervise(plan_fd: int) -> None:
    """Run the plan in descriptor `plan_fd` and end this process as its server ended. Does not return."""
    found = fill_gaps()
    keep_back(plan_fd)
    plan = Plan.read(plan_fd)
    if plan.lock is not None:
        keep_back(plan.lock)
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
    for fd in plan.master_fds:
        keep_back(fd)
    start = CarrierStart(plan, plan_fd, records.listening, inherited, patience=patience_of(os.environ))
    returncode = Supervisor(server, Carriers(start, streams), plan.shutdown_timeout, notify).run()
    if notify is not None:
        notify.close()
    records.close()
    end_as(returncode)


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
