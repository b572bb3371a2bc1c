"""A rule's conditions on the fields of records, from its table ``where``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from alarm_mw.config.tables.tree import Table, kind_of
from alarm_mw.model.errors import PatternError
from alarm_mw.model.keyvalue import did_you_mean
from alarm_mw.model.types import FIELD_TESTS, FieldCondition, FieldNames, FieldTest
from alarm_mw.patterns.fields.facts import LEVELS, level_of, number_of
from alarm_mw.patterns.request_pattern import QuickPattern

#: What stands before an operand, the longest first.
_KIND = re.compile("|".join(sorted({*FIELD_TESTS} - {"="}, key=len, reverse=True)))

#: What other languages have for an operator of ours.
_OTHERS = {"=~": "~", "==": "", "=>": ">=", "=<": "<=", "<>": "!="}

_COMPARISONS = (">=", "<=", ">", "<")


def read_where(rule: Table, names: FieldNames) -> tuple[FieldCondition, ...]:
    """Return the conditions in a rule's table; what is wrong in them goes to the report of the table."""
    table = rule.table("where", f"{rule.name}: where")
    if table is None:
        return ()
    if not table.values:
        table.wrong("no condition: it would match every record")
    return tuple(_conditions(table, names, ""))


def _conditions(table: Table, names: FieldNames, prefix: str) -> Iterator[FieldCondition]:
    """Yield the conditions of a table; tables in it are about nested fields."""
    for key, value in table.values.items():
        if isinstance(value, Mapping):
            inner = Table(value, table.origin, (*table.path, key), f"{table.name}: {key}")
            if not value:
                inner.wrong("no condition")
            yield from _conditions(inner, names, f"{prefix}{key}.")
        elif not table.is_broken(key):
            yield FieldCondition(prefix + key, tuple(_tests(table, key, value, is_level=prefix + key in names.level)))


def _tests(table: Table, key: str, value: object, *, is_level: bool) -> Iterator[FieldTest]:
    if isinstance(value, list) and not value:
        table.wrong(f"{key}: an empty array, expected the values that the field may have", key)
    for index, each in enumerate(value if isinstance(value, list) else [value]):
        path = (key, index) if isinstance(value, list) else (key,)
        try:
            test = _test(each, is_level=is_level)
            if is_level and (hint := _hint_of_level(test)):
                text = f"{table.name}: {key}: unknown level {test.value!r}{hint}"
                table.origin.report.warn(table.where(*path), text)
            yield test
        except ValueError as error:
            table.wrong(f"{key}: {error}", *path)


def _test(value: object, *, is_level: bool) -> FieldTest:
    """Return the test that a value means; raise `ValueError` with a sentence for the user."""
    if isinstance(value, str):
        return _test_of_text(value, is_level=is_level)
    if isinstance(value, bool | int | float):
        return FieldTest("=", value)
    raise ValueError(f"expected a string, a number, a boolean or an array of these, got {kind_of(value)}")


def _test_of_text(text: str, *, is_level: bool) -> FieldTest:
    other = text[:2] if text[:2] in _OTHERS else text[:1]
    if other in _OTHERS or other == "=":
        meant = _OTHERS.get(other, "") + text[len(other) :]
        raise ValueError(f"{text!r}: there is no operator {other!r}; did you mean {meant!r}?")
    found = _KIND.match(text)
    kind = "=" if found is None else found[0]
    operand = text if found is None else text[found.end() :]
    if kind == "!" and operand:
        raise ValueError(f"{text!r}: expected '!' alone for a field that is absent, or '!=' before a value")
    if kind in _COMPARISONS:
        return FieldTest(kind, _limit(operand.strip(), kind, is_level=is_level))
    if kind == "~":
        _check_regexp(operand)
    return FieldTest(kind, operand)


def _hint_of_level(test: FieldTest) -> str:
    """Return the level that is probably meant where a record's level is compared with an unknown one.

    Applications have levels of their own, so that a level which resembles none is not doubted.
    """
    name = test.value
    is_known = test.kind not in {"=", "!="} or not isinstance(name, str) or level_of(name) is not None
    return "" if is_known else did_you_mean(str(name).lower(), LEVELS)


def _limit(operand: str, kind: str, *, is_level: bool) -> float:
    """Return the number after a comparison; of a level it may be a name."""
    level = level_of(operand) if is_level else None
    number = number_of(operand) if level is None else level
    if number is None:
        names = f" or one of {', '.join(LEVELS)}" if is_level else ""
        raise ValueError(f"expected a number{names} after {kind!r}, got {operand!r}")
    return number


def _check_regexp(pattern: str) -> None:
    """Raise `ValueError` for a regexp that is wrong, or could take long: it runs while the output waits."""
    try:
        QuickPattern(pattern)
    except PatternError as error:
        at = "" if error.position is None else f" at its character {error.position + 1}"
        raise ValueError(f"the regexp {pattern!r} cannot be used{at}: {error.text}") from None
