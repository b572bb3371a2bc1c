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


def test_a_suspension_is_noticed_once() -> None:
    """It is part of the time that has passed, and of that in which nobody could see anything."""
    boot, awake = 100.0, 90.0
    clock = LastingClock(wall=lambda: 5000.0, boot_clock=lambda: boot, boot="this", awake_clock=lambda: awake)
    boot, awake = 110.0, 100.0
    assert clock.suspension() == 0.0
    boot, awake = 3720.0, 110.0
    assert (clock.suspension(), clock.suspension()) == (3600.0, 0.0)
    assert (clock(), clock.read().blind) == (8620.0, 3600.0)


def test_time_can_be_set_forward() -> None:
    """As tests do, so that deadlines come without waiting."""
    clock = LastingClock(wall=lambda: 5000.0, boot_clock=lambda: 50.0, boot="this")
    clock.advance(900.0)
    assert clock() == 5900.0
