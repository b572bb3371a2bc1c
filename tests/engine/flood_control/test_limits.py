"""How rates and times are written."""

from __future__ import annotations

import pytest

from alarm_mw.engine.flood_control.limits import LONGEST, MOST, Limits, Rate, read_duration, read_rate, span


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("20/1h", Rate(20, 3600.0)),
        ("20/h", Rate(20, 3600.0)),
        ("1/30s", Rate(1, 30.0)),
        ("5/0.5m", Rate(5, 30.0)),
        ("100/1d", Rate(100, 86_400.0)),
        (f"{MOST}/30d", Rate(MOST, LONGEST)),
    ],
)
def test_a_rate_is_a_number_and_a_time(text: str, rate: Rate) -> None:
    """A rate is read as it is spoken."""
    assert read_rate(text) == rate


@pytest.mark.parametrize(
    "text",
    ["", "20", "20/", "/1h", "20/1", "20/1x", "20/1h ", "-1/1h", "1.5/1h", "20 / 1h", "20/1h30m", "٣/1h", "1/1e3s"],
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    """A rate that could mean two things, or nothing, is refused with an example of a good one."""
    with pytest.raises(ValueError, match=r"expected a number and a time such as '20/1h'"):
        read_rate(text)


@pytest.mark.parametrize("text", ["0/1h", f"{MOST + 1}/1h"])
def test_a_rate_allows_something(text: str) -> None:
    """A rate of nothing at all would be an alarm that never fires; one of very many would take much memory."""
    with pytest.raises(ValueError, match="expected a number from 1 to 10000 before the slash"):
        read_rate(text)


@pytest.mark.parametrize("text", ["0s", "31d", "1/0s", "1/721h"])
def test_a_time_has_bounds(text: str) -> None:
    """A time is above zero, and nothing is held back for longer than a month."""
    with pytest.raises(ValueError, match="above 0 and of at most 30 days"):
        read_rate(text) if "/" in text else read_duration(text)


@pytest.mark.parametrize(("given", "seconds"), [("90s", 90.0), ("1.5h", 5400.0), (45, 45.0), (0.5, 0.5)])
def test_a_time_has_a_unit_or_is_in_seconds(given: str | float, seconds: float) -> None:
    """Text needs its unit; a number is in seconds, as everywhere in the configuration."""
    assert read_duration(given) == seconds


@pytest.mark.parametrize("text", ["", "h", "10", "1 h", "1h30m", "an hour"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """A time without a unit, or with two, is refused with examples of good ones."""
    with pytest.raises(ValueError, match="expected a time such as '90s', '10m', '1h' or '1d'"):
        read_duration(text)


def test_limits_name_the_key_that_is_wrong() -> None:
    """Whoever made the mistake is told in which key it is."""
    with pytest.raises(ValueError, match=r"^rate: expected a number and a time"):
        Limits(rate="often")
    with pytest.raises(ValueError, match=r"^repeat_after: expected a time"):
        Limits(repeat_after="soon")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.34, "340 ms"), (6.021, "6.02 s"), (60, "1 min"), (700, "11 min 40 s"), (7500, "2 h 5 min"), (86400, "1 d")],
)
def test_times_have_units(seconds: float, expected: str) -> None:
    """The two largest that they have."""
    assert span(seconds) == expected
