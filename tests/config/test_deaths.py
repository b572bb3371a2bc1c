"""Whether a configuration asks for deaths of processes to be looked out for."""

from __future__ import annotations

from alarm_mw.config.deaths import asks_for_deaths
from alarm_mw.config.load import load
from alarm_mw.config.sources import Sources


def test_only_a_crash_monitor_asks_for_deaths() -> None:
    """Without `alarm-segfault` nothing is watched, and the server's output stays as it is without us."""
    alarm = ("alarm", "a log:")
    assert not asks_for_deaths(load(Sources(flags=(alarm, ("alarm-backlog", "a"))), {}).monitors)
    assert asks_for_deaths(load(Sources(flags=(alarm, ("alarm-segfault", "a"))), {}).monitors)
