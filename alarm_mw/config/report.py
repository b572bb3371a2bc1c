"""What is wrong with a configuration: collected while it is read, and formatted for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from alarm_mw.config.settings import Settings
from alarm_mw.model.errors import OptionError, Problem
from alarm_mw.model.types import Where

#: Called with how many rules have been read, and how many there are.
OnProgress = Callable[[int, int], None]


def ignore_progress(_done: int, _total: int) -> None:
    """Report no progress."""


class Report(msgspec.Struct, frozen=True):
    """What was found so far: problems make a configuration unusable, warnings do not."""

    problems: list[Problem] = msgspec.field(default_factory=list)
    #: Mistakes that uWSGI tolerates: problems if the configuration is read strictly, else warnings.
    tolerated: list[Problem] = msgspec.field(default_factory=list)
    warnings: list[Problem] = msgspec.field(default_factory=list)
    on_progress: OnProgress = ignore_progress

    def wrong(self, where: Where, text: str) -> None:
        """Report a mistake."""
        self.problems.append(Problem(where, text))

    def refused(self, where: Where, what: str, error: OptionError) -> None:
        """Report each mistake that a plugin found in its options; `what` names the alarm."""
        for text in error.texts:
            self.wrong(where, f"{what}: {text}")

    def doubt(self, where: Where, text: str, *, is_strict: bool) -> None:
        """Report a mistake that in uWSGI's files must not prevent a start; `is_strict`: it is in TOML."""
        (self.problems if is_strict else self.tolerated).append(Problem(where, text))

    def warn(self, where: Where, text: str) -> None:
        """Report a warning."""
        self.warnings.append(Problem(where, text))


def ordinal(number: int) -> str:
    """Return ``1st``, ``2nd``, ``3rd``, ``4th`` and so on."""
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


class Examined(msgspec.Struct, frozen=True):
    """A configuration with its problems and warnings, in the order of files and lines."""

    #: Usable only if there are no problems.
    settings: Settings
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


def diagnostics(examined: Examined) -> list[dict[str, object]]:
    """Return problems and warnings as the Language Server Protocol's diagnostics, each with its ``file`` beside it.

    A range begins where the mistake is and ends with its line; lines and characters count from 0.
    """
    found = [*((problem, 1) for problem in examined.problems), *((warning, 2) for warning in examined.warnings)]
    return [
        {
            "file": problem.where.file,
            "range": {
                "start": {"line": max(problem.where.line - 1, 0), "character": max(problem.where.column - 1, 0)},
                "end": {"line": max(problem.where.line, 1), "character": 0},
            },
            "severity": severity,
            "source": "alarm-mw",
            "message": problem.text,
        }
        for problem, severity in found
    ]


def github_commands(examined: Examined) -> Iterator[str]:
    """Yield a workflow command of GitHub Actions for each problem and each warning, which annotates its line."""
    for kind, problems in (("error", examined.problems), ("warning", examined.warnings)):
        for problem in problems:
            place = {"file": problem.where.file, "line": problem.where.line, "col": problem.where.column}
            known = ",".join(f"{key}={_escaped(str(value), ':,')}" for key, value in place.items() if value)
            yield f"::{kind} {known}::{_escaped(problem.text)}"


def _escaped(text: str, marks: str = "") -> str:
    """Return a value of a workflow command; a property also escapes `marks`."""
    for mark in ("%", "\r", "\n", *marks):
        text = text.replace(mark, f"%{ord(mark):02X}")
    return text


def format_report(examined: Examined) -> Iterator[str]:
    """Yield a line for each problem and each warning, and a summary."""
    for problem in examined.problems:
        yield str(problem)
    for warning in examined.warnings:
        yield f"{warning.where}: warning: {warning.text}"
    for alarm in examined.settings.alarms:
        if said := alarm.options.about():
            yield f"{alarm.where}: alarm {alarm.name!r}: {alarm.plugin}: {said}"
    yield _summary(examined)


def _summary(examined: Examined) -> str:
    """Return the last line: ``ok: 3 alarms, 5 rules``."""
    warnings = [_count(len(examined.warnings), "warning")] if examined.warnings else []
    if examined.problems:
        return ", ".join([_count(len(examined.problems), "problem"), *warnings])
    settings = examined.settings
    monitors = [_count(len(settings.monitors), "monitor")] if settings.monitors else []
    rules = sum(not rule.is_auxiliary for rule in settings.rules)
    parts = [_count(len(settings.alarms), "alarm"), _count(rules, "rule"), *monitors, *warnings]
    return f"ok: {', '.join(parts)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
