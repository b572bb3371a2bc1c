"""Who is at the other end of a unix socket, and whether they may connect."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import socket
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from alarm_mw.system.permissions import descends, is_shared

#: ``struct ucred`` of unix(7): process, user, group.
_CREDENTIALS = struct.Struct("3i")

#: ``SO_PEERPIDFD`` of Linux 6.5: a descriptor for the very process that connected, whatever has become of its number.
_SO_PEERPIDFD = 77


class Peer(NamedTuple):
    """Who connected, by what the kernel says."""

    pid: int
    user: int

    def is_owners(self) -> bool:
        """Return whether it is this user's, or root's."""
        return self.user in (0, os.geteuid())

    def has_ended(self) -> bool:
        """Return whether no process has this number any more."""
        return not Path(f"/proc/{self.pid}").exists()


def refusal(new: Peer, others: Sequence[Peer], most: int, most_of_process: int) -> str:
    """Return why one more connection is not taken, for the log; empty where it is.

    `most` connections are taken in all, of other users' processes together three quarters of them: those that this
    user's processes need cannot be used up by others.
    """
    if Counter(peer.pid for peer in others)[new.pid] >= most_of_process:
        return f"a process has {most_of_process} connections, and gets no more"
    if len(others) >= most:
        return f"there are {most} connections, and no more are taken"
    strangers = sum(not peer.is_owners() for peer in others)
    if not new.is_owners() and strangers >= most * 3 // 4:
        return f"processes of other users have {strangers} connections, and get no more"
    return ""


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
    """Return the number of descriptors that this process may have, divided by `part`."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] // part


def process_of(connection: socket.socket) -> int:
    """Return the process at the other end, as it was when it was connected."""
    return peer_of(connection).pid


def is_owners(connection: socket.socket) -> bool:
    """Return whether the process at the other end is this user's, or root's."""
    return peer_of(connection).is_owners()


def belongs_to_run(connection: socket.socket) -> bool:
    """Return whether the process at the other end is this user's or root's, or descends from our supervisor.

    The second counts only for root, whose servers run as somebody else.
    """
    peer = peer_of(connection)
    if peer.is_owners():
        return True
    # In this order: while it has not ended, its number is nobody else's.
    return is_shared() and descends(peer.pid, os.getppid()) and not _has_ended(connection)


def _has_ended(connection: socket.socket) -> bool:
    """Return whether the process that connected has ended; False where the kernel does not say."""
    with contextlib.suppress(OSError):
        pidfd = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            return bool(poll.poll(0))
        finally:
            os.close(pidfd)
    return False


def peer_of(connection: socket.socket) -> Peer:
    """Return the process and the user at the other end, as they were when it was connected."""
    process, user, _ = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    return Peer(process, user)
