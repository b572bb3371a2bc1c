"""The process that carries the output, a master or in its place a relay: messages to it, and the watchdog."""

from __future__ import annotations

import math
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

VARIABLE = "ALARM_MW_WATCHDOG"

#: Seconds that a master may leave a question unanswered, unless the environment says otherwise.
PATIENCE = 10.0
#: The same, until it has said that it works: thousands of rules take their time.
PATIENCE_AT_START = 120.0

#: How many looks in a row must find no answer.
LOOKS = 2


class Watchdog:
    """Counts looks at which nothing had been heard since the one before. Times are of ``time.monotonic()``.

    Only looks that were taken in time count: when this process was stopped or starved itself, so may have been the
    master, and counting starts again. That clock stands still while the machine is suspended.
    """

    def __init__(self, patience: float, now: float) -> None:
        self._pause = patience / LOOKS if patience > 0 else math.inf
        #: When to look next; never for a patience of 0.
        self.due = now + self._pause
        self._misses = 0

    def heard(self) -> None:
        """Note that the master has said something."""
        self._misses = 0

    def look(self, now: float) -> bool:
        """Return whether the master is to be given up. If not, it must be asked once more."""
        is_late = now > self.due + self._pause
        self._misses = 0 if is_late else self._misses + 1
        self.due = now + self._pause
        return self._misses > LOOKS


def patience_of(environ: Mapping[str, str]) -> float:
    """Return the seconds that the environment asks for; 0 for no watch."""
    try:
        patience = float(environ.get(VARIABLE, ""))
    except ValueError:
        return PATIENCE
    return patience if 0 <= patience < math.inf else PATIENCE


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

    def send(self, message: str) -> None:
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
        except ConnectionResetError:  # raised once, when it died with messages of ours unread; its own are still there
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
