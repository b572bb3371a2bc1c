"""The times that lines of logs name."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.cli.replay.times import read_moment, time_of

#: A moment in June, in this machine's zone.
NOW = datetime(2026, 6, 15, 12, 0, 0).astimezone().timestamp()


def local(*parts: int) -> float:
    return datetime(*parts).astimezone().timestamp()  # type: ignore[arg-type]  # year, month, day, …


@pytest.mark.parametrize(
    ("line", "moment"),
    [
        (b"2026-03-01 03:12:07,123 ERROR x", local(2026, 3, 1, 3, 12, 7) + 0.123),
        (b"x 2026-03-01T03:12:07Z y", 1772334727.0),
        (b'{"time": "2026-03-01T05:12:07.5+02:00"}', 1772334727.5),
        (b'10.0.0.1 - - [01/Mar/2026:03:12:07 +0000] "GET /"', 1772334727.0),
        (b"[Sun Dec 04 04:47:44 2005] [error] x", local(2005, 12, 4, 4, 47, 44)),
        (b"2026/03/01 03:12:07 [error] 1#1: x", local(2026, 3, 1, 3, 12, 7)),
        (b"Jun 14 15:16:01 combo sshd: x", local(2026, 6, 14, 15, 16, 1)),
        (b"Dec  4 15:16:01 combo sshd: x", local(2025, 12, 4, 15, 16, 1)),
        (b"1772334727.250 x", 1772334727.25),
        (b'{"msg": "x", "ts": 1772334727123}', 1772334727.0),
        (b"ts=1772334727.5 msg=x", 1772334727.5),
        (b"order 1772334727 x", None),
        (b"2026-13-45 99:99:99 x", None),
        (b"Feb 30 10:00:00 x", None),
        (b"no time at all", None),
        (b"x" * 500 + b"2026-03-01T03:12:07Z", None),
    ],
)
def test_the_forms_of_times(line: bytes, moment: float | None) -> None:
    """Each usual form is understood; one without a year is never in the future; nonsense is no time."""
    assert time_of(line, lambda: NOW) == moment


@given(st.binary(max_size=300))
def test_no_line_breaks_it(line: bytes) -> None:
    """Whatever a line is, it has a time or none."""
    assert time_of(line) is None or time_of(line) is not None


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-01", local(2026, 3, 1)),
        ("2026-03-01 03:12", local(2026, 3, 1, 3, 12)),
        ("2026-03-01T03:12:07Z", 1772334727.0),
        ("03:12", local(2026, 6, 15, 3, 12)),
        ("3:12", local(2026, 6, 15, 3, 12)),
        ("2h", NOW - 7200),
        ("30 m", NOW - 1800),
    ],
)
def test_what_people_write(text: str, moment: float) -> None:
    """A date, a time of today, or how long ago."""
    assert read_moment(text, lambda: NOW) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "25:00", "2026-02-30", "2 years"])
def test_what_is_no_time(text: str) -> None:
    """Anything else is refused, with an example of what is expected."""
    with pytest.raises(ValueError, match="expected a time such as '2026-03-01 03:12'"):
        read_moment(text, lambda: NOW)
