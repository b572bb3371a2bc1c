"""The keys ``fallback`` and ``fallback_after``: each name is that of another alarm, and no way leads back."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from alarm_mw.config.part import Declared
from alarm_mw.config.report import Report
from alarm_mw.config.settings import FALLBACK_AFTER
from alarm_mw.config.tables.tree import Table
from alarm_mw.delivery.fallback import cycle
from alarm_mw.delivery.policy import Seconds
from alarm_mw.model.keyvalue import did_you_mean


def read_fallback_after(table: Table) -> float:
    """Return the seconds after which an alarm that fails is delivered by another one."""
    key = "fallback_after"
    if key not in table.values or table.is_broken(key):
        return FALLBACK_AFTER
    try:
        seconds: float = msgspec.convert(table.values[key], Seconds, strict=not table.is_from_environ(key))
    except msgspec.ValidationError:
        table.wrong(f"{key}: expected a number of seconds, 0 or more, got {table.values[key]!r}", key)
        return FALLBACK_AFTER
    if "fallback" not in table.values:
        table.wrong(f"{key} without 'fallback', which names the alarm that delivers then", key)
    return seconds


def check_fallbacks(alarms: Iterable[Declared], report: Report) -> None:
    """Report names that no alarm has, and the first cycle."""
    declared = {each.name: each for each in alarms}
    fallbacks = {name: each.alarm.fallback for name, each in declared.items() if each.alarm is not None}
    for name, others in fallbacks.items():
        for other in others:
            if other not in declared:
                hint = did_you_mean(other, [*declared])
                report.wrong(declared[name].where, f"alarm {name!r}: fallback: unknown alarm {other!r}{hint}")
    if names := cycle(fallbacks):
        way = " to ".join(map(repr, names))
        text = f"alarm {names[0]!r}: fallback: the way leads from {way}, expected an end"
        report.wrong(declared[names[0]].where, text)
