"""The keys of rules."""

from __future__ import annotations

import logging
from collections.abc import Callable

from alarm_mw.config.report import Examined

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
