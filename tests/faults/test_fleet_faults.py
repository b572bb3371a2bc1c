"""Faults of a fleet, injected into real masters with a real Redis: one message, one id, nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.fleet.catalogue import IN_TESTS
from faults.fleet.scale import SHORT
from faults.fleet.verdict import Verdict


@pytest.mark.parametrize("name", IN_TESTS)
def test_one_message(name: str, tmp_path: Path) -> None:
    """Machines with the same to say send one message, also when Redis forgets it, or the machine dies that sends it.

    A partition, its end and a deployment wake nobody, a silence or an acknowledgement holds on all machines, and all
    ledgers add up.
    """
    verdict = Verdict()
    IN_TESTS[name](tmp_path, SHORT, verdict)
    assert verdict.complaints == [], verdict.figures
