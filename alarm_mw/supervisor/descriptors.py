"""The file descriptors that the supervisor finds on entry, and what they stand for."""

from __future__ import annotations

import fcntl
import os
import select

from alarm_mw.descriptors import FIRST_FREE, is_open
from alarm_mw.supervisor.process import numbers_in

STDIN, STDOUT, STDERR = 0, 1, 2


def fill_gaps() -> frozenset[int]:
    """Open /dev/null in the place of closed standard descriptors; return those that were open.

    Else the next pipe would take their numbers. The server does not inherit what is put there.
    """
    found = frozenset(filter(is_open, (STDIN, STDOUT, STDERR)))
    for number in sorted({STDIN, STDOUT, STDERR} - found):
        assert os.open(os.devnull, os.O_RDWR) == number  # the lowest number that is free
    return found


def passed_on() -> list[int]:
    """Return what an exec hands down beside the standard descriptors: a shell's ``9>lock``, systemd's sockets."""
    return [fd for fd in numbers_in("/proc/self/fd") if fd >= FIRST_FREE and is_open(fd) and os.get_inheritable(fd)]


def keep_back(fd: int) -> None:
    """Close `fd` in whatever this process executes."""
    fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)


def hand_down(fd: int) -> None:
    """Leave `fd` open in whatever this process executes."""
    fcntl.fcntl(fd, fcntl.F_SETFD, 0)


def let_go(passed: list[int]) -> None:
    """Leave to the server what is the server's alone: hold neither its input nor `passed` open any longer.

    Standard input becomes /dev/null, standard output becomes standard error; so the masters inherit them.
    """
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, STDIN)
    os.close(null)
    hand_down(STDERR)
    os.dup2(STDERR, STDOUT)
    for fd in passed:
        os.close(fd)


def close_all_but(kept: set[int]) -> None:
    """Close every descriptor of this process except the standard ones and those of `kept`."""
    for fd in numbers_in("/proc/self/fd"):
        if fd >= FIRST_FREE and fd not in kept and is_open(fd):
            os.close(fd)


def ready_for(fd: int, events: int) -> int:
    """Return which of poll(2)'s `events` are there now, and POLLERR and POLLHUP, which are never asked for."""
    waiting = select.poll()
    waiting.register(fd, events)
    return next((found for _fd, found in waiting.poll(0)), 0)
