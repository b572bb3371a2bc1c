"""Recurring times, in which incidents send no messages."""

from __future__ import annotations

import calendar
from collections.abc import Iterable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from alarm_mw.model.types import TimeInterval

#: How many intervals in a row are looked at: those of a year of whole days.
_STEPS = 400

_DAY = 24 * 60

#: Seconds to the next look where the hour that is repeated in autumn leaves the end open.
_MINUTE = 60.0


def covered_until(intervals: Iterable[TimeInterval], at: float) -> float | None:
    """Return when the time ends that some interval covers, others that follow at once included; None for a free time.

    All times are in seconds since the epoch.
    """
    intervals, end = tuple(intervals), at
    for _ in range(_STEPS):
        ends = [until for each in intervals if (until := _end(each, end)) is not None]
        if not ends:
            break
        end = max(ends)
    return end if end > at else None


def _end(interval: TimeInterval, at: float) -> float | None:
    """Return when the interval that covers a time ends; None where it does not cover it."""
    local = datetime.fromtimestamp(at, ZoneInfo(interval.timezone) if interval.timezone else None)
    if not _has_day(interval, local):
        return None
    minute = local.hour * 60 + local.minute
    for first, last in interval.times or ((0, _DAY),):
        if first <= minute < last:
            midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
            days, minutes = divmod(last, _DAY)
            end = (midnight + timedelta(days=days)).replace(hour=minutes // 60, minute=minutes % 60).timestamp()
            return end if end > at else at + _MINUTE
    return None


def _has_day(interval: TimeInterval, local: datetime) -> bool:
    _, length = calendar.monthrange(local.year, local.month)
    days = [(_day(first, length), _day(last, length)) for first, last in interval.days_of_month]
    return (
        (not interval.weekdays or local.weekday() in interval.weekdays)
        and (not interval.months or local.month in interval.months)
        and (not days or any(first <= local.day <= last for first, last in days))
    )


def _day(number: int, length: int) -> int:
    """Return a day of a month of some length; a negative number counts from its end."""
    return number if number > 0 else length + 1 + number
