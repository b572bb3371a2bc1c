"""Matchers that select nothing of a configuration are found."""

from __future__ import annotations

import pytest

from alarm_mw.config.lint.labels import doubts_of_silence
from alarm_mw.engine.matchers import parse_matchers
from tests.config.conftest import Examine

RULES = """
alarms.mail = "note:"
labels = { site = "eu" }
[[rules]]
name = "host_down"
pattern = 'host (?P<host>\\S+) is down'
key = ["host"]
resolve_after = "10m"
alarms = "mail"
labels = { severity = "critical", team = "ops" }
[[rules]]
name = "slow"
pattern = "slow"
alarms = "mail"
labels = { host = "db-1" }
[[monitors]]
monitor = "backlog"
name = "queue"
alarms = "mail"
"""

ALERTS = """
[[monitors]]
monitor = "alerts"
name = "others"
alarms = "mail"
"""


@pytest.mark.parametrize(
    ("match", "doubts"),
    [
        ("rule=host_down, site=eu, severity=warning, logger=app, team!=ops, host=~'web-.*'", []),
        ('rule=~"host.*|queue", team=""', []),
        ("rule=hostdown", ["there is no rule 'hostdown' (did you mean 'host_down'?)"]),
        ("rule!=slo", ["there is no rule 'slo' (did you mean 'slow'?)"]),
        ("rule=~hots.*", ['no rule has the name rule=~"hots.*"']),
        ("severity=critcal", ["no rule has the label severity=\"critcal\" (did you mean 'critical'?)"]),
        ("severty=critical", ["no rule has the label 'severty' (did you mean 'severity'?)"]),
    ],
)
def test_a_route_that_no_rule_takes_is_doubted(examined: Examine, match: str, doubts: list[str]) -> None:
    """A route is for labels that some rule, the configuration or a record can have."""
    found = examined(toml=f"{RULES}[[routes]]\nmatch = ['''{match.replace(chr(39), chr(34))}''']\nalarms = 'mail'\n")
    assert not found.problems
    assert [(warning.where.line, warning.text) for warning in found.warnings] == [(20, text) for text in doubts]


@pytest.mark.parametrize(
    ("source", "target", "equal", "doubts"),
    [
        ("rule=host_down", "rule=slow", "host", []),
        (
            "rule=host_downn",
            "rule=slow",
            "host",
            ["there is no rule with incidents 'host_downn' (did you mean 'host_down'?)"],
        ),
        ("rule=slow", "rule=host_down", "host", ["there is no rule with incidents 'slow'"]),
        ("rule=queue", "severity=error", "host", ['no rule has the label severity="error"']),
        ("rule=queue", "team=ops", "hots", ["no rule with incidents has the label 'hots' (did you mean 'host'?)"]),
    ],
)
def test_an_inhibit_rule_that_selects_nothing_is_doubted(
    examined: Examine, source: str, target: str, equal: str, doubts: list[str]
) -> None:
    """Only rules with incidents inhibit others."""
    inhibit = f"source_matchers = ['{source}']\ntarget_matchers = ['{target}']\nequal = ['{equal}']\n"
    found = examined(toml=f"{RULES}[[inhibit_rules]]\n{inhibit}")
    assert not found.problems
    assert [warning.text for warning in found.warnings] == [f"inhibit rule 1: {text}" for text in doubts]


@pytest.mark.parametrize(
    ("matchers", "doubts"),
    [
        ("alarm=mail, rule=slow", []),
        ("alarm=mial", ["there is no alarm 'mial' (did you mean 'mail'?)"]),
        ("rul=slow", ["no rule has the label 'rul' (did you mean 'rule'?)"]),
        ("site=eu", ["no rule has the label 'site'"]),
    ],
)
def test_a_silence_that_selects_nothing_is_doubted(examined: Examine, matchers: str, doubts: list[str]) -> None:
    """A silence looks at the alarm and at the labels of rules, and at no labels of the configuration."""
    assert doubts_of_silence(examined(toml=RULES).settings, parse_matchers(matchers)) == doubts


def test_alerts_of_other_programs_have_any_label(examined: Examine) -> None:
    """Their labels are not known, their monitor is."""
    settings = examined(toml=RULES + ALERTS).settings
    assert doubts_of_silence(settings, parse_matchers("instance=a, severity=page, alertname=b, rule=others")) == []
    assert doubts_of_silence(settings, parse_matchers("rule=other")) == [
        "there is no rule 'other' (did you mean 'others'?)"
    ]


def test_other_machines_may_have_other_rules(examined: Examine) -> None:
    """A silence is for the whole fleet."""
    settings = examined(toml=RULES + '[fleet]\nurl = "redis://h"\n').settings
    (text,) = doubts_of_silence(settings, parse_matchers("rule=slo"))
    assert text == "there is no rule 'slo' (did you mean 'slow'?); another machine of the fleet may have it"
