r"""Parses requests from the lines of access logs in the servers' default formats.

Two forms: the quoted request line that Apache's "common" format began, with what each server puts around it ::

    127.0.0.1 - - [24/Nov/2026:18:25:27 +0000] "GET /bad?x=1 HTTP/1.1" 503 6 "-" "curl/7.88.1"   gunicorn, nginx, Apache
    INFO:     127.0.0.1:51786 - "GET /bad?x=1 HTTP/1.1" 503 Service Unavailable                  uvicorn
    [2026-11-24 …] [29347] [INFO] 127.0.0.1:53774 - - [24/Nov/2026:…] "GET /bad 1.1" 503 6 "-" "…"      hypercorn
    [2026-11-24 18:25:35 +0000] 127.0.0.1 - "GET /bad HTTP/1.1" 503 0.058                        granian
    127.0.0.1 - - [24/Nov/2026 18:25:37] "GET /bad?x=1 HTTP/1.1" 503 -                           Werkzeug
    [24/Nov/2026 12:25:39] "GET /bad?x=1 HTTP/1.1" 503 3                                         Django

and uWSGI's own::

    [pid: 30383|app: 0|req: 2/2] 127.0.0.1 () {24 vars in 273 bytes} [Tue Nov 24 18:27:18 2026] GET /bad?x=1 =>
    generated 6 bytes in 1 msecs (HTTP/1.1 503) 2 headers in 81 bytes (1 switches on core 0)

Clients can influence these lines: hypercorn, granian and Werkzeug write quotes and blanks of a path unescaped. The
first place in a line that looks like a request counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote

import msgspec

from alarm_mw.model.printable import printable
from alarm_mw.model.types import RequestConditions

#: Werkzeug colors lines on a terminal.
_COLOUR = r"(?:\x1b\[[0-9;]*m)*"

_CLIENT = r"(?:(?<![^\s])(?P<client>[0-9A-Fa-f.:\[\]]{2,60}) - (?:\S+ \[[^\]\n]*\] )?)?"
_QUOTED = (
    _CLIENT + rf'"{_COLOUR}(?P<method>[A-Z][A-Z-]{{0,30}}) (?P<target>\S[^\n]*?) '
    rf'(?P<version>(?:HTTP/)?[0-9](?:\.[0-9])?){_COLOUR}" '
    r"(?P<status>[1-9][0-9]{2})(?: (?:(?P<millis>[0-9]+\.[0-9]+)|(?P<size>[0-9]{1,18})|(?P<reason>[A-Za-z])))?"
)
_UWSGI = (
    r"\] (?P<client>[0-9A-Fa-f.:]{2,60}) \([^\n]*?\) \{[0-9]+ vars in [0-9]+ bytes\} \[[^\]\n]*\] "
    r"(?P<method>[A-Z][A-Z-]{0,30}) (?P<target>\S[^\n]*?) => generated (?P<size>[0-9]{1,18}) bytes in "
    r"(?P<time>[0-9]{1,18}) (?P<unit>msecs|micros) \(HTTP/[0-9](?:\.[0-9])? (?P<status>[1-9][0-9]{2})\)"
)

_IPV4_WITH_PORT = r"([0-9.]+):[0-9]+"

#: How nginx, Apache and gunicorn escape quotes.
_ESCAPED = r'\\(?:x([0-9A-Fa-f]{2})|(["\\]))'

#: How many characters of a line are parsed: the longest request line that gunicorn accepts, and what precedes it.
#: A hostile line may contain many beginnings of requests, each of which is followed to its end.
LONGEST = 4_500


class LoggedRequest(msgspec.Struct, frozen=True):
    """A request in an access log (`RequestFacts`)."""

    method: str
    path: str
    status: int | None
    duration: float | None
    response_size: int | None
    client: str
    # Facts that an access log does not contain.
    request_size: None = None
    exception: None = None
    disconnected: bool = False
    unfinished_after: None = None


def read_line(line: str) -> LoggedRequest | None:
    """Return the request in a line of an access log; None if it is not such a line."""
    line = line[:LONGEST]
    if (found := re.search(_QUOTED, line)) is not None:
        millis, size = found["millis"], found["size"]
        return LoggedRequest(
            found["method"],
            path_of(found["target"]),
            int(found["status"]),
            float(millis) / 1000 if millis else None,
            int(size) if size else None,
            _host(found["client"] or "", has_port=bool(found["reason"]) or not found["version"].startswith("HTTP")),
        )
    if (found := re.search(_UWSGI, line)) is not None:
        unit = 1000 if found["unit"] == "msecs" else 1_000_000
        size, duration = int(found["size"]), int(found["time"]) / unit
        path = path_of(found["target"])
        return LoggedRequest(found["method"], path, int(found["status"]), duration, size, found["client"])
    return None


def path_of(target: str) -> str:
    r"""Return the path of a request's target as a middleware shows it: decoded, and what cannot be seen as ``\x1b``."""
    target = re.sub(_ESCAPED, lambda match: chr(int(match[1], 16)) if match[1] else match[2], target)
    if "://" in target[:8]:  # absolute form, as sent to a proxy (RFC 9112, section 3.2.2)
        target = "/" + target.partition("://")[2].partition("/")[2]
    path = unquote(target.partition("?")[0], errors="backslashreplace")
    return printable(path)


def _host(client: str, *, has_port: bool) -> str:
    """Return the address without its port; for IPv6 the port is indistinguishable, and stays."""
    if has_port:
        client = client.rpartition(":")[0]
    elif (found := re.fullmatch(_IPV4_WITH_PORT, client)) is not None:
        client = found[1]
    return client.strip("[]")


def pattern_for(conditions: RequestConditions) -> str:
    """Return a regexp that matches every line of an access log for which the conditions can hold.

    The prefilter uses it, so it requires as much as possible: methods and status codes.
    """
    method = "|".join(map(re.escape, conditions.methods)) or r"[A-Z][A-Z-]*"
    status = _statuses(conditions.statuses)
    quoted = rf'"{_COLOUR}(?:{method}) .* (?:HTTP/)?[0-9](?:\.[0-9])?{_COLOUR}" (?:{status})'
    return rf"{quoted}|\] (?:{method}) .* => generated [0-9]+ bytes in [0-9]+ m[a-z]+ \(HTTP/[0-9.]+ (?:{status})\)"


def _statuses(ranges: Sequence[tuple[int, int]]) -> str:
    if not ranges:
        return "[1-9][0-9][0-9]"
    return "|".join(
        f"{first // 100}[0-9][0-9]"
        if first % 100 == 0 and last == first + 99
        else "|".join(map(str, range(first, last + 1)))
        for first, last in ranges
    )
