"""The server's output streams: a pipe each, or a terminal of its own where ours is one."""

from __future__ import annotations

import fcntl
import os
import select
import stat
import termios
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from alarm_mw.supervisor.descriptors import STDERR, STDOUT, ready_for
from alarm_mw.supervisor.process import numbers_in
from alarm_mw.system.descriptors import FIRST_FREE, lead_to_one_place
from alarm_mw.system.linux import terminal_of

_NAMES = {STDOUT: "stdout", STDERR: "stderr"}
#: Bytes that a pipe takes without blocking when it says that it can be written to (PIPE_BUF).
PIECE = 4096
_OUTPUT_MODES = 1  # index into what tcgetattr returns


class Stream(NamedTuple):
    """One way of output, held open here so that a master can die and be replaced without a byte lost."""

    #: ``stdout`` or ``stderr``; ``stdout`` where one stream carries both.
    name: str
    #: Where the server's output can be read.
    source: int
    #: Where it has to go.
    sink: int
    #: A memory file for what a master leaves to the next one, and of the size that a master gives it; empty at first.
    state: int
    #: The source is a pseudo-terminal's, which knows neither tee nor splice.
    terminal: bool
    #: Both ends of a pipe for what is on its way into a file. A file may be slow, and the source is locked while the
    #: kernel moves bytes out of it: from here they go on while the server writes.
    transit: tuple[int, int] | None = None

    @property
    def descriptors(self) -> set[int]:
        """The descriptors that a master needs."""
        return {self.source, self.sink, self.state, *(self.transit or ())}

    def is_unread(self) -> bool:
        """Return whether output waits in the source, or on its way into a file."""
        return any(map(_is_readable, (self.source, *(self.transit or ())[:1])))

    def is_held_by(self, pid: int) -> bool:
        """Return whether a process can write to this stream; False where its descriptors cannot be looked at."""
        end = _device_and_inode(terminal_of(self.source) if self.terminal else self.source)
        fds = numbers_in(f"/proc/{pid}/fd")
        return end is not None and any(_device_and_inode(f"/proc/{pid}/fd/{fd}") == end for fd in fds)

    def in_transit(self) -> Iterator[bytes]:
        """Yield, and take, what a master that was killed had on its way into a file."""
        while self.transit is not None and _is_readable(self.transit[0]):
            yield os.read(self.transit[0], PIECE)

    def forget_state(self) -> None:
        """Let the next master begin afresh: output went by that no master has seen."""
        os.ftruncate(self.state, 0)

    def copy_window_size(self) -> None:
        """Give the server's terminal the size of ours."""
        if self.terminal:
            with suppress(termios.error):  # ours has hung up
                termios.tcsetwinsize(self.source, termios.tcgetwinsize(self.sink))

    def close(self) -> None:
        """Let go of the stream: when nothing reads it, the server's next write fails as it would without us."""
        for fd in self.descriptors:
            os.close(fd)


def open_streams(found: frozenset[int]) -> tuple[list[Stream], dict[int, int]]:
    """Return a stream for each standard output in `found`, and the server's end for each descriptor's number.

    Standard output and error that lead to one place share a stream, which keeps their order.
    """
    numbers = sorted(found & _NAMES.keys())
    if len(numbers) > 1 and lead_to_one_place(STDOUT, STDERR):
        stream, end = _open(STDOUT)
        return [stream], {STDOUT: end, STDERR: end}
    opened = {number: _open(number) for number in numbers}
    return [stream for stream, _end in opened.values()], {number: end for number, (_stream, end) in opened.items()}


def _open(number: int) -> tuple[Stream, int]:
    source, end, terminal = _way_from_server(number)
    sink = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)
    state = os.memfd_create("alarm-mw-state")
    return Stream(_NAMES[number], source, sink, state, terminal, transit_to(sink)), end


def transit_to(sink: int) -> tuple[int, int] | None:
    """Return both ends of the pipe through which output goes into a file; None where it needs none."""
    # Nothing can be moved into a file that is set to append: it is written to, and needs no such pipe.
    is_append = fcntl.fcntl(sink, fcntl.F_GETFL) & os.O_APPEND
    return os.pipe() if stat.S_ISREG(os.fstat(sink).st_mode) and not is_append else None


def _is_readable(fd: int) -> bool:
    return bool(ready_for(fd, select.POLLIN) & select.POLLIN)


def _way_from_server(number: int) -> tuple[int, int, bool]:
    if os.isatty(number):
        try:
            return *_open_terminal(number), True
        except OSError:  # without /dev/pts a pipe has to do
            pass
    return *os.pipe(), False


def _open_terminal(model: int) -> tuple[int, int]:
    modes, size = termios.tcgetattr(model), termios.tcgetwinsize(model)
    modes[_OUTPUT_MODES] &= ~termios.OPOST  # the real terminal does it, once
    source, end = os.openpty()
    termios.tcsetattr(end, termios.TCSANOW, modes)
    termios.tcsetwinsize(end, size)
    return source, end


def _device_and_inode(file: str | int) -> tuple[int, int] | None:
    """Return what two names of a file share; None where it is closed, or not there."""
    try:
        found = os.stat(file)  # noqa: PTH116  # the supervisor has no pathlib
    except OSError:
        return None
    return found.st_dev, found.st_ino
