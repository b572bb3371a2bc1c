"""Absence: a rule whose incidents begin when what it matches does not come, and end when it comes."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from alarm_mw.model.types import Absence
from alarm_mw.system.forks import held_off

#: Seconds before a time of a schedule from which on a match counts for it: clocks differ.
EARLY = 60.0

#: Seconds of downtime in the window of a scheduled match after which nobody knows whether it has come.
BLIND = 60.0

#: Of a schedule that has no further time.
NEVER = float("inf")


def next_time(absence: Absence, wall: float) -> float:
    """Return the next time of a schedule, in seconds since the epoch, as `wall` is; `NEVER` without one."""
    with held_off():  # few rules have a schedule
        from cronsim import CronSim  # noqa: PLC0415

    zone = ZoneInfo(absence.timezone) if absence.timezone else None
    begin = datetime.fromtimestamp(wall + min(EARLY, absence.grace), zone).astimezone(zone)
    found: datetime | None = next(CronSim(absence.schedule, begin), None)
    return NEVER if found is None else found.timestamp()


def is_unknown(absence: Absence, expected: float, wall: float, gap: float) -> bool:
    """Return whether a scheduled match may have come in the `gap` seconds before `wall`, when nobody looked."""
    begin = expected - min(EARLY, absence.grace)
    return gap > BLIND and begin < wall and wall - gap < expected + absence.grace
