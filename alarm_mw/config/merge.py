"""Makes one Settings of what the files, the flags and the keywords say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from alarm_mw.actions.keyvalue import did_you_mean
from alarm_mw.config.hidden import warn_of_hidden
from alarm_mw.config.part import Part, Written
from alarm_mw.config.problems import Report
from alarm_mw.config.settings import Alarm, Settings
from alarm_mw.errors import PatternError
from alarm_mw.types import Rule, Where

#: Compiles a rule's regexp; raises `PatternError`.
CompileRule = Callable[[Rule], object]


def merge(parts: Sequence[Part], compile_rule: CompileRule, report: Report) -> Settings:
    """Return the alarms and rules of all parts, in order; of a number that is set twice the last counts.

    Settings can be used only if `report` has no problems afterwards.
    """
    alarms = _alarms(parts, report)
    written = [rule for part in parts for rule in part.rules]
    for rule in written:
        _check_names(rule, alarms, report)
        _check_pattern(rule.rule, compile_rule, report)
    rules = tuple(rule.rule for rule in written)
    warn_of_hidden(rules, report)
    numbers = {name: value for part in parts for name, value in part.numbers.items()}
    usable = tuple(alarm for alarm in alarms.values() if alarm is not None)
    return replace(_settings(numbers), alarms=usable, rules=rules, warnings=tuple(report.warnings))


def _settings(numbers: dict[str, float]) -> Settings:
    settings = Settings()
    return replace(
        settings,
        alarm_freq=numbers.get("alarm_freq", settings.alarm_freq),
        alarm_msg_size=int(numbers.get("alarm_msg_size", settings.alarm_msg_size)),
    )


def _alarms(parts: Iterable[Part], report: Report) -> dict[str, Alarm | None]:
    """Return the alarms by their names; None for one that is wrong in itself."""
    alarms: dict[str, Alarm | None] = {}
    first: dict[str, Where] = {}
    for alarm in (declared for part in parts for declared in part.alarms):
        if not is_text(alarm.name):
            report.wrong(alarm.where, f"the alarm's name {alarm.name!a} is no text, expected UTF-8")
        if alarm.name not in first:
            first[alarm.name] = alarm.where
            alarms[alarm.name] = alarm.alarm
            continue
        text = f"a second alarm {alarm.name!r}; the first is at {first[alarm.name]}"
        if alarm.unique:
            report.wrong(alarm.where, f"{text}, expected another name")
        else:
            report.warn(alarm.where, f"{text} and counts, this one is ignored")
    return alarms


def is_text(name: str) -> bool:
    """Return whether a name can be stored and sent: bytes that were no UTF-8 cannot."""
    return not any("\ud800" <= char <= "\udfff" for char in name)


def _check_names(written: Written, alarms: Iterable[str], report: Report) -> None:
    known = list(alarms)
    for name in written.rule.alarms:
        if name not in known:
            hint = did_you_mean(name, known) if known else "; no alarm is configured"
            report.wrong(written.names_at, f"unknown alarm {name!r}{hint}")


def _check_pattern(rule: Rule, compile_rule: CompileRule, report: Report) -> None:
    """Compile the regexp; where it breaks becomes the column."""
    try:
        compile_rule(rule)
    except PatternError as error:
        report.wrong(*_broken(rule, error))


def _broken(rule: Rule, error: PatternError) -> tuple[Where, str]:
    """Return the place and the problem, with the column of the very character where that is known."""
    if error.position is None:
        return rule.where, f"the regexp {rule.pattern!r} cannot be used: {error.text}"
    column = rule.where.column and rule.where.column + error.position
    text = f"the regexp {rule.pattern!r} breaks at its character {error.position + 1}: {error.text}"
    return replace(rule.where, column=column), text
