"""What is said about a configuration, by whoever has looked at it."""

from __future__ import annotations

from collections.abc import Iterator

from alarm_mw.config.load import Examined


def told(examined: Examined) -> Iterator[str]:
    """Yield a line for each problem and each warning, and a summary."""
    for problem in examined.problems:
        yield str(problem)
    for warning in examined.warnings:
        yield f"{warning.where}: warning: {warning.text}"
    for alarm in examined.settings.alarms:
        if said := alarm.options.about():
            yield f"{alarm.where}: alarm {alarm.name!r}: {alarm.plugin}: {said}"
    yield summary(examined)


def summary(examined: Examined) -> str:
    """Return the last line: ``ok: 3 alarms, 5 rules``."""
    warnings = [_count(len(examined.warnings), "warning")] if examined.warnings else []
    if examined.problems:
        return ", ".join([_count(len(examined.problems), "problem"), *warnings])
    settings = examined.settings
    monitors = [_count(len(settings.monitors), "monitor")] if settings.monitors else []
    parts = [_count(len(settings.alarms), "alarm"), _count(len(settings.rules), "rule"), *monitors, *warnings]
    return f"ok: {', '.join(parts)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
