"""Chance that can be had again: each run prints its seed."""

from __future__ import annotations

import os
import sys
from random import SystemRandom


def new_seed() -> int:
    """Return the seed that ``FAULTS_SEED`` asks for, else a new one, and print it."""
    seed = int(os.environ.get("FAULTS_SEED") or SystemRandom().randrange(2**32))
    sys.stderr.write(f"seed {seed}\n")
    return seed
