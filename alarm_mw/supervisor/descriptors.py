"""The file descriptors that the supervisor finds on entry, and what they stand for."""

from __future__ import annotations

import fcntl
import os
import select
import time
from contextlib import suppress

from alarm_mw.supervisor.process import numbers_in
from alarm_mw.system.descriptors import FIRST_FREE, beyond_standard, is_open
from alarm_mw.system.log_lines import log_line

STDIN, STDOUT, STDERR = 0, 1, 2


def fill_gaps() -> frozenset[int]:
    """Open /dev/null in the place of closed standard descriptors; return those that were open.

    Else the next pipe would take their numbers. The server does not inherit what is put there; nor what this process
    has opened there itself.
    """
    found = frozenset(fd for fd in (STDIN, STDOUT, STDERR) if is_open(fd) and os.get_inheritable(fd))
    for number in sorted({STDIN, STDOUT, STDERR} - found):
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number, inheritable=False)
            os.close(null)
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


def memory_file(name: str, text: str) -> int:
    """Return a new descriptor of a file in memory that holds `text`; it stays open over an exec."""
    file = beyond_standard(os.memfd_create(name))
    with os.fdopen(file, "wb", closefd=False) as writing:
        writing.write(text.encode("ascii"))
    hand_down(file)
    return file


def content(fd: int) -> bytes:
    """Return all that is in a file, which may be read any number of times, by any process."""
    return os.pread(fd, os.fstat(fd).st_size, 0)


def ready_for(fd: int, events: int) -> int:
    """Return which of poll(2)'s `events` are there now, and POLLERR and POLLHUP, which are never asked for."""
    waiting = select.poll()
    waiting.register(fd, events)
    return next((found for _fd, found in waiting.poll(0)), 0)


def complain(text: str) -> None:
    """Write a mistake at the start to our standard error."""
    _write(f"alarm-mw: {text}")


def warn(text: str) -> None:
    """Write a line of the log to our standard error."""
    _write(log_line("WARNING", text, time.time()))


def _write(line: str) -> None:
    with suppress(OSError):  # nobody reads it
        os.write(STDERR, f"{line}\n".encode("utf-8", "surrogateescape"))
