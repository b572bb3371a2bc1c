"""The model of a configuration."""

from __future__ import annotations

import pytest

from alarm_mw.config.load import load
from alarm_mw.config.settings import asks_for_deaths, host_and_port
from alarm_mw.config.sources import Sources


def test_only_a_crash_monitor_asks_for_deaths() -> None:
    """Without `alarm-segfault` nothing is watched, and the server's output stays as it is without us."""
    alarm = ("alarm", "a log:")
    assert not asks_for_deaths(load(Sources(flags=(alarm, ("alarm-backlog", "a"))), {}).monitors)
    assert asks_for_deaths(load(Sources(flags=(alarm, ("alarm-segfault", "a"))), {}).monitors)


def test_addresses() -> None:
    """IPv6 stands in brackets; a name is an address, too."""
    assert host_and_port("localhost:9464") == ("localhost", 9464)
    assert host_and_port("[::]:1") == ("::", 1)
    with pytest.raises(ValueError, match="expected 'host:port'"):
        host_and_port("localhost:70000")
