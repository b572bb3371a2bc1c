"""To a master process, over a unix socket that keeps records whole (SOCK_SEQPACKET)."""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import time

from alarm_mw.sockets import reachable
from alarm_mw.types import Reason

log = logging.getLogger(__name__)

#: Bytes of records that may wait in the kernel for the master, where the system allows it.
SEND_BUFFER = 1024 * 1024

#: Seconds without a new attempt after the master could not be reached.
RECONNECT_PAUSE = 0.2

#: Seconds that a record waits while another thread is connecting, which takes as long as that one gets no processor.
CONNECT_PATIENCE = 0.25

_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ECONNREFUSED, errno.EBADF})


class UnixTransport:
    """Sends packets to the master at `path`, from any thread and from signal handlers. Opens nothing until needed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket: socket.socket | None = None
        self._connecting = threading.Lock()
        self._connector = 0
        self._not_before = 0.0
        #: The log was told that this user may not.
        self._is_denied = False

    def send(self, packet: bytes) -> Reason | None:
        """Return None when the packet was taken, or why it was not. Neither blocks nor raises."""
        current = self._socket
        if current is not None:
            error = _send(current, packet)
            if error not in _GONE:
                return None if error is None else Reason.QUEUE_FULL
        fresh = self._reconnect(current)
        if fresh is None:
            return Reason.NO_MASTER
        return None if _send(fresh, packet) is None else Reason.QUEUE_FULL

    def close(self) -> None:
        """Close the connection; what was sent is still read by the master."""
        current, self._socket = self._socket, None
        if current is not None:
            current.close()

    def _reconnect(self, broken: socket.socket | None) -> socket.socket | None:
        if time.monotonic() < self._not_before or not self._may_connect():
            return None
        self._connector = threading.get_ident()
        try:
            if self._socket is broken:
                self.close()
                self._socket = self._connect()
                if self._socket is None:
                    self._not_before = time.monotonic() + RECONNECT_PAUSE
            return self._socket
        finally:
            self._connector = 0
            self._connecting.release()

    def _may_connect(self) -> bool:
        """Wait for a thread that is connecting; not for this one, which a signal's handler has interrupted there."""
        patience = 0.0 if self._connector == threading.get_ident() else CONNECT_PATIENCE
        return self._connecting.acquire(timeout=patience)

    def _connect(self) -> socket.socket | None:
        try:
            return _connect(self.path)
        except PermissionError:
            if not self._is_denied:
                self._is_denied = True
                text = "user %d may not reach %s: what this process logs raises no alarms; give another --state-dir"
                log.warning(text, os.geteuid(), self.path)
        except OSError:
            pass
        return None


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
        connection.send(packet, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError as error:
        return error.errno or errno.EIO
    return None
