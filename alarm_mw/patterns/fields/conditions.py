"""A rule's conditions on the fields of records."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

from alarm_mw.model.types import FieldNames, FieldTest, Record, Rule
from alarm_mw.patterns.fields.facts import Facts, facts_of_line, level_of, number_of
from alarm_mw.patterns.request_pattern import QuickPattern

#: Decides from the value of a field as text: one text for each element of an array, none if there is no such field.
Test = Callable[[Sequence[str]], bool]

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


class FieldConditions:
    """The compiled conditions of a rule on level, logger and fields. Usable from any thread."""

    def __init__(self, rule: Rule) -> None:
        """Compile the conditions; raise `PatternError` for a regexp that is wrong or has no bounded search time."""
        self._level, self._logger, self._names = rule.level, rule.logger, rule.names
        self._tests = [(each.field, [_test(one, each.field, rule.names) for one in each.tests]) for each in rule.fields]

    def meet(self, record: Record) -> bool:
        """Return whether a record meets all conditions."""
        return self._hold(Facts(record, self._names))

    def meet_line(self, line: bytes) -> bool:
        """Return whether a printed line meets all conditions."""
        return self._hold(facts_of_line(line, self._names))

    def _hold(self, facts: Facts) -> bool:
        if self._level is not None and ((level := facts.level) is None or level < self._level):
            return False
        if self._logger is not None and not f"{facts.logger}.".startswith(f"{self._logger}."):
            return False
        return all(self._holds(tests, facts.texts(field)) for field, tests in self._tests)

    @staticmethod
    def _holds(tests: Sequence[Test], texts: Sequence[str]) -> bool:
        return any(test(texts) for test in tests)


def _test(test: FieldTest, field: str, names: FieldNames) -> Test:
    """Return the function that decides one test."""
    kind, value = test.kind, test.value
    if kind == "!":
        return lambda texts: not texts
    if kind == "~":
        pattern = QuickPattern(str(value))
        return lambda texts: any(map(pattern.matches_start, texts))
    if kind in _COMPARE:
        return _comparison(_COMPARE[kind], float(value), is_level=field in names.level)
    equals = _equality(value, is_level=field in names.level)
    if kind == "!=":
        return lambda texts: bool(texts) and not any(map(equals, texts))
    return lambda texts: any(map(equals, texts))


def _comparison(compare: Callable[[float, float], bool], limit: float, *, is_level: bool) -> Test:
    def holds(texts: Sequence[str]) -> bool:
        numbers = ((level_of(text) if is_level else None) or number_of(text) for text in texts)
        return any(number is not None and compare(number, limit) for number in numbers)

    return holds


def _equality(value: str | float, *, is_level: bool) -> Callable[[str], bool]:
    """Return what decides whether a text is a value: levels by any of their names, numbers however they are written."""
    if isinstance(value, bool):
        name = "true" if value else "false"
        return lambda text: text.lower() == name
    if not isinstance(value, str):
        return lambda text: number_of(text) == value
    level = level_of(value) if is_level else None
    if level is None:
        return lambda text: text == value
    return lambda text: text == value or level_of(text) == level
