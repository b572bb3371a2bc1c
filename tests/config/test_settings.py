"""The model of a configuration."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from alarm_mw.config.load import load
from alarm_mw.config.report import Examined
from alarm_mw.config.settings import asks_for_deaths
from alarm_mw.config.sources import Sources
from alarm_mw.config.tables.web import host_and_port


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


def test_ack_expires_after_a_duration(examined: Callable[..., Examined]) -> None:
    """A value of `[ack] expire` that is no duration is reported when the configuration is read."""
    assert examined(toml="[ack]\nexpire = '2h'\n").settings.ack.expire == "2h"
    (problem,) = examined(toml="[ack]\nexpire = 'soon'\n").problems
    assert str(problem).startswith("a.toml:1: ack: expire: expected a time such as")
