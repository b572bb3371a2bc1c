"""Starts the relay process of a capture, and makes the memory that it reports in."""

from __future__ import annotations

import mmap
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

_RELAY = Path(__file__).with_name("relay.py")


def shared_file() -> BinaryIO:
    """Return an unnamed file of a page of zeros."""
    if hasattr(os, "memfd_create"):
        file: BinaryIO = os.fdopen(os.memfd_create("alarm-mw-relay"), "w+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115  # the caller closes it
    file.truncate(mmap.PAGESIZE)
    return file


def spawn(descriptors: list[int]) -> int:
    """Start the relay with copies of `descriptors` and return its process id."""
    first = max(descriptors) + 1
    numbers = range(first, first + len(descriptors))
    actions = [(os.POSIX_SPAWN_DUP2, *pair) for pair in zip(descriptors, numbers, strict=True)]
    python = _python()
    return os.posix_spawn(
        python,
        [python, "-I", "-S", str(_RELAY), *map(str, numbers)],
        os.environ,
        file_actions=actions,
        # Until it ignores them itself.
        setsigmask=(signal.SIGINT, signal.SIGHUP, signal.SIGTERM),
    )


def _python() -> str:
    """Return a Python interpreter: where Python is embedded, `sys.executable` is something else."""
    if "python" in Path(sys.executable or "").name:
        return sys.executable
    return str(Path(sys.exec_prefix, "bin", "python3"))
