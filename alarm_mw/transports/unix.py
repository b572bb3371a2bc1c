"""To a master process, over a unix socket that keeps records whole (SOCK_SEQPACKET)."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

from alarm_mw.model.types import Reason
from alarm_mw.system.sockets import reachable
from alarm_mw.transports.shared import KEPT, SharedMemory
from alarm_mw.transports.wire import Packet, encode

log = logging.getLogger(__name__)

#: Bytes of records that may wait in the kernel for the master, where the system allows it.
SEND_BUFFER = 1024 * 1024

#: Seconds without a new attempt after the master could not be reached.
RECONNECT_PAUSE = 0.2

#: As a number: to put the flags together takes as long as half of the sending.
_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

#: How many packets are left, at most, to the thread that is connecting.
MAX_LEFT = 1_000

#: How many packets are kept, at most, to be sent again.
MAX_UNKEPT = 1_000

#: Says that records wait in the memory that is shared; it has no record itself.
NUDGE = encode(Packet())

#: A number that the kernel gives each socket, and none again (``SO_COOKIE`` of socket(7)).
_SOL_SOCKET, _SO_COOKIE = int(socket.SOL_SOCKET), 57

_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ECONNREFUSED, errno.EBADF, errno.ENOTSOCK})

#: There is nobody at the path.
_NOBODY = frozenset({errno.ENOENT, errno.ECONNREFUSED, errno.EACCES})


class UnixTransport:
    """Sends packets to the master at `path`, from any thread and from signal handlers. Opens nothing until needed.

    What the socket has no room for waits in `shared`. If a master is killed before it has handed a new connection to
    its supervisor, what was sent over that connection is sent again over the next one. What is sent while another
    thread is connecting, or this one further up, is left to it; `on_lost` is then called with each packet that it could
    not send either, and why.
    """

    def __init__(self, path: str, on_lost: Callable[[bytes, Reason], None], shared: SharedMemory) -> None:
        self.path = path
        self._on_lost = on_lost
        self._shared = shared
        self._connection: _Connection | None = None
        #: Held by who connects, or puts something into the shared memory.
        self._connecting = threading.Lock()
        self._left: deque[bytes] = deque()
        #: What was sent over connections that ended with their master.
        self._unkept: list[bytes] = []
        self._not_before = 0.0
        #: Why there is no connection.
        self._error: int | None = None
        #: Whether it was logged that this user may not.
        self._is_denied = False

    def send(self, packet: bytes) -> Reason | None:
        """Return None when the packet was taken, or why it was not. Neither blocks nor raises."""
        current = self._connection
        if current is not None and not self._left and not self._shared.has_spilled() and not current.send(packet):
            return None
        if not self._connecting.acquire(blocking=False):
            return self._leave(packet)
        try:
            self._drain()  # first what was left first
            return self._pass_on(packet)
        finally:
            self._connecting.release()
            self._send_left()

    def greet(self) -> None:
        """Have a connection, so that the master knows of this process; neither blocks nor raises."""
        self.send(NUDGE)

    @property
    def is_kept(self) -> bool:
        """Whether what was sent outlives the present master."""
        current = self._connection
        return not (self._unkept or (current is not None and current.unkept()))

    def close(self) -> None:
        """Close the connection; what was sent is still read by the master."""
        current, self._connection = self._connection, None
        self._unkept = []
        if current is not None:
            current.close()

    def _leave(self, packet: bytes) -> Reason | None:
        if len(self._left) >= MAX_LEFT:
            return Reason.QUEUE_FULL
        self._left.append(packet)
        self._send_left()
        return None

    def _send_left(self) -> None:
        """Send what was left while a thread was connecting; nothing while one is."""
        while self._left and self._connecting.acquire(blocking=False):
            try:
                self._drain()
            finally:
                self._connecting.release()

    def _drain(self) -> None:
        with contextlib.suppress(IndexError):  # that was all
            while True:
                packet = self._left.popleft()
                if (reason := self._pass_on(packet)) is not None:
                    self._on_lost(packet, reason)

    def _pass_on(self, packet: bytes) -> Reason | None:
        """Send over the connection, if there is one; else let it wait where the master finds it later."""
        self._connect()
        if not self._shared.has_spilled():
            for _ in range(2):  # the second time on a new connection
                error = self._send(packet)
                if error is None:
                    return None
                if error not in _GONE:
                    break
        if packet is NUDGE or (self._connection is None and self._error in _NOBODY):
            return Reason.NO_MASTER
        if self._shared.spill(packet):
            self._send(NUDGE)
            return None
        return Reason.NO_MASTER if self._connection is None else Reason.QUEUE_FULL

    def _send(self, packet: bytes) -> int | None:
        """Return None, or the errno of the failure; a connection that has ended is closed."""
        self._connect()
        current = self._connection
        if current is None:
            return self._error or errno.EIO
        error = current.send(packet)
        if error in _GONE:
            self._connection = None
            if error != errno.EBADF:  # what an application has closed, the master reads to its end
                self._unkept += current.unkept()
            current.close()
        return error

    def _connect(self) -> None:
        """Connect, unless there is a connection or the last attempt failed a moment ago."""
        if self._connection is not None or time.monotonic() < self._not_before:
            return
        try:
            connection = _Connection(self.path)
        except OSError as error:
            self._error = error.errno or errno.EIO
            if isinstance(error, PermissionError):
                self._log_denied()
            if error.errno not in (errno.EMFILE, errno.ENFILE):  # descriptors may be free at once
                self._not_before = time.monotonic() + RECONNECT_PAUSE
            return
        self._shared.introduce(connection.socket)
        self._connection = connection
        unkept, self._unkept = self._unkept, []
        for packet in unkept:  # not a third time: the master may refuse this process
            if connection.pass_on(packet) is not None:
                self._on_lost(packet, Reason.NO_MASTER)

    def _log_denied(self) -> None:
        if not self._is_denied:
            self._is_denied = True
            text = "user %d may not reach %s: what this process logs raises no alarms; give another --state-dir"
            log.warning(text, os.geteuid(), self.path)


class _Connection:
    """A connection to the master; raises OSError where there is nobody."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.socket.setblocking(False)  # a flag of the call or the socket is not enough for gevent's
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            with reachable(path) as address:
                self.socket.connect(address)
            # Bound once: each packet asks for both.
            self._getsockopt, self._send = self.socket.getsockopt, self.socket.send
            self._cookie = self._read_cookie()
        except OSError:
            self.socket.close()
            raise
        #: What was sent while the connection would end with the master; None once the supervisor has it.
        self._unkept: deque[bytes] | None = deque(maxlen=MAX_UNKEPT)

    def send(self, packet: bytes) -> int | None:
        """Return None, or the errno of the failure."""
        error = self.pass_on(packet)
        if self._unkept is not None and error is None:
            self._note(packet)
        return error

    def pass_on(self, packet: bytes) -> int | None:
        """Do the same without keeping it to be sent again."""
        try:
            # An application may have closed our descriptor, and have something else under its number, which would get
            # the record: 0.35 of the 12 µs of a call that matches buy that it does not.
            if self._getsockopt(_SOL_SOCKET, _SO_COOKIE, 8) != self._cookie:
                return errno.EBADF
            self._send(packet, _FLAGS)
        except OSError as error:
            return error.errno or errno.EIO
        return None

    def unkept(self) -> list[bytes]:
        """Return what would end with the master, as far as this side knows."""
        self._look()
        return list(self._unkept or ())

    def _note(self, packet: bytes) -> None:
        self._look()
        unkept = self._unkept  # which another thread may take away
        if unkept is not None:
            unkept.append(packet)

    def _look(self) -> None:
        """Find out whether the master has handed the connection to its supervisor."""
        with contextlib.suppress(OSError):
            # Looked at before it is taken: the application may have something else under our number.
            if self._unkept and self._read_cookie() == self._cookie and self._receive(socket.MSG_PEEK) == KEPT:
                self._receive(0)
                self._unkept = None

    def _receive(self, flags: int) -> bytes:
        return self.socket.recv(len(KEPT), socket.MSG_DONTWAIT | flags)

    def close(self) -> None:
        """Close it, unless its number stands for something else by now."""
        with contextlib.suppress(OSError):
            if self._read_cookie() == self._cookie:
                self.socket.close()
                return
        self.socket.detach()

    def _read_cookie(self) -> bytes:
        return self._getsockopt(_SOL_SOCKET, _SO_COOKIE, 8)
