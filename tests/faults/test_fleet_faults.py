"""Faults of a fleet, injected into real masters with a real Redis: one message, one id, nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.fleet.catalogue import CATALOGUE, acts
from faults.fleet.scale import SHORT
from faults.fleet.verdict import Verdict


def test_one_message(tmp_path: Path) -> None:
    """Machines with the same to say send one message, also when Redis forgets it; a partition and its end wake nobody.

    A silence or an acknowledgement holds on all machines, and all ledgers add up.
    """
    verdict = Verdict()
    acts(tmp_path, SHORT, verdict)
    assert verdict.complaints == [], verdict.figures


@pytest.mark.parametrize("name", ["owner-killed", "rolling"])
def test_one_message_when_machines_end(name: str, tmp_path: Path) -> None:
    """A machine that dies while it sends leaves the message to another, with its id; a deployment wakes nobody."""
    verdict = Verdict()
    CATALOGUE[name](tmp_path, SHORT, verdict)
    assert verdict.complaints == [], verdict.figures
