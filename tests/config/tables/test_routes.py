"""Routes in TOML: what they add to rules, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from alarm_mw.config.build import engine_of
from alarm_mw.config.load import examine
from alarm_mw.config.report import Examined
from alarm_mw.config.settings import from_json, to_json
from alarm_mw.config.sources import Sources
from alarm_mw.model.types import Record

ALARMS = "alarms.mail = 'log:'\nalarms.sms = 'log:'\n"
RULE = "[[rules]]\npattern = 'x'\nalarms = 'mail'\nlabels = { severity = 'critical' }\n"

Read = Callable[[str], Examined]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Provide a function that reads TOML."""

    def check(toml: str) -> Examined:
        (tmp_path / "a.toml").write_text(toml)
        return examine(Sources.of_files([str(tmp_path / "a.toml")]), {})

    return check


def test_a_route_adds_alarms_to_rules_with_its_labels(read: Read) -> None:
    """They stand beside the rule's own."""
    examined = read(f"{ALARMS}{RULE}[[routes]]\nmatch = ['severity=\"critical\"']\nalarms = 'sms'\n")
    assert (examined.problems, examined.warnings) == ((), ())
    assert examined.settings.rules[0].alarms == ("mail", "sms")
    assert [route.where.line for route in examined.settings.routes] == [7]


def test_a_route_may_depend_on_the_record(read: Read) -> None:
    """What a level means is known when the record comes; the rule needs no alarm of its own."""
    toml = f"{ALARMS}[[rules]]\npattern = 'x'\n[[routes]]\nmatch = 'severity=\"critical\"'\nalarms = ['sms']\n"
    settings = read(toml).settings
    assert settings.rules[0].alarms == ()
    some = engine_of(from_json(to_json(settings)))
    for level, alarms in ((50, ("sms",)), (40, ())):
        assert some.evaluate(Record(b"x\n", "logging", 0.0, f"k{level}", level=level), 0.0).matched == alarms


def test_a_route_without_matchers_is_for_all_rules(read: Read) -> None:
    """Also for those of ready sets of rules."""
    settings = read(
        f"{ALARMS}{RULE}[[routes]]\nmatch = []\nalarms = 'sms'\n[[rules]]\nrules = 'gunicorn'\nalarms = 'mail'\n"
    ).settings
    assert {rule.alarms for rule in settings.rules if not rule.excludes} == {("mail", "sms")}


def test_incidents_are_routed_by_their_labels(read: Read) -> None:
    """All messages about an incident go to the alarms of its rule and of its routes."""
    incident = RULE + "name = 'db'\nresolve_after = '1m'\n"
    examined = read(f"{ALARMS}{incident}[[routes]]\nmatch = ['severity=\"critical\"']\nalarms = 'sms'\n")
    assert examined.problems == ()
    some = engine_of(examined.settings)
    firings = some.evaluate(Record(b"x\n", "stdout", 0.0, "k"), 0.0).firings
    assert [firing.alarm for firing in firings] == ["mail", "sms"]


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("match = ['severity']\nalarms = 'sms'", "9: routes: 0: match: 'severity': expected one of =, !=, =~ and !~"),
        ("match = ['a=~\"(\"']\nalarms = 'sms'", "9: routes: 0: match: a: the regexp '(' cannot be used"),
        ("match = [3]\nalarms = 'sms'", "9: routes: 0: match: expected a name, got an integer"),
        ("alarms = 'sms'", "8: routes: 0: 'match' is missing"),
        ("match = []", '8: routes: 0: the route names no alarm, expected alarms = ["…"]'),
        ("match = []\nalarms = 'sns'", "8: unknown alarm 'sns' (did you mean 'sms'?)"),
        ("matchers = []\nalarms = 'sms'\nmatch = []", "9: routes: 0: unknown key 'matchers' (did you mean 'match'?)"),
    ],
)
def test_what_is_wrong_is_told(read: Read, toml: str, problem: str) -> None:
    """What cannot be meant is refused, with its place and what to write."""
    (found,) = read(f"{ALARMS}{RULE}\n[[routes]]\n{toml}\n").problems
    assert problem in str(found)


def test_a_rule_needs_an_alarm_or_a_route(read: Read) -> None:
    """A rule that can fire nothing is a mistake."""
    rule = "[[rules]]\npattern = 'x'\nlabels = { severity = 'info' }\n"
    (problem,) = read(ALARMS + rule).problems
    assert problem.text == 'rule 1: the rule names no alarm, expected alarms = ["…"]'
    (problem,) = read(f"{ALARMS}{rule}[[routes]]\nmatch = 'severity=critical'\nalarms = 'sms'\n").problems
    assert problem.text == 'rule 1: the rule names no alarm, expected alarms = ["…"], or labels that a route matches'


def test_a_label_that_no_rule_has_is_doubted(read: Read) -> None:
    """It is probably misspelled."""
    (warning,) = read(f"{ALARMS}{RULE}[[routes]]\nmatch = 'severty=critical'\nalarms = 'sms'\n").warnings
    assert warning.text == "no rule has the label 'severty' (did you mean 'severity'?)"
