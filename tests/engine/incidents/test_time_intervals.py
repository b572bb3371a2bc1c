"""Recurring times: when they begin and end, in the calendar and over changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.engine.incidents.time_intervals import covered_until
from alarm_mw.model.types import TimeInterval

BERLIN = "Europe/Berlin"
NIGHT = TimeInterval(times=((1320, 1440), (0, 360)), timezone=BERLIN)
WEEKEND = TimeInterval(weekdays=(5, 6), timezone=BERLIN)


def at(text: str, zone: str = BERLIN, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


@pytest.mark.parametrize(
    ("intervals", "now", "end"),
    [
        ([NIGHT], "2026-11-30T21:59", None),
        ([NIGHT], "2026-11-30T22:00", "2026-12-01T06:00"),
        ([NIGHT], "2026-12-01T05:59", "2026-12-01T06:00"),
        ([NIGHT], "2026-12-01T06:00", None),
        ([WEEKEND], "2026-12-04T23:59", None),
        ([WEEKEND], "2026-12-05T00:00", "2026-12-07T00:00"),
        ([WEEKEND, NIGHT], "2026-12-04T23:00", "2026-12-07T06:00"),
        ([TimeInterval(((60, 120),), (0,), timezone=BERLIN)], "2026-11-30T01:30", "2026-11-30T02:00"),
        ([TimeInterval(((60, 120),), (1,), timezone=BERLIN)], "2026-11-30T01:30", None),
        ([TimeInterval(days_of_month=((1, 2),), timezone=BERLIN)], "2026-12-01T08:00", "2026-12-03T00:00"),
        ([TimeInterval(days_of_month=((-2, -1),), timezone=BERLIN)], "2028-02-28T08:00", "2028-03-01T00:00"),
        ([TimeInterval(days_of_month=((-2, -1),), timezone=BERLIN)], "2027-02-26T08:00", None),
        ([TimeInterval(months=(12,), timezone=BERLIN)], "2026-12-05T08:00", "2027-01-01T00:00"),
        ([TimeInterval(months=(1,), timezone=BERLIN)], "2026-12-05T08:00", None),
        # The hour from 02:00 is left out in spring, and comes twice in autumn.
        ([TimeInterval(((60, 150),), timezone=BERLIN)], "2026-03-29T01:30", "2026-03-29T03:30"),
        ([NIGHT], "2026-10-24T23:00", "2026-10-25T06:00"),
    ],
)
def test_an_interval_ends_when_the_calendar_says_so(intervals: list[TimeInterval], now: str, end: str | None) -> None:
    """What follows at once is one time with it; all that an interval gives must hold."""
    assert covered_until(intervals, at(now)) == (None if end is None else at(end))


def test_the_hour_that_comes_twice_is_covered_twice() -> None:
    """What ends in it ends at its second coming."""
    interval = TimeInterval(((120, 165),), timezone=BERLIN)
    for fold in (0, 1):
        now = at("2026-10-25T02:30", fold=fold)
        assert covered_until([interval], now) == at("2026-10-25T02:45", fold=fold)
    west = TimeInterval(((60, 90),), timezone="Atlantic/Azores")
    assert covered_until([west], at("2026-10-25T00:59", "Atlantic/Azores", fold=1)) is None


def test_a_time_without_a_zone_is_the_servers() -> None:
    """It means the local time of the process."""
    local = datetime(2026, 11, 30, 12, 30).astimezone()  # local
    end = local.replace(hour=13, minute=0)
    assert covered_until([TimeInterval(((720, 780),))], local.timestamp()) == end.timestamp()


@given(
    st.lists(
        st.sampled_from([NIGHT, WEEKEND, TimeInterval(((0, 1440),), (0, 1), ((1, 9), (-3, -1)), (3, 10))]), max_size=3
    ),
    st.integers(1_700_000_000, 1_800_000_000),
)
def test_the_end_is_the_first_minute_that_is_free(intervals: list[TimeInterval], now: int) -> None:
    """Until then every minute is covered, and then none is."""
    end = covered_until(intervals, now)
    if end is not None:
        assert end > now
        assert covered_until(intervals, end) is None
        for minute in range(now, min(int(end), now + 86_400), 3_600):
            assert covered_until(intervals, minute) == end


def test_what_covers_all_time_is_looked_at_again() -> None:
    """The end is then more than a year away."""
    now = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    end = covered_until([TimeInterval(((0, 1440),), timezone="UTC")], now)
    assert end is not None
    assert end - now >= 365 * 86_400
