"""How often something is asked for."""

from __future__ import annotations

from alarm_mw.master.crashes.pace import Pace


def test_what_happens_is_followed_closely_for_a_while() -> None:
    """Before the first event, and when the last one is long ago, questions are seldom."""
    pace = Pace(0.1, 0.5, 10.0)
    pauses = [pace.pause(0.0)]
    for happened in (1.0, 5.0):
        pace.note(happened)
        pauses += [pace.pause(happened), pace.pause(happened + 9.9)]
    assert [*pauses, pace.pause(15.0)] == [0.5, 0.1, 0.1, 0.1, 0.1, 0.5]
