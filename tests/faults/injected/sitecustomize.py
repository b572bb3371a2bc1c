"""Found by a master process on its PYTHONPATH: raises an exception where a file says, once.

Without a statement in the file, it notes the statements that the threads come to.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

ORDER = Path(os.environ.get("ALARM_MW_INJECT", os.devnull))
TAKEN = ORDER.with_suffix(".taken")
REACHED = ORDER.with_suffix(".reached")

KINDS = {kind.__name__: kind for kind in (RuntimeError, MemoryError, SystemExit, KeyboardInterrupt)}


def inject(file: str, line: int, kind: str) -> None:
    """Raise an exception when a thread comes to a line for the first time."""

    def trace(frame: FrameType, event: str, _: object) -> Any:
        return in_file if frame.f_code.co_filename == file else None

    def in_file(frame: FrameType, event: str, _: object) -> Any:
        if event == "line" and frame.f_lineno == line and TAKEN.exists():
            with contextlib.suppress(FileNotFoundError):  # another thread was first
                TAKEN.unlink()
                about = f"injected at {file}:{line}"
                # What a system call may answer wherever it is made.
                raise OSError(errno.ENOMEM, about) if kind == "OSError" else KINDS[kind](about)
        return in_file

    threading.settrace(trace)


def note(files: list[str]) -> None:
    """Write down each statement of these files that a thread comes to."""
    wanted, seen = frozenset(files), set[tuple[str, int]]()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        return in_file if frame.f_code.co_filename in wanted else None

    def in_file(frame: FrameType, event: str, _: object) -> Any:
        place = (frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and place not in seen:
            seen.add(place)
            with REACHED.open("a", encoding="utf-8") as reached:
                reached.write(json.dumps(place) + "\n")
        return in_file

    threading.settrace(trace)


if "alarm_mw.master" in sys.orig_argv and ORDER.is_file():
    order = json.loads(ORDER.read_text())
    if "files" in order:
        note(**order)
    else:
        ORDER.rename(TAKEN)
        inject(**order)
