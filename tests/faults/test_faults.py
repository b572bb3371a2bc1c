"""Faults, injected into real servers under ``alarm-mw run``: nothing is lost, and the ledger knows it."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.catalogue import CATALOGUE


@pytest.mark.parametrize("name", CATALOGUE)
def test_nothing_is_lost(name: str, tmp_path: Path) -> None:
    """What was accepted is delivered under one id, or a dead letter, or held back for a reason; the books balance."""
    fault = CATALOGUE[name]
    for row in fault.inject(tmp_path / name, fault.short):
        assert row.lost == 0, row
        assert row.complaints == (), row
        assert row.counted == {}, row
