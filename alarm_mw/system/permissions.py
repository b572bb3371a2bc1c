"""Who may use the files and sockets of a run: this user alone; with root, the processes that descend from the run.

A server that root starts gives its rights up: its workers run as somebody else, and must reach what root has made.
The files are then open to everybody who knows their paths, and each caller's identity is checked.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat

# Standard library only: the supervisor loads this.

_ROOT = 0

#: More ancestors than any process has.
_MAX_ANCESTORS = 1000


def is_shared() -> bool:
    """Return whether processes of other users belong to a run of this process's."""
    return os.geteuid() == _ROOT


def socket_mode() -> int:
    """Return the mode of a socket for the server's processes."""
    return 0o666 if is_shared() else 0o600


def file_mode() -> int:
    """Return the mode of a file that the server's processes read."""
    return 0o644 if is_shared() else 0o600


def directory_mode() -> int:
    """Return the mode of a directory that holds them, besides files that are nobody else's business."""
    return 0o711 if is_shared() else 0o700


def is_trusted(file: os.stat_result) -> bool:
    """Return whether a file is this user's or root's, and nobody else may write it."""
    return file.st_uid in (_ROOT, os.geteuid()) and not file.st_mode & 0o022


def other_writers(user: int, group: int, mode: int) -> str:
    """Return who besides this user and root may write what has this owner, group and mode; empty where nobody may.

    A user's private group, which has the user's name and no other member, is nobody else.
    """
    if user not in (_ROOT, os.geteuid()):
        return f"user {user}"
    if mode & stat.S_IWOTH:
        return "all users"
    if mode & stat.S_IWGRP and not _is_private(group, user):
        return f"members of group {group}"
    return ""


def _is_private(group: int, user: int) -> bool:
    with contextlib.suppress(KeyError):  # one that has no name
        named, owner = grp.getgrgid(group), pwd.getpwuid(user).pw_name
        return named.gr_name == owner and set(named.gr_mem) <= {owner}
    return False


def descends(process: int, ancestor: int) -> bool:
    """Return whether a process has an ancestor; no longer when it has ended."""
    for _ in range(_MAX_ANCESTORS):
        process = parent_of(process)
        if process == ancestor:
            return True
        if process <= 1:
            return False
    return False


def parent_of(process: int, proc: str = "/proc") -> int:
    """Return a process's parent; 0 for none, and where it is not known."""
    try:
        with open(f"{proc}/{process}/stat", "rb") as file:  # noqa: PTH123  # the supervisor has no pathlib
            # The name stands in brackets, and may hold any byte.
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0
