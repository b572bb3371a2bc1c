"""What is said about a configuration."""

from __future__ import annotations

import pytest

from alarm_mw.config.load import examine
from alarm_mw.config.sources import Sources
from alarm_mw.config.told import told

ALARM = ("alarm", "a log:")


@pytest.mark.parametrize(
    ("flags", "lines"),
    [
        ((), ["ok: 0 alarms, 0 rules"]),
        ((ALARM, ("log-alarm", "a x"), ("alarm-backlog", "a")), ["ok: 1 alarm, 1 rule, 1 monitor"]),
        ((("log-alarm", "b x"),), ["--log-alarm (1st): unknown alarm 'b'; no alarm is configured", "1 problem"]),
    ],
)
def test_the_last_line_sums_up(flags: tuple[tuple[str, str], ...], lines: list[str]) -> None:
    """A line for each mistake, and how much there is of what."""
    assert list(told(examine(Sources(flags=flags), {}))) == lines


def test_warnings_are_told_and_counted() -> None:
    """They come after the problems, and do not make a configuration a bad one."""
    good = list(told(examine(Sources(flags=(ALARM, ALARM)), {})))
    assert good[0].startswith("--alarm (2nd): warning: a second alarm 'a'")
    assert good[1:] == ["ok: 1 alarm, 0 rules, 1 warning"]
    bad = list(told(examine(Sources(flags=(ALARM, ALARM, ("log-alarm", "b x"))), {})))
    assert bad[-1] == "1 problem, 1 warning"
