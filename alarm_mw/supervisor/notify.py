"""Passes the server's notifications on to systemd, which listens to the main process of a unit only: to us.

See sd_notify(3), and ``NotifyAccess=`` in systemd.service(5).
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress

from alarm_mw.system.permissions import descends

VARIABLE = "NOTIFY_SOCKET"

#: Seconds that systemd may take to make room for a message.
PATIENCE = 1

_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid
_MAX_BYTES = 65536
_MAX_FDS = 253  # SCM_MAX_FD
_TIME_LIMIT = struct.Struct("ll")  # struct timeval


class NotifySocket:
    """A socket for the server's messages, and the one of systemd.

    It is abstract, so that a server that has given up its privileges can reach it, too. What does not come from a
    descendant of ours, from our user or from root is thrown away.
    """

    def __init__(
        self,
        systemd: str,
        *,
        listening: socket.socket | None = None,
        is_ours: Callable[[int, int], bool] | None = None,
    ) -> None:
        self._is_ours = is_ours or is_sent_for_server
        self._server = listening or _listening()
        self._server.setblocking(False)
        self._systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._systemd.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIME_LIMIT.pack(PATIENCE, 0))
        self._address = f"\0{systemd[1:]}" if systemd.startswith("@") else systemd

    @classmethod
    def of(cls, environ: Mapping[str, str], listening: socket.socket | None = None) -> NotifySocket | None:
        """Return one where systemd or a substitute listens; with a socket that the server knows already."""
        systemd = environ.get(VARIABLE, "")
        return cls(systemd, listening=listening) if systemd.startswith(("/", "@")) else None

    @property
    def server_env(self) -> dict[str, str]:
        """What the server's environment must say."""
        name: bytes = self._server.getsockname()
        return {VARIABLE: f"@{os.fsdecode(name[1:])}"}

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the server has said something."""
        return self._server.fileno()

    def close(self) -> None:
        """Listen no longer."""
        self._server.close()
        self._systemd.close()

    def pass_on(self) -> None:
        """Send systemd what the server has said. Blocks for at most `PATIENCE` seconds for each message."""
        with suppress(BlockingIOError):
            while True:
                self._pass_one_on()

    def _pass_one_on(self) -> None:
        space = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(_MAX_FDS * 4)
        message, extras, *_ = self._server.recvmsg(_MAX_BYTES, space)
        fds = array.array("i")
        sender = (0, -1, -1)
        for level, kind, data in extras:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
            elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                sender = _CREDENTIALS.unpack(data)
        try:
            if self._is_ours(sender[0], sender[1]) and (told := without_main_pid(message)):
                self._send(told, fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _send(self, message: bytes, fds: array.array[int]) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else []
        with suppress(OSError):  # systemd is gone, or has no time for us
            self._systemd.sendmsg([message], rights, 0, self._address)


def _listening() -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    listening.bind("")  # the kernel finds a name
    return listening


def without_main_pid(message: bytes) -> bytes:
    """Return a message without the claim to be the unit's main process, which we are."""
    return b"\n".join(line for line in message.split(b"\n") if not line.startswith(b"MAINPID"))


def is_sent_for_server(pid: int, user: int) -> bool:
    """Return whether a message's sender may speak for the server."""
    return user in {0, os.geteuid()} or descends(pid, os.getpid())
