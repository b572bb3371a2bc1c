"""Which start of the machine this is, and how long ago it was."""

from __future__ import annotations

import time
from pathlib import Path


def boot_id() -> str:
    """Return what identifies this start of the machine; empty where that is not known.

    Every process of the machine can read it, and nobody outside.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def since_boot() -> float:
    """Return the seconds since the machine has started, suspension included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
