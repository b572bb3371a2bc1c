"""When a line of a log was written, as far as the line says so."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import cache

#: How many bytes of a line are searched for a time.
_BEGINNING = 400
_DAY = 86_400.0

_MONTHS = dict(zip("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), range(1, 13), strict=True))  # noqa: SIM905
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_CLOCK = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?"
_ZONE = r"(?P<zone>Z|[+-]\d\d:?\d\d)"

#: ISO 8601, nginx's errors, access logs, ctime(3) with a year, syslog without one, and seconds since the epoch.
_TIMES = (
    rf"(?P<year>\d{{4}})[-/](?P<number>\d\d)[-/](?P<day>\d\d)[T _]{_CLOCK} ?{_ZONE}?",
    rf"(?P<day>\d\d)/{_MONTH}/(?P<year>\d{{4}}):{_CLOCK} {_ZONE}",
    rf"{_MONTH} +(?P<day>\d{{1,2}}) {_CLOCK} (?P<year>\d{{4}})",
    rf"{_MONTH} +(?P<day>\d{{1,2}}) {_CLOCK}",
    r"^\[?(?P<epoch>1\d{9}(?:\.\d+)?)\b",
)

#: Of a whole line in JSON or logfmt whose time has the form of a number.
_FIELD = r'"?(?:time|timestamp|ts|@timestamp)"?\s*[:=]\s*"?(1\d{9}(?:\.\d+)?)(\d{3})?\b'


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the regexps of times and of fields, compiled at the first use: that takes longer than a short replay."""
    numbered = (re.sub(r"\?P<(\w+)>", rf"?P<\g<1>{number}>", regexp) for number, regexp in enumerate(_TIMES))
    return re.compile("|".join(numbered)), re.compile(_FIELD)


def time_of(line: bytes, now: Callable[[], float] = time.time) -> float | None:
    """Return the seconds since the epoch that a line names, or None.

    A time without a zone is in this machine's. One without a year is of the last year in which it is not in the future.
    """
    text = line[:_BEGINNING].decode("latin-1")
    times, fields = _patterns()
    found = times.search(text)
    if found is None:
        field = fields.search(text)
        return None if field is None else float(field[1])
    number = str(found.lastgroup)[-1]
    part = {name[:-1]: value for name, value in found.groupdict().items() if name[-1] == number and value}
    if "epoch" in part:
        return float(part["epoch"])
    try:
        return _moment(part, now)
    except (ValueError, OverflowError, OSError):
        return None


def _moment(part: dict[str, str], now: Callable[[], float]) -> float:
    """Return the time that the parts name; raise `ValueError` where there is none such."""
    this_year = datetime.fromtimestamp(now(), UTC).year
    moment = datetime(
        int(part.get("year", this_year)),
        int(part["number"]) if "number" in part else _MONTHS[part["month"]],
        int(part["day"]),
        int(part["hour"]),
        int(part["minute"]),
        int(part["second"]),
        int(part.get("fraction", "0")[:6].ljust(6, "0")),
        _zone(part.get("zone")),
    )
    if "year" not in part and moment.timestamp() > now() + _DAY:
        moment = moment.replace(year=this_year - 1)
    return moment.timestamp()


def _zone(text: str | None) -> timezone | None:
    if text is None:
        return None
    if text == "Z":
        return UTC
    digits = text[1:].replace(":", "")
    ahead = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(ahead if text[0] == "+" else -ahead)


def read_moment(text: str, now: Callable[[], float] = time.time) -> float:
    """Return the time that a person gives: ``2026-03-01``, ``2026-03-01 03:12``, ``03:12`` today, or ``2h`` ago.

    Raises `ValueError` for anything else.
    """
    if ago := re.fullmatch(r"(\d+)\s*([smhdw])", text.strip()):
        return now() - int(ago[1]) * {"s": 1, "m": 60, "h": 3600, "d": _DAY, "w": 7 * _DAY}[ago[2]]
    if re.fullmatch(r"\d\d?:\d\d(:\d\d)?", text.strip()):
        text = f"{datetime.fromtimestamp(now()).astimezone().date()} {text.strip():0>5}"
    try:
        return datetime.fromisoformat(text.strip()).astimezone().timestamp()
    except ValueError:
        raise ValueError(f"expected a time such as '2026-03-01 03:12', '03:12' or '2h', got {text!r}") from None
