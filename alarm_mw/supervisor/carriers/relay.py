"""Passes the output on, unexamined, while no master can: the server must not stand still because of us."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections import Counter
from contextlib import suppress

from alarm_mw.supervisor.descriptors import ready_for
from alarm_mw.supervisor.streams import PIECE, Stream

_GONE = select.POLLERR | select.POLLHUP


class Relay:
    """Copies each stream from its source to its sink, and reports to the supervisor what a master would report.

    Output is taken only when it can be passed on at once, so that a relay that must stop holds none.
    """

    def __init__(self, streams: list[Stream], control: socket.socket) -> None:
        self._streams = list(streams)
        self._control = control
        self._has_supervisor = True
        self._is_stopped = False
        #: How many lines of each stream nobody has looked at.
        self._lines: Counter[str] = Counter()

    def run(self) -> None:
        """Return when asked to stop, or at the end of all streams, which includes the end of the supervisor."""
        for stream in self._streams:
            stream.forget_state()
            for data in stream.in_transit():
                _write(stream.sink, data)
        while self._streams and not self._is_stopped:
            self._turn()
        for name, n in self._lines.items():
            self._send(f"unjudged {name} {n}")

    def _turn(self) -> None:
        events = self._wait()
        if events.get(self._control.fileno()):
            self._listen()
        for stream in list(self._streams):
            if events.get(stream.sink, 0) & _GONE:
                self._end(stream, "broken")
            elif events.get(stream.source) and _is_writable(stream.sink):
                self._pass_on(stream)

    def _wait(self) -> dict[int, int]:
        waiting = select.poll()
        if self._has_supervisor:
            waiting.register(self._control, select.POLLIN)
        for stream in self._streams:
            is_full = not _is_writable(stream.sink)
            waiting.register(stream.sink, select.POLLOUT if is_full else 0)
            if not is_full:
                waiting.register(stream.source, select.POLLIN)
        return dict(waiting.poll())

    def _listen(self) -> None:
        try:
            heard = self._control.recv(PIECE)
        except ConnectionResetError:  # it was killed with messages of ours unread
            heard = b""
        self._is_stopped = heard == b"stop"
        self._has_supervisor = heard != b""

    def _pass_on(self, stream: Stream) -> None:
        data = _read(stream.source)
        self._lines[stream.name] += data.count(b"\n")
        if not data:
            self._end(stream, "eof")
        elif not _write(stream.sink, data):
            self._end(stream, "broken")

    def _end(self, stream: Stream, how: str) -> None:
        self._streams.remove(stream)
        stream.close()
        self._send(f"{how} {stream.name}")

    def _send(self, message: str) -> None:
        with suppress(OSError):  # the supervisor is gone
            self._control.send(message.encode("ascii"), socket.MSG_NOSIGNAL)


def _is_writable(fd: int) -> bool:
    return ready_for(fd, select.POLLOUT) != 0


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, PIECE)
    except OSError as error:
        if error.errno == errno.EIO:  # so a terminal says that nobody has it open any more
            return b""
        raise


def _write(fd: int, data: bytes) -> bool:
    """Write everything; return whether the reader was there for it."""
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            _wait_until_writable(fd)
        except OSError as error:
            # A full disk loses the output of a server that runs without us, too.
            return error.errno not in (errno.EPIPE, errno.EIO, errno.ECONNRESET)
    return True


def _wait_until_writable(fd: int) -> None:
    waiting = select.poll()
    waiting.register(fd, select.POLLOUT)
    waiting.poll()
