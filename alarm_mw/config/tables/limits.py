"""What holds alarms back, from tables: ``alarm_rate``, and ``count`` and ``within`` of a rule."""

from __future__ import annotations

from typing import TypedDict

from alarm_mw.config.tables.tree import Table, kind_of
from alarm_mw.engine.flood_control.limits import MOST, read_duration, read_rate


class Threshold(TypedDict):
    """The fields of a rule that fires at the last of several matches."""

    count: int
    within: float


def read_alarm_rate(root: Table) -> str | None:
    """Return the rate of all alarms for humans, None where there is none."""
    value = root.values.get("alarm_rate")
    if value is None or root.is_broken("alarm_rate"):
        return None
    if not isinstance(value, str):
        root.wrong(f"alarm_rate: expected a string such as '100/1h', got {kind_of(value)}", "alarm_rate")
        return None
    try:
        read_rate(value)
    except ValueError as error:
        root.wrong(f"alarm_rate: {error}", "alarm_rate")
    return value


def read_threshold(table: Table, *, excludes: bool) -> Threshold:
    """Return the rule's threshold; in the place of what is wrong stands none."""
    none = Threshold(count=1, within=0.0)
    given = [key for key in ("count", "within") if key in table.values]
    if not given:
        return none
    if excludes:
        table.wrong(f"{given[0]!r} beside 'exclude': an exclusion ends the scan and fires nothing", given[0])
        return none
    count, within = _count(table), _within(table)
    if count is None or within is None:
        return none
    if count > 1 and "within" not in table.values:
        table.wrong("'count' without 'within', expected the time in which so many matches fire, such as '1m'", "count")
    if "within" in given and count == 1:
        table.wrong("'within' without a 'count' of 2 or more", "within")
    return Threshold(count=count, within=within)


def _count(table: Table) -> int | None:
    value = table.values.get("count", 1)
    if table.is_broken("count"):
        return None
    if isinstance(value, str) and table.is_from_environ("count") and value.isascii() and value.isdecimal():
        value = int(value[:9])
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST:
        return value
    table.wrong(f"count: expected a whole number from 1 to {MOST}, got {_shown(value)}", "count")
    return None


def _within(table: Table) -> float | None:
    if "within" not in table.values:
        return 0.0
    value = table.values["within"]
    if table.is_broken("within"):
        return None
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        table.wrong(f"within: expected seconds, or a time such as '1m', got {kind_of(value)}", "within")
        return None
    try:
        return read_duration(value)
    except ValueError as error:
        table.wrong(f"within: {error}", "within")
        return None


def _shown(value: object) -> str:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else kind_of(value)
