"""Requests read from access logs: lines as the servers have written them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.engine.rules import compile_rule
from alarm_mw.model.types import RequestConditions, Rule
from alarm_mw.patterns.access_log import LONGEST, LoggedRequest, path_of, pattern_for, read_line
from alarm_mw.patterns.prefilter import Prefilter

HERE = "127.0.0.1"

#: What gunicorn 27, uvicorn 0.54, hypercorn 0.18, granian 2.8, Werkzeug 3.1, Django 5.2 and uWSGI 2.0 have printed,
#: each for the same requests; and the formats that nginx and Apache document.
LINES = [
    (
        '127.0.0.1 - - [24/Nov/2026:18:25:28 +0000] "GET /bad?token=1%22x HTTP/1.1" 503 6 "-" "curl/7.88.1"',
        LoggedRequest("GET", "/bad", 503, None, 6, HERE),
    ),
    (
        r'127.0.0.1 - - [24/Nov/2026:18:25:28 +0000] "GET /a\"b HTTP/1.1" 200 6 "-" "a\"b\c"',
        LoggedRequest("GET", '/a"b', 200, None, 6, HERE),
    ),
    (
        'INFO:     127.0.0.1:51802 - "POST /up%20load/%C3%A9 HTTP/1.1" 200 OK',
        LoggedRequest("POST", "/up load/é", 200, None, None, HERE),
    ),
    ('INFO:     ::1:51802 - "GET / HTTP/1.1" 200 OK', LoggedRequest("GET", "/", 200, None, None, "::1")),
    ('127.0.0.1:51802 - "GET / HTTP/1.1" 200', LoggedRequest("GET", "/", 200, None, None, HERE)),
    (
        (
            "[2026-11-24 18:25:34 +0000] [29347] [INFO] 127.0.0.1:53794 - - [24/Nov/2026:18:25:34 +0000] "
            '"POST /up load/é 1.1" 200 6 "-" "agent "q" [x]"'
        ),
        LoggedRequest("POST", "/up load/é", 200, None, 6, HERE),
    ),
    (
        '[2026-11-24 18:25:35 +0000] 127.0.0.1 - "GET /bad HTTP/1.1" 503 58.5',
        LoggedRequest("GET", "/bad", 503, 0.0585, None, HERE),
    ),
    (
        '127.0.0.1 - - [24/Nov/2026 18:25:37] "\x1b[35m\x1b[1mGET /bad?token=1"x HTTP/1.1\x1b[0m" 503 -',
        LoggedRequest("GET", "/bad", 503, None, None, HERE),
    ),
    ('[24/Nov/2026 12:25:39] "GET /bad?token=1%22x HTTP/1.1" 503 3', LoggedRequest("GET", "/bad", 503, None, 3, "")),
    (
        (
            "[pid: 30383|app: 0|req: 2/2] 127.0.0.1 () {24 vars in 273 bytes} [Tue Nov 24 18:27:18 2026] "
            "GET /bad?token=1%22x => generated 6 bytes in 1500 msecs (HTTP/1.1 503) 2 headers in 81 bytes "
            "(1 switches on core 0)"
        ),
        LoggedRequest("GET", "/bad", 503, 1.5, 6, HERE),
    ),
    (
        (
            "[pid: 1|app: 0|req: 3/3] 2001:db8::1 (me) {28 vars in 341 bytes} [Tue Nov 24 18:27:18 2026] "
            "POST / => generated 6 bytes in 150 micros (HTTP/2 200) 2 headers in 64 bytes"
        ),
        LoggedRequest("POST", "/", 200, 0.00015, 6, "2001:db8::1"),
    ),
    (
        r'2001:db8::1 - joe [10/Oct/2000:13:55:36 -0700] "GET /a\x22\x1bb HTTP/1.0" 200 2326',
        LoggedRequest("GET", r'/a"\x1bb', 200, None, 2326, "2001:db8::1"),
    ),
    (
        '192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] "CONNECT http://h/x/y?z HTTP/2.0" 405 -',
        LoggedRequest("CONNECT", "/x/y", 405, None, None, "192.0.2.1"),
    ),
]


@pytest.mark.parametrize(("line", "request_"), LINES)
def test_what_servers_write_is_understood(line: str, request_: LoggedRequest) -> None:
    """Method, path, status, duration, size and client are read from each server's line."""
    assert read_line(line) == request_


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Traceback",
        '"GET / HTTP/1.1"',
        '"GET / HTTP/1.1" OK',
        "GET / => generated",
        '"get / HTTP/1.1" 200',
        '"GET  1.1" 200',
    ],
)
def test_other_lines_are_no_requests(line: str) -> None:
    """A line that is none of an access log's is not taken for one."""
    assert read_line(line) is None


def test_a_line_of_beginnings_does_not_hold_the_thread() -> None:
    """Only so much of a line is looked at as bounds the time."""
    assert read_line('"GET ' * 20_000 + '/x HTTP/1.1" 200 1') is None
    assert read_line('"GET /' + "x" * (LONGEST - 40) + ' HTTP/1.1" 200 1') is not None


@given(st.text())
def test_any_line_can_be_looked_at(line: str) -> None:
    """No line makes the reader fail, nor gives a path that shows more than one line."""
    assert "\n" not in path_of(line)
    read_line(line)
    read_line(f'"GET {line} HTTP/1.1" 200 1')


@given(
    st.sampled_from(LINES),
    st.sampled_from([(), ("GET",), ("POST", "CONNECT")]),
    st.sampled_from([(), ((500, 599),), ((200, 200), (503, 504))]),
)
def test_the_prefilter_finds_every_line_that_is_asked_for(
    logged: tuple[str, LoggedRequest], methods: tuple[str, ...], statuses: tuple[tuple[int, int], ...]
) -> None:
    """A line whose request fulfils the conditions is found by what the prefilter looks for."""
    line, request = logged
    conditions = RequestConditions(methods=methods, statuses=statuses, access_log=True)
    is_asked_for = (not methods or request.method in methods) and (
        not statuses or any(first <= (request.status or 0) <= last for first, last in statuses)
    )
    compiled = compile_rule(Rule(pattern_for(conditions), ("a",)))
    assert any(compiled.search(hit.line) for hit in Prefilter([compiled]).scan(line.encode() + b"\n")) == is_asked_for
