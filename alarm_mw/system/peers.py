"""Who is at the other end of a unix socket, and whether he may be."""

from __future__ import annotations

import os
import resource
import socket
import struct
from collections.abc import Callable
from typing import Self

from alarm_mw.system.permissions import descends, is_shared

#: ``struct ucred`` of unix(7): process, user, group.
_CREDENTIALS = struct.Struct("3i")


class GuardedSocket(socket.socket):
    """A listening unix socket that hangs up on those who may not call, whatever its file's mode says.

    It does so as well where its callers would take the last quarter of the descriptors.
    """

    lets_in: Callable[[socket.socket], bool]
    most_descriptors: int

    def accept(self) -> tuple[socket.socket, object]:
        """Accept a connection; raise `ConnectionAbortedError` for one that may not be, which asyncio passes over."""
        connection, address = super().accept()
        # The kernel gives the lowest number that is free.
        if connection.fileno() < self.most_descriptors and self.lets_in(connection):
            return connection, address
        connection.close()
        raise ConnectionAbortedError

    @classmethod
    def of(cls, listener: socket.socket, lets_in: Callable[[socket.socket], bool]) -> Self:
        """Return the same socket, with a guard; it does not block."""
        guarded = cls(fileno=listener.detach())
        guarded.setblocking(False)
        guarded.lets_in = lets_in
        guarded.most_descriptors = 3 * share_of_descriptors(4)
        return guarded


def share_of_descriptors(part: int) -> int:
    """Return one part in so many of the descriptors that this process may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] // part


def process_of(connection: socket.socket) -> int:
    """Return the process at the other end, as it was when it was connected."""
    return _peer(connection)[0]


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


def _peer(connection: socket.socket) -> tuple[int, int]:
    """Return the process and the user at the other end, as they were when it was connected."""
    process, user, _ = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    return process, user
