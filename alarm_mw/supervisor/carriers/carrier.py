"""The process that carries the output: a master, or in its place a relay; and how the supervisor talks with it."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from alarm_mw.supervisor.carriers.watchdog import Watchdog

_MESSAGE = 4096
_DESCRIPTOR = struct.Struct("i")


class Message(NamedTuple):
    """What a carrier said: a word, what it is about, and the descriptor that came with it."""

    verb: str
    subject: str
    fd: int | None = None


class Carrier:
    """A child that takes the output from the server's streams to ours. Messages never block."""

    def __init__(self, pid: int, control: socket.socket, watchdog: Watchdog | None = None) -> None:
        self.pid = pid
        self.control = control
        #: Of a master; a relay is not watched.
        self.watchdog = watchdog
        self.is_master = watchdog is not None
        #: It was killed since it did not answer.
        self.has_hung = False
        #: Until it closes its end.
        self.is_talking = True
        #: When it said that it works (``time.monotonic()``).
        self.ready_since: float | None = None

    def tell(self, message: str) -> None:
        """Send a message; one that does not listen any more is reaped in a moment."""
        with suppress(OSError):
            self.control.send(message.encode("ascii"), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def said(self) -> Iterator[Message]:
        """Yield the messages that wait."""
        while self.is_talking and (message := self._receive()):
            yield message

    def _receive(self) -> Message | None:
        flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        try:
            data, extras, _flags, _address = self.control.recvmsg(_MESSAGE, socket.CMSG_LEN(_DESCRIPTOR.size), flags)
        except BlockingIOError:
            return None
        except ConnectionResetError:  # told once, when it died with messages of ours unread; its own are still there
            return self._receive()
        if not data:
            self.is_talking = False
            return None
        verb, _, subject = data.decode("ascii", "replace").partition(" ")
        return Message(verb, subject, _descriptor(extras))

    def lived(self) -> float:
        """Return for how many seconds it has worked; 0 when it never said that it does."""
        return 0.0 if self.ready_since is None else time.monotonic() - self.ready_since


def _descriptor(extras: list[tuple[int, int, bytes]]) -> int | None:
    for level, kind, data in extras:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and len(data) >= _DESCRIPTOR.size:
            (fd,) = _DESCRIPTOR.unpack_from(data)
            return int(fd)
    return None
