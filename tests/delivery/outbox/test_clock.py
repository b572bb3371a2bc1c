"""The clock of the outbox, on a machine that does not tell one start from another."""

from __future__ import annotations

from pathlib import Path

import pytest

from alarm_mw.delivery.outbox.clock import LastingClock


def test_without_proc_the_time_of_day_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody can say whether the machine has been started again, its own seconds are not compared."""

    def fail(*_: object, **_options: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", fail)
    before = LastingClock(wall=lambda: 5000.0, boot_clock=lambda: 50.0).read()
    clock = LastingClock(before, wall=lambda: 5010.0, boot_clock=lambda: 2.0)
    assert (before.boot, clock.gap, clock()) == ("", 10.0, 5010.0)
