"""The limits of an alarm in a configuration, and their notation."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

#: The largest count of firings or matches. Each takes eight bytes of memory.
MOST = 10_000

#: The longest time, in seconds: thirty days.
LONGEST = 30 * 86_400.0

#: How a limit is switched off.
NO_TIME = (0, "0", "0s")

#: The default of ``repeat_after`` for alarms that write to people.
REPEAT_AFTER = "10m"

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)?([smhd])")
_NUMBER = re.compile(r"[0-9]{1,9}")


class Rate(msgspec.Struct, frozen=True):
    """At most `count` firings in any `window` seconds."""

    count: int
    window: float


def read_duration(given: str | float) -> float:
    """Return the seconds of a number, or of ``90s``, ``10m``, ``1.5h`` or ``1d``.

    Raises `ValueError` with a sentence for the user.
    """
    if not isinstance(given, str):
        return _in_bounds(given, given)
    found = _DURATION.fullmatch(given)
    if found is None or found[1] is None:
        raise ValueError(f"expected a time such as '90s', '10m', '1h' or '1d', got {given!r}")
    return _in_bounds(float(found[1]) * _UNITS[found[2]], given)


def span(seconds: float) -> str:
    """Return a time for people: ``340 ms``, ``6.02 s``, ``11 min 40 s``, ``2 h 5 min``."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:  # noqa: PLR2004  # of a minute
        return f"{seconds:.3g} s"
    parts: list[str] = []
    rest = round(seconds)
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        n, rest = divmod(rest, size)
        if n:
            parts.append(f"{n} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def read_rate(text: str) -> Rate:
    """Parse ``20/1h`` or ``20/h``; raise `ValueError` with a sentence for the user."""
    number, slash, time = text.partition("/")
    found = _DURATION.fullmatch(time)
    if not slash or found is None or _NUMBER.fullmatch(number) is None:
        raise ValueError(f"expected a number and a time such as '20/1h', '1/30s' or '5/m', got {text!r}")
    if not 1 <= int(number) <= MOST:
        raise ValueError(f"expected a number from 1 to {MOST} before the slash, got {text!r}")
    return Rate(int(number), _in_bounds(float(found[1] or 1) * _UNITS[found[2]], text))


def _in_bounds(seconds: float, given: str | float) -> float:
    if not 0 < seconds <= LONGEST:
        got = repr(given) if isinstance(given, str) else f"{given:g}"
        raise ValueError(f"expected a time above 0 and of at most 30 days, got {got}")
    return seconds


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The limits of an alarm: the keys of its table ``limits``."""

    rate: Annotated[
        str | None,
        msgspec.Meta(description="maximum number of messages per interval, such as `20/1h` or `1/30s`"),
    ] = None
    repeat_after: Annotated[
        str | float | None,
        msgspec.Meta(
            description="seconds, or a time such as `1h`, in which no two messages of the alarm have the same "
            "fingerprint; by default `10m` for humans, and nothing in uWSGI's files; `0` sends every message, whatever "
            "`alarm_freq` is"
        ),
    ] = None
    digest: Annotated[
        bool | None,
        msgspec.Meta(
            description="report what was held back when its time is over; by default for all but `alarm_freq`, and for "
            "humans only; `true` for that as well, `false` for nothing"
        ),
    ] = None
    for_humans: Annotated[
        bool | None,
        msgspec.Meta(
            description="counts for `alarm_rate`, is held back by it and by `repeat_after`, and sends digests; the "
            "default depends on the action; `false` sends every message"
        ),
    ] = None

    def __post_init__(self) -> None:
        try:
            key = "rate"
            if self.rate is not None:
                read_rate(self.rate)
            key = "repeat_after"
            if self.repeat_after is not None and self.repeat_after not in NO_TIME:
                read_duration(self.repeat_after)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
