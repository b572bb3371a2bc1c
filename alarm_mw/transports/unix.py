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

log = logging.getLogger(__name__)

#: Bytes of records that may wait in the kernel for the master, where the system allows it.
SEND_BUFFER = 1024 * 1024

#: Seconds without a new attempt after the master could not be reached.
RECONNECT_PAUSE = 0.2

#: As a number: to put the flags together takes as long as half of the sending.
_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

#: How many packets are left, at most, to the thread that is connecting.
MAX_LEFT = 1_000

_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ECONNREFUSED, errno.EBADF})


class UnixTransport:
    """Sends packets to the master at `path`, from any thread and from signal handlers. Opens nothing until needed.

    What is sent while another thread is connecting, or this one further up, is left to it; `on_lost` is then called
    with each packet that it could not send either, and why.
    """

    def __init__(self, path: str, on_lost: Callable[[bytes, Reason], None]) -> None:
        self.path = path
        self._on_lost = on_lost
        self._socket: socket.socket | None = None
        self._connecting = threading.Lock()
        self._left: deque[bytes] = deque()
        self._not_before = 0.0
        #: The log was told that this user may not.
        self._is_denied = False

    def send(self, packet: bytes) -> Reason | None:
        """Return None when the packet was taken, or why it was not. Neither blocks nor raises."""
        current = self._socket
        if current is not None and not self._left:
            error = _send(current, packet)
            if error not in _GONE:
                return None if error is None else Reason.QUEUE_FULL
            self._drop(current)
        if not self._connecting.acquire(blocking=False):
            return self._leave(packet)
        try:
            self._connect()
            self._drain()  # first what was left first
            return self._pass_on(packet)
        finally:
            self._connecting.release()
            self._send_left()

    def close(self) -> None:
        """Close the connection; what was sent is still read by the master."""
        current, self._socket = self._socket, None
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
                self._connect()
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
        """Send over the connection, if there is one."""
        current = self._socket
        if current is None:
            return Reason.NO_MASTER
        return None if _send(current, packet) is None else Reason.QUEUE_FULL

    def _drop(self, broken: socket.socket) -> None:
        """Close a connection that has ended, unless another thread has another one by now."""
        if self._socket is broken:
            self.close()

    def _connect(self) -> None:
        """Have a connection, unless there is one or that was in vain a moment ago."""
        if self._socket is not None or time.monotonic() < self._not_before:
            return
        try:
            self._socket = _connect(self.path)
        except PermissionError:
            self._tell_denied()
        except OSError:
            pass
        if self._socket is None:
            self._not_before = time.monotonic() + RECONNECT_PAUSE

    def _tell_denied(self) -> None:
        if not self._is_denied:
            self._is_denied = True
            text = "user %d may not reach %s: what this process logs raises no alarms; give another --state-dir"
            log.warning(text, os.geteuid(), self.path)


def _connect(path: str) -> socket.socket:
    """Return a new connection; raise OSError where there is nobody."""
    fresh = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        fresh.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        with reachable(path) as address:
            fresh.connect(address)
    except OSError:
        fresh.close()
        raise
    return fresh


def _send(connection: socket.socket, packet: bytes) -> int | None:
    """Return None, or the errno of the failure."""
    try:
        connection.send(packet, _FLAGS)
    except OSError as error:
        return error.errno or errno.EIO
    return None
