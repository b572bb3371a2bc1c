"""Starting a child, and ending as one did."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn

from alarm_mw.system.linux import PR_SET_PDEATHSIG, prctl

NOT_FOUND = 127
NOT_EXECUTABLE = 126


def fork(run: Callable[[], object]) -> int:
    """Run `run` in a child process and return its pid; the child ends when `run` returns."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            run()
            status = 0
        except BaseException:  # noqa: BLE001  # the child must not go on as its parent; it says why and ends
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)
    return pid


def spawn(prepare: Callable[[], Mapping[str, str]], command: list[str]) -> int:
    """Run `prepare`, then `command` in the environment it returned, in a child; return its pid when the command runs.

    Raises the OSError that kept the command from being executed.
    """
    heard, told = os.pipe()

    def run() -> None:
        try:
            environment = prepare()
            os.execvpe(command[0], command, environment)  # noqa: S606  # no shell is wanted
        except OSError as error:
            os.write(told, b"%d" % (error.errno or errno.EINVAL))

    try:
        pid = fork(run)
    except OSError:
        os.close(heard)
        raise
    finally:
        os.close(told)
    failure = os.read(heard, 16)  # nothing, when the exec has closed the other end
    os.close(heard)
    if failure:
        os.waitpid(pid, 0)
        raise OSError(int(failure), os.strerror(int(failure)), command[0])
    return pid


def die_with(parent: int) -> None:
    """Have the kernel send this child SIGTERM when its parent, process `parent`, is gone."""
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # gone already, before this took effect
        os._exit(1)


def with_own_pid(environment: Mapping[str, str], addressee: int) -> dict[str, str]:
    """Return the environment with what systemd addressed to process `addressee` addressed to this one.

    See sd_listen_fds(3) and sd_watchdog_enabled(3): a process ignores sockets that are not addressed to it. A second
    name of the addressee, which newer ones look at where it is there, is left out.
    """
    names = [name for name in ("LISTEN_PID", "WATCHDOG_PID") if environment.get(name) == str(addressee)]
    kept = {name: value for name, value in environment.items() if name != "LISTEN_PIDFDID" or "LISTEN_PID" not in names}
    return {**kept, **dict.fromkeys(names, str(os.getpid()))}


def children() -> set[int]:
    """Return the pids of this process's children, adopted ones included, dead ones that were not reaped too."""
    return set(filter(_is_child, numbers_in("/proc")))


def _is_child(pid: int) -> bool:
    # Asked of the kernel: what /proc shows may belong to another pid namespace.
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def numbers_in(folder: str) -> list[int]:
    """Return the names in a folder of /proc that are numbers; none where it cannot be read: no mount, no descriptor."""
    try:
        with os.scandir(folder) as entries:
            return [int(entry.name) for entry in entries if entry.name.isdigit()]
    except OSError:
        return []


def exit_status(error: OSError) -> int:
    """Return what a shell's ``$?`` would be after a command that could not be executed."""
    return NOT_FOUND if error.errno in (errno.ENOENT, errno.ENOTDIR) else NOT_EXECUTABLE


def end_as(returncode: int) -> NoReturn:
    """End this process with an exit status, or, where `returncode` is negative, by that signal."""
    if returncode < 0:
        _die_by(-returncode)
        returncode = 128 - returncode  # still here: process 1 of a container cannot kill itself
    os._exit(returncode)


def _die_by(number: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
