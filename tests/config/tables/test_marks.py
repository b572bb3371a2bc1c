"""Time intervals and inhibit rules: what they say, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from alarm_mw.config.load import examine
from alarm_mw.config.report import Examined
from alarm_mw.config.settings import from_json, to_json
from alarm_mw.config.sources import Sources
from alarm_mw.model.types import InhibitRule, TimeInterval

RULE = """
alarms.a = "log:"
[[rules]]
name = "r"
pattern = "x"
alarms = "a"
resolve = "y"
mute_time_intervals = ["t"]
"""


def read(tmp_path: Path, toml: str) -> Examined:
    file = tmp_path / "alarm-mw.toml"
    file.write_text(toml)
    return examine(Sources.of_files([str(file)]), {})


@pytest.mark.parametrize(
    ("toml", "interval"),
    [
        ("times = ['0:30-6:00', '22:00-24:00']", TimeInterval(((30, 360), (1320, 1440)))),
        ("weekdays = ['mon', 'WEDNESDAY', 'Sat:mon']", TimeInterval(weekdays=(0, 2, 5, 6))),
        ("weekdays = ['tue-thu']", TimeInterval(weekdays=(1, 2, 3))),
        (
            "days_of_month = [1, '10:15', '-3:-1', -5]",
            TimeInterval(days_of_month=((1, 1), (10, 15), (-3, -1), (-5, -5))),
        ),
        ("months = ['aug', '11:february', 5]", TimeInterval(months=(1, 2, 5, 8, 11, 12))),
        ("months = [1]\ntimezone = 'Europe/Berlin'", TimeInterval(months=(1,), timezone="Europe/Berlin")),
    ],
)
def test_a_time_interval_is_read(tmp_path: Path, toml: str, interval: TimeInterval) -> None:
    """Names may be short or whole, ranges go over the end of the week and of the year."""
    examined = read(tmp_path, f"{RULE}[time_intervals.t]\n{toml}")
    assert not examined.problems
    options = examined.settings.rules[0].incident
    assert options is not None
    assert options.mute == (interval,)
    assert from_json(to_json(examined.settings)) == examined.settings


def test_an_inhibit_rule_is_read(tmp_path: Path) -> None:
    """Its matchers are kept as they are written."""
    toml = (
        '[[inhibit_rules]]\nsource_matchers = [\'rule="r"\']\ntarget_matchers = [\'a!="b", c=~"d"\']\nequal = ["host"]'
    )
    examined = read(tmp_path, f"{RULE}[time_intervals.t]\nmonths = [1]\n{toml}")
    assert not examined.problems
    (rule,) = examined.settings.inhibit_rules
    assert rule == InhibitRule(('rule="r"',), ('a!="b", c=~"d"',), ("host",), rule.where)
    assert from_json(to_json(examined.settings)).inhibit_rules == examined.settings.inhibit_rules


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        (
            "[time_intervals.s]\nmonths = [1]",
            "rule 1: mute_time_intervals: there is no [time_intervals.t]",
        ),
        ("[time_intervals]\nt = 3", "time_intervals: t: expected a table, got an integer"),
        ("[time_intervals.t]", "time interval 't': covers all time, expected 'times'"),
        ("[time_intervals.t]\ntime = []", "time interval 't': unknown key 'time' (did you mean 'times'?)"),
        ("[time_intervals.t]\ntimes = ['night']", "times: expected such as '22:00-24:00', got 'night'"),
        ("[time_intervals.t]\ntimes = ['22:00-24:01']", "times: expected such as '22:00-24:00', got"),
        ("[time_intervals.t]\ntimes = ['22:00-23:60']", "times: expected such as '22:00-24:00', got"),
        ("[time_intervals.t]\ntimes = ['22:00-6:00']", "ends before it begins: write '22:00-24:00' and '00:00-6:00'"),
        ("[time_intervals.t]\nweekdays = ['mo']", "weekdays: expected such as 'sun' or 'tue:thu', got 'mo'"),
        ("[time_intervals.t]\nweekdays = ['1']", "weekdays: expected such as"),
        ("[time_intervals.t]\nmonths = [13]", "months: expected such as 'dec' or 'jan:mar', got 13"),
        ("[time_intervals.t]\nmonths = ['a b']", "months: expected such as"),
        ("[time_intervals.t]\ndays_of_month = [0]", "days_of_month: expected such as 1, '10:15' or -1, got 0"),
        ("[time_intervals.t]\ndays_of_month = ['1:32']", "days_of_month: expected such as"),
        ("[time_intervals.t]\nmonths = [1]\ntimezone = 'Europe/Berlni'", "(did you mean 'Europe/Berlin'?)"),
        ("[[inhibit_rules]]\nsource_matchers = ['a=b']", "inhibit rule 1: 'target_matchers' is missing"),
        (
            "[[inhibit_rules]]\nsource_matchers = ['a']\ntarget_matchers = ['b=c']",
            "source_matchers: 'a': expected one of =, !=, =~ and !~ at character 2",
        ),
        (
            "[[inhibit_rules]]\nsource_matchers = ['a=b']\ntarget_matchers = []",
            "target_matchers: expected at least one matcher",
        ),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, toml: str, problem: str) -> None:
    """Each mistake is reported when the configuration is read."""
    problems = [each.text for each in read(tmp_path, RULE + toml).problems]
    assert any(problem in text for text in problems), problems
