"""Who is at the other end of a unix socket, and whether he may be."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Self

from alarm_mw.sharing import is_shared

#: ``struct ucred`` of unix(7): process, user, group.
_CREDENTIALS = struct.Struct("3i")

#: More ancestors than any process has.
_MAX_ANCESTORS = 1000


class GuardedSocket(socket.socket):
    """A listening unix socket that hangs up on those who may not call, whatever its file's mode says."""

    lets_in: Callable[[socket.socket], bool]

    def accept(self) -> tuple[socket.socket, object]:
        """Accept a connection; raise `ConnectionAbortedError` for one that may not be, which asyncio passes over."""
        connection, address = super().accept()
        if self.lets_in(connection):
            return connection, address
        connection.close()
        raise ConnectionAbortedError

    @classmethod
    def of(cls, listener: socket.socket, lets_in: Callable[[socket.socket], bool]) -> Self:
        """Return the same socket, with a guard; it does not block."""
        guarded = cls(fileno=listener.detach())
        guarded.setblocking(False)
        guarded.lets_in = lets_in
        return guarded


def is_owners(connection: socket.socket) -> bool:
    """Return whether the process at the other end is this user's, or root's."""
    return _peer(connection)[1] in (0, os.geteuid())


def belongs_to_run(connection: socket.socket) -> bool:
    """Return whether the process at the other end is this user's or root's, or descends from our supervisor.

    The second counts only for root, whose servers run as somebody else.
    """
    if is_owners(connection):
        return True
    return is_shared() and descends(_peer(connection)[0], os.getppid())


def descends(process: int, ancestor: int) -> bool:
    """Return whether a process has an ancestor; no longer when it has ended."""
    for _ in range(_MAX_ANCESTORS):
        process = _parent(process)
        if process == ancestor:
            return True
        if process <= 1:
            return False
    return False


def _parent(process: int) -> int:
    """Return a process's parent; 0 for none, and where it is not known."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        # The name stands in brackets, and may hold any byte.
        return int(Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[1])
    return 0


def _peer(connection: socket.socket) -> tuple[int, int]:
    """Return the process and the user at the other end, as they were when it was connected."""
    process, user, _ = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    return process, user
