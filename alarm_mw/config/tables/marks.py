"""What holds messages about incidents back, from tables: ``[time_intervals.NAME]`` and ``[[inhibit_rules]]``."""

from __future__ import annotations

import calendar
import re
from collections.abc import Sequence
from typing import Annotated

import msgspec

from alarm_mw.config.tables.absence import read_zone
from alarm_mw.config.tables.tree import Table, read_struct
from alarm_mw.model.types import InhibitRule, TimeInterval
from alarm_mw.system.forks import held_off

_TIMES = r"([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})"
_RANGE = r"(?i)(-?[a-z0-9]+)(?:[:-](-?[a-z0-9]+))?"

_WEEKDAYS = tuple(name.lower() for name in calendar.day_name)
_MONTHS = tuple(name.lower() for name in calendar.month_name)
_DAYS = 31
_MINUTES = 60
_MIDNIGHT = 24 * _MINUTES

#: The shortest abbreviation of a weekday or a month.
_SHORTEST = 3


class TimeIntervalKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table ``[time_intervals.NAME]``: a time at which all that is given holds."""

    times: Annotated[
        tuple[str, ...], msgspec.Meta(description='times of day, such as `["22:00-24:00", "00:00-06:00"]`')
    ] = ()
    weekdays: Annotated[
        tuple[str, ...], msgspec.Meta(description='days of the week, such as `["sat", "sun"]` or `["mon:fri"]`')
    ] = ()
    days_of_month: Annotated[
        tuple[str | int, ...],
        msgspec.Meta(description='days, such as `[1, "10:15", -1]`; negative ones count from the end of the month'),
    ] = ()
    months: Annotated[tuple[str | int, ...], msgspec.Meta(description='months, such as `["aug", "11:12"]`')] = ()
    timezone: Annotated[
        str, msgspec.Meta(description="a time zone such as `Europe/Berlin`; by default that of the server")
    ] = ""


class InhibitRuleKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of ``[[inhibit_rules]]``."""

    source_matchers: Annotated[
        tuple[str, ...], msgspec.Meta(description="while an incident fires whose labels all of these match …")
    ]
    target_matchers: Annotated[
        tuple[str, ...], msgspec.Meta(description="… messages are held back whose labels all of these match …")
    ]
    equal: Annotated[tuple[str, ...], msgspec.Meta(description="… if these labels have the same values in both")] = ()


def read_time_intervals(root: Table) -> dict[str, TimeInterval]:
    """Return the intervals by their names; what is wrong goes to the report of their tables."""
    table = root.table("time_intervals", "time_intervals")
    found: dict[str, TimeInterval] = {}
    for name in () if table is None else table.values:
        inner = table.table(name, f"time interval {name!r}") if table is not None else None
        keys = None if inner is None else read_struct(TimeIntervalKeys, inner)
        if inner is not None and keys is not None:
            found[name] = _interval(inner, keys)
    return found


def _interval(table: Table, keys: TimeIntervalKeys) -> TimeInterval:
    if not any((keys.times, keys.weekdays, keys.days_of_month, keys.months)):
        table.wrong("covers all time, expected 'times', 'weekdays', 'days_of_month' or 'months'")
    weekdays = _ranges(table, "weekdays", keys.weekdays, _WEEKDAYS)
    months = _ranges(table, "months", keys.months, _MONTHS)
    return TimeInterval(
        tuple(_minutes(table, index, text) for index, text in enumerate(keys.times)),
        tuple(sorted({day for first, last in weekdays for day in _cyclic(first, last, 0, len(_WEEKDAYS) - 1)})),
        tuple(_ranges(table, "days_of_month", keys.days_of_month, ())),
        tuple(sorted({month for first, last in months for month in _cyclic(first, last, 1, len(_MONTHS) - 1)})),
        read_zone(table, keys.timezone),
    )


def _minutes(table: Table, index: int, text: str) -> tuple[int, int]:
    """Return the first minute of the day, and the one behind the last."""
    found = re.fullmatch(_TIMES, text)
    numbers = [0, 0, 24, 0] if found is None else [int(number) for number in found.groups()]
    first, last = (numbers[at] * _MINUTES + numbers[at + 1] for at in (0, 2))
    is_time = found is not None and max(numbers[1], numbers[3]) < _MINUTES and max(first, last) <= _MIDNIGHT
    if not is_time:
        table.wrong(f"times: expected such as '22:00-24:00', got {text!r}", "times", index)
    elif first >= last:
        hint = f"write '{text.partition('-')[0]}-24:00' and '00:00-{text.partition('-')[2]}'"
        table.wrong(f"times: {text!r} ends before it begins: {hint}", "times", index)
    return first, last


def _ranges(table: Table, key: str, given: Sequence[str | int], names: Sequence[str]) -> list[tuple[int, int]]:
    """Return the first and the last number of each range."""
    ranges = []
    for index, item in enumerate(given):
        found = re.fullmatch(_RANGE, str(item))
        numbers = [] if found is None else [_number(text, names) for text in (found[1], found[2] or found[1])]
        known = [number for number in numbers if number is not None]
        if len(known) == 2:  # noqa: PLR2004  # first and last
            ranges.append((known[0], known[1]))
        else:
            expected = f"{names[-1][:_SHORTEST]!r} or '{names[1][:3]}:{names[3][:3]}'" if names else "1, '10:15' or -1"
            table.wrong(f"{key}: expected such as {expected}, got {item!r}", key, index)
    return ranges


def _number(text: str, names: Sequence[str]) -> int | None:
    """Return the number of a day or a month; None for what is none."""
    word = text.lower()
    for number, name in enumerate(names):
        if name and len(word) >= _SHORTEST and name.startswith(word):
            return number
    if not re.fullmatch("-?[0-9]{1,2}", word) or names is _WEEKDAYS:
        return None
    number = int(word)
    is_known = 1 <= number < len(names) if names else 1 <= abs(number) <= _DAYS
    return number if is_known else None


def _cyclic(first: int, last: int, lowest: int, highest: int) -> list[int]:
    """Return the numbers from the first to the last: those of ``sat:mon`` go on behind the highest."""
    if first <= last:
        return [*range(first, last + 1)]
    return [*range(first, highest + 1), *range(lowest, last + 1)]


def read_inhibit_rules(root: Table) -> tuple[InhibitRule, ...]:
    """Return the inhibit rules of a file; what is wrong goes to the report of its tables."""
    found = []
    for table in root.tables("inhibit_rules"):
        keys = read_struct(InhibitRuleKeys, table)
        if keys is None:
            continue
        sources = _matchers(table, "source_matchers", keys.source_matchers)
        targets = _matchers(table, "target_matchers", keys.target_matchers)
        found.append(InhibitRule(sources, targets, keys.equal, table.where()))
    return tuple(found)


def _matchers(table: Table, key: str, texts: Sequence[str]) -> tuple[str, ...]:
    """Return the matchers that can be read, and report the others."""
    with held_off():  # few configurations have such rules
        from alarm_mw.engine.matchers import parse_matchers  # noqa: PLC0415

    if not texts:
        table.wrong(f"{key}: expected at least one matcher, such as 'rule=\"db\"'", key)
    found = []
    for index, text in enumerate(texts):
        try:
            parse_matchers(text)
        except ValueError as error:
            table.wrong(f"{key}: {error}", key, index)
        else:
            found.append(text)
    return tuple(found)
