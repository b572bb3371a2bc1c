"""The keys of rules."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from alarm_mw.config.report import Examined
from alarm_mw.model.types import Context

TOML = "alarms.a = 'note:'\nrules = [{{ pattern = 'x', alarms = 'a', level = '{}' }}]\n"


def test_levels_that_packages_add(examined: Callable[..., Examined]) -> None:
    """A rule may name a level that a package has added to `logging`."""
    logging.addLevelName(27, "ALARM-MW-TEST")
    assert examined(toml=TOML.format("alarm-mw-test")).settings.rules[0].level == 27


def test_only_levels_of_logging_are_suggested(examined: Callable[..., Examined]) -> None:
    """The error for an unknown level does not depend on what packages have added to `logging`."""
    logging.addLevelName(27, "ALARM-MW-TEST")
    (problem,) = examined(toml=TOML.format("LOUD")).problems
    assert problem.text == (
        "rule 1: level: expected one of CRITICAL, FATAL, ERROR, WARN, WARNING, INFO, DEBUG, NOTSET or a number, "
        "got 'LOUD'"
    )


RULE = "alarms.a = 'note:'\n[[rules]]\n{} = 'x'\n{}\ncontext = {}\n"


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("{ before = 10, after = 5 }", Context(before=10, after=5)),
        ("{ before = 1 }", Context(before=1)),
        ("{ before = 0 }", None),
    ],
)
def test_lines_around_a_match(examined: Callable[..., Examined], table: str, expected: Context | None) -> None:
    """The table `context` says how many lines around a match its messages show."""
    found = examined(toml=RULE.format("pattern", "alarms = 'a'", table))
    assert not found.problems
    assert found.settings.rules[0].context == expected


@pytest.mark.parametrize(
    ("key", "table", "problem"),
    [
        ("pattern", "{ before = 101 }", "rule 1: context: before: expected int <= 100"),
        ("pattern", "{ befor = 1 }", "rule 1: context: unknown key 'befor' (did you mean 'before'?)"),
        ("pattern", "5", "context: expected a table, got an integer"),
        ("exclude", "{ before = 1 }", "'context' beside 'exclude': an exclusion fires nothing"),
    ],
)
def test_mistakes_in_context(examined: Callable[..., Examined], key: str, table: str, problem: str) -> None:
    """What is wrong with the lines around a match is told with its place."""
    alarm = "" if key == "exclude" else "alarms = 'a'"
    found = [str(each) for each in examined(toml=RULE.format(key, alarm, table)).problems]
    assert len(found) == 1
    assert found[0].startswith("a.toml:5: ")
    assert found[0].endswith(problem)


def test_a_label_beside_the_labels_is_explained(examined: Callable[..., Examined]) -> None:
    """A severity is a label."""
    (problem,) = examined(
        toml="alarms.a = 'note:'\n[[rules]]\npattern = 'x'\nalarms = 'a'\nseverity = 'critical'"
    ).problems
    assert str(problem) == "a.toml:5: rule 1: unknown key 'severity': write labels = { severity = … }"
