"""System calls of the outbox that fail, each in turn."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from syscalls import Syscalls


def test_no_system_call_of_the_outbox_costs_a_firing(tmp_path: Path) -> None:
    """Whichever read, write or sync fails, once or for good: what was taken waits, and the ledger balances."""
    syscalls = Syscalls.built(tmp_path, "outbox.db")
    environ = {**os.environ, **syscalls.environ, "PYTHONPATH": os.path.dirname(sys.modules["syscalls"].__file__ or "")}
    program = Path(__file__).with_name("outbox_under_faults.py")
    outcome = subprocess.run(
        [sys.executable, program, tmp_path, "7"], env=environ, capture_output=True, text=True, check=True
    )
    *complaints, summary = outcome.stdout.splitlines()
    assert complaints == []
    assert int(summary.split()[0]) > 50
