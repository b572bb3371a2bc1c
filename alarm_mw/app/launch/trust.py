"""Directories in which nobody but this user, and root, can put a file in the place of ours."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_ROOT = 0


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
