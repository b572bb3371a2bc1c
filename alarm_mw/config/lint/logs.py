"""Warns about logs to follow that cannot be read now."""

from __future__ import annotations

import glob
import os
import re
import shutil
from collections.abc import Iterator, Sequence

from alarm_mw.config.settings import Follow
from alarm_mw.model.errors import Problem


def unreadable_logs(follows: Sequence[Follow]) -> Iterator[Problem]:
    """Yield a warning for each log that cannot be followed as things are; looks at directories, and so may block."""
    for follow in follows:
        for path in follow.paths:
            if problem := _of_path(path):
                yield Problem(follow.where, f"follow: {path}: {problem}")
        if follow.journal is not None and shutil.which("journalctl") is None:
            yield Problem(follow.where, "follow: the program journalctl is not on PATH: the journal cannot be followed")


def _of_path(path: str) -> str:
    """Return why nothing can be followed there now; empty where it can, or may be later."""
    if not glob.has_magic(path):
        if os.path.isdir(path):
            return "it is a directory; write a pattern, such as *.log in it"
        if os.path.exists(path) and not os.access(path, os.R_OK):
            return "this user cannot read it"
    folder = re.split(r"[*?\[]", path)[0].rpartition("/")[0] or "/"
    if not os.path.isdir(folder):
        return f"there is no directory {folder}"
    return "" if os.access(folder, os.R_OK | os.X_OK) else f"this user cannot read the directory {folder}"
