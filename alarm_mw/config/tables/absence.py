"""What rules say of absence, from tables: incidents that begin when a rule does not match."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec

from alarm_mw.config.tables.tree import Table
from alarm_mw.engine.flood_control.limits import read_duration
from alarm_mw.model.keyvalue import did_you_mean
from alarm_mw.model.types import Absence
from alarm_mw.system.forks import held_off


class AbsenceKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a rule that are about absence."""

    absent_for: Annotated[
        str | float | None,
        msgspec.Meta(description="an incident begins when the rule has not matched for this time, and a match ends it"),
    ] = None
    schedule: Annotated[
        str | None,
        msgspec.Meta(
            description="in place of `absent_for`: the times at which a match is expected, as in crontab, such as "
            '`"0 3 * * *"`. Needs `grace`'
        ),
    ] = None
    timezone: Annotated[
        str, msgspec.Meta(description="time zone of `schedule`, such as `Europe/Berlin`; by default the server's")
    ] = ""
    grace: Annotated[
        str | float | None, msgspec.Meta(description="how late the match may be, before an incident begins")
    ] = None
    armed: Annotated[
        Literal["start", "first"],
        msgspec.Meta(
            description="since when a match is expected: `start` of the server, or `first` match. By default `start`; "
            "with a `key`, always the first match of each value"
        ),
    ] = "start"


ABSENCE_KEYS = AbsenceKeys.__struct_fields__

#: What a match of such a rule does not do.
_OF_MATCHES = ("resolve", "resolve_after", "keep_firing_for", "count")


def read_absence(table: Table, keys: AbsenceKeys, key: tuple[str, ...]) -> Absence | None:
    """Return what a rule's keys say of absence; None for a rule that is not about it."""
    if keys.absent_for is None and keys.schedule is None:
        for name in ABSENCE_KEYS:
            if name in table.values:
                table.wrong(f"{name!r} without 'absent_for' or 'schedule'", name)
        return None
    given = "absent_for" if keys.absent_for is not None else "schedule"
    if keys.absent_for is not None and keys.schedule is not None:
        table.wrong("both 'absent_for' and 'schedule', expected one of them", "schedule")
    for name in _OF_MATCHES:
        if name in table.values:
            table.wrong(f"{name!r} beside {given!r}: a match ends the incident", name)
    if keys.schedule is not None and keys.grace is None:
        table.wrong("'schedule' without 'grace', which is how late a match may be, such as '1h'", "schedule")
    if keys.timezone and keys.schedule is None:
        table.wrong("'timezone' without 'schedule'", "timezone")
    if table.values.get("armed") == "start" and key:
        table.wrong("armed = \"start\" beside 'key': the values are not known before their first match", "armed")
    schedule = "" if keys.schedule is None else _schedule(table, keys.schedule)
    after, grace = (seconds(table, name, getattr(keys, name)) for name in ("absent_for", "grace"))
    return Absence(after, schedule, read_zone(table, keys.timezone), grace, keys.armed != "first" and not key)


def _schedule(table: Table, text: str) -> str:
    with held_off():  # few rules have a schedule
        from cronsim import CronSim, CronSimError  # noqa: PLC0415

    try:
        next(CronSim(text, datetime.now(UTC)))
    except (CronSimError, StopIteration) as error:
        why = str(error) or "it has no time in the next 50 years"
        table.wrong(
            f"schedule: expected five fields as in crontab, such as '0 3 * * *', got {text!r}: {why}", "schedule"
        )
        return ""
    return text


def seconds(table: Table, key: str, value: str | float | None) -> float:
    """Return seconds, 0 for none and for what is wrong, which is noted."""
    if value is None:
        return 0.0
    try:
        return read_duration(value)
    except ValueError as error:
        table.wrong(f"{key}: {error}", key)
        return 0.0


def read_zone(table: Table, name: str) -> str:
    """Return the name of a time zone; empty for none, and for what is wrong, which is noted."""
    if not name:
        return ""
    with held_off():  # few rules name one
        from zoneinfo import ZoneInfo, available_timezones  # noqa: PLC0415
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        hint = did_you_mean(name, available_timezones())
        table.wrong(f"timezone: unknown time zone {name!r}{hint}, expected such as 'Europe/Berlin'", "timezone")
        return ""
    return name
