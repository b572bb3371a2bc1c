"""Directories in which nobody but this user, and root, can put a file in the place of ours."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from alarm_mw.system.permissions import directory_mode, is_shared

_ROOT = 0

#: The file in a state directory that a running server has locked.
LOCK_NAME = "lock"


def make_directory(path: Path) -> None:
    """Make a directory for the files of a run where it is missing. Raises `OSError`, also as `check_directory` does."""
    if is_new := not path.exists():
        path.parent.mkdir(mode=directory_mode(), parents=True, exist_ok=True)
        path.mkdir(mode=directory_mode(), exist_ok=True)
    if is_new and is_shared():
        path.chmod(directory_mode())  # whatever the umask is
    check_directory(path)


def open_lock(path: Path) -> int:
    """Return a descriptor of the lock file in a state directory, which is made where it is missing."""
    return os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def check_directory(path: Path) -> None:
    """Raise `PermissionError`, with the reason as its text, where others could do so.

    The members of its group are trusted where they may write: the volumes of containers are made so. What is above it
    is not looked at.
    """
    for facts in (path.lstat(), path.stat()):  # a link, and where it leads
        if facts.st_uid not in (_ROOT, os.geteuid()):
            _refuse(path, f"it belongs to somebody else, user {facts.st_uid}")
    if path.stat().st_mode & stat.S_IWOTH:
        _refuse(path, "everybody may write there")


def _refuse(path: Path, reason: str) -> None:
    raise PermissionError(errno.EPERM, reason, str(path))
