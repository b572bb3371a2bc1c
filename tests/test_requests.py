"""The facts of requests, the ready rules, and what becomes of their lines."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator, Mapping
from typing import NoReturn
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.app.middleware.evaluation import RequestRules
from alarm_mw.app.middleware.request_text import bounded, fields
from alarm_mw.requests import (
    Request,
    RequestRule,
    client_left,
    is_disconnect,
    server_error,
    slower_than,
    unfinished_after,
    unhandled_exception,
    upload_made,
)
from alarm_mw.testing import RequestRecorder
from alarm_mw.wsgi import AlarmMiddleware


def request(
    method: str = "GET",
    path: str = "/",
    status: int | None = 200,
    duration: float = 0.25,
    exception: BaseException | None = None,
) -> Request:
    return Request(method, path, status, duration, exception, "192.0.2.7")


class OwnError(Exception):
    pass


class Keep:
    """An `emit` that keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, line: str, facts: Mapping[str, str]) -> None:
        self.lines.append(line)


def ignore(line: str, facts: Mapping[str, str]) -> None: ...


def test_the_facts_cannot_be_changed() -> None:
    """A rule cannot change the facts under the rules that follow."""
    with pytest.raises(AttributeError):
        request().path = "/other"  # type: ignore[misc]  # the mistake under test


def test_unhandled_exception_names_the_request_and_the_exception() -> None:
    """The line says which request failed, and of what."""
    line = unhandled_exception(request("PUT", "/a", exception=ValueError("no such thing")))
    assert line == "Unhandled exception in PUT /a: ValueError: no such thing"


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def test_unhandled_exception_survives_an_exception_without_text() -> None:
    """An exception whose own text cannot be had is told all the same."""
    assert "UnspeakableError" in (unhandled_exception(request(exception=UnspeakableError())) or "")


@pytest.mark.parametrize("exit_", [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(1), GeneratorExit()])
def test_unhandled_exception_is_silent_about_cancellation_and_exit(exit_: BaseException) -> None:
    """A cancelled request or a worker told to exit wakes nobody."""
    assert unhandled_exception(request(exception=exit_)) is None


def test_unhandled_exception_is_silent_without_one() -> None:
    """A request that ended in order is no alarm, whatever its status."""
    assert unhandled_exception(request(status=500)) is None


def test_unhandled_exception_is_silent_about_a_client_that_left() -> None:
    """A client that hangs up is no failure of the application."""
    assert unhandled_exception(Request("GET", "/", 200, 0.25, OSError(), "", disconnected=True)) is None


@pytest.mark.parametrize(("status", "tells"), [(None, False), (200, False), (499, False), (500, True), (599, True)])
def test_server_error_tells_of_500_and_above(status: int | None, tells: bool) -> None:
    """Statuses from 500 on are alarms, none below."""
    assert (server_error(request(status=status)) is not None) is tells


def test_server_error_is_silent_about_a_client_that_left() -> None:
    """The error page that a framework makes for a client that hung up wakes nobody."""
    assert server_error(Request("GET", "/", 500, 0.25, OSError(), "", disconnected=True)) is None


def test_server_error_names_the_request() -> None:
    """The line says which request failed, and with which status."""
    assert server_error(request("GET", "/a", 503)) == "Server error 503 in GET /a"


def test_slower_than_tells_only_above_its_limit() -> None:
    """A request exactly at the limit is in time; one above it is slow."""
    rule = slower_than(1.5)
    assert rule(request(duration=1.5)) is None
    assert rule(request("GET", "/a", duration=1.6)) == "Slow request: GET /a took more than 1.5 s"


def test_slow_requests_of_one_path_have_the_same_line() -> None:
    """However long they took, repeats are the same message to a limiter."""
    rule = slower_than(1)
    assert rule(request(duration=2)) == rule(request(duration=3))


@pytest.mark.parametrize(("status", "duration"), [("200 OK", 0), ("404 Not Found", 0), ("503 Busy", 0), ("200 OK", 1)])
def test_the_middleware_finds_the_requests_of_the_ready_rules(status: str, duration: float) -> None:
    """What a ready rule says of the facts of a request is what the middleware reports of it."""
    seen = RequestRecorder()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response(status, [])
        return []

    rules = (unhandled_exception, server_error, slower_than(-1.0 if duration else 60.0), client_left)
    AlarmMiddleware(app, rules, seen.emit)({"REQUEST_METHOD": "GET", "PATH_INFO": "/a"}, lambda *_: lambda _: None)
    facts = request("GET", "/a", int(status[:3]), duration)
    assert seen.lines == [line for rule in rules if (line := rule(facts)) is not None]


@pytest.mark.parametrize(
    ("method", "path", "tells"),
    [("POST", "/upload", True), ("GET", "/upload", False), ("POST", "/uploads", False), ("POST", "/a/upload", False)],
)
def test_upload_made_tells_of_post_upload_alone(method: str, path: str, tells: bool) -> None:
    """Exactly `POST /upload` is the alarm."""
    line = "TERRIBLE ALARM! An upload has been made!" if tells else None
    assert upload_made(request(method, path)) == line


def test_every_rule_is_asked_in_order() -> None:
    """A rule that has a line does not keep the next one from being asked."""
    got: list[str] = []
    rules = RequestRules("test", [lambda _: "one", lambda _: None, lambda _: "two"], lambda line, _: got.append(line))
    rules.judge(request())
    assert got == ["one", "two"]


def test_a_line_comes_with_the_facts() -> None:
    """Whoever receives the line learns the facts that are known, durations in seconds."""
    got: list[Mapping[str, str]] = []
    rules = RequestRules("test", [lambda _: "x"], lambda _, facts: got.append(facts))
    rules.judge(request("PUT", "/a", 500, 0.25, ValueError("secret")))
    assert got == [
        {
            "method": "PUT",
            "path": "/a",
            "status": "500",
            "duration": "0.250000",
            "exception": "ValueError",
            "client": "192.0.2.7",
        }
    ]


def test_unknown_facts_are_left_out() -> None:
    """What is not known is absent instead of empty."""
    assert fields(Request("GET", "/", None, 0.0, None, "")) == {"method": "GET", "path": "/", "duration": "0.000000"}


def broken_rule(_: Request) -> str:
    raise LookupError("broken rule")


def test_a_broken_rule_harms_neither_the_request_nor_the_other_rules() -> None:
    """What a rule raises stays inside, and the next rule is asked."""
    got: list[str] = []
    RequestRules("test", [broken_rule, lambda _: "next"], lambda line, _: got.append(line)).judge(request())
    assert got == ["next"]


def test_a_broken_rule_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """A rule that fails in every request is told once, with its name and its traceback, by a logger of ours."""
    rules = RequestRules("test", [broken_rule], ignore)
    rules.judge(request())
    rules.judge(request())
    (record,) = caplog.records
    assert record.name.startswith("alarm_mw.")
    assert record.levelno == logging.ERROR
    assert "broken_rule" in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)


def test_each_broken_rule_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """One broken rule does not hide another."""

    def broken_too(_: Request) -> str:
        raise LookupError("broken too")

    RequestRules("test", [broken_rule, broken_too], ignore).judge(request())
    assert len(caplog.records) == 2


def test_a_broken_emit_harms_nobody_and_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """What `emit` raises stays inside and is told."""

    def broken_emit(line: str, facts: Mapping[str, str]) -> None:
        raise ConnectionError(line)

    RequestRules("test", [lambda _: "x"], broken_emit).judge(request())
    assert len(caplog.records) == 1


def test_a_rule_that_returns_no_text_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """A rule that answers True instead of a line is a mistake that is told."""
    RequestRules("test", [lambda _: True], ignore).judge(request())  # type: ignore[return-value,list-item]  # the mistake under test
    assert len(caplog.records) == 1


# --- what an alarm says ---


def failed(error: BaseException) -> Request:
    """Return a request that ended with `error`, raised by code."""
    with pytest.raises(type(error)):
        raise error
    return request("GET", "/a", None, exception=error)


def lines_of(facts: Request, rule: RequestRule = unhandled_exception) -> list[str]:
    got: list[str] = []
    RequestRules("test", [rule], lambda line, _: got.append(line)).judge(facts)
    return [line for text in got for line in text.split("\n")]


def test_an_exception_brings_its_traceback() -> None:
    """Below the alarm's line stands where it was raised, with the code's line, and what it came from."""

    def query() -> NoReturn:
        raise LookupError("no such row")

    def app() -> NoReturn:
        try:
            query()
        except LookupError as cause:
            raise OwnError("no such order") from cause

    with pytest.raises(OwnError) as caught:
        app()
    lines = lines_of(request("GET", "/a", exception=caught.value))
    assert lines[0] == "Unhandled exception in GET /a: tests.test_requests.OwnError: no such order"
    below = "\n".join(lines[1:])
    assert 'raise OwnError("no such order") from cause' in below
    assert "LookupError: no such row" in below
    assert "The above exception was the direct cause" in below


def test_a_traceback_shows_no_values() -> None:
    """What the variables held is in no alarm."""

    def secretive(password: str) -> None:
        raise OwnError(len(password))

    with pytest.raises(OwnError) as caught:
        secretive("s3cret" * 2)
    text = "\n".join(lines_of(request(exception=caught.value)))
    assert "raise OwnError(len(password))" in text
    assert "s3crets3cret" not in text


def test_a_traceback_cannot_forge_a_line() -> None:
    """An exception's text that a client has chosen begins no line, and commands no terminal."""
    lines = lines_of(failed(OwnError("x\nTERRIBLE ALARM\n\x1b[2J\rTERRIBLE ALARM\u2028TERRIBLE ALARM")))
    assert len(lines) > 3
    assert all(line.startswith("  ") for line in lines[1:])
    assert all(len(line.splitlines()) == 1 for line in lines)
    assert "\x1b" not in "".join(lines)


def deep(depth: int) -> None:
    if depth == 0:
        raise OwnError("at the bottom")
    if depth % 2:
        deep(depth - 1)
    else:
        deep(depth - 1)


def test_a_traceback_is_bounded_and_keeps_both_ends() -> None:
    """Of a long traceback the beginning and the end are kept, and what is left out is said."""
    with pytest.raises(OwnError) as caught:
        deep(200)
    text = "\n".join(lines_of(request(exception=caught.value)))
    assert len(text) < 6000
    assert "deep(200)" in text
    assert "bytes are left out here]" in text
    assert text.endswith("OwnError: at the bottom")


def test_a_long_text_is_bounded() -> None:
    """An exception that is told in one huge line is cut off as well."""
    assert len(bounded("x" * 100_000).encode()) < 5000
    assert len(bounded("ä\n" * 100_000).encode()) < 5000


@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(1)])
def test_what_is_no_failure_has_no_traceback(error: BaseException) -> None:
    """A slow request that was cancelled is told without the way to the place where it waited."""
    assert len(lines_of(failed(error), lambda _: "x")) == 1


def test_the_middleware_is_not_in_the_traceback() -> None:
    """The first line of code that is shown is the application's."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> NoReturn:
        raise OwnError

    seen = RequestRecorder()
    with pytest.raises(OwnError):
        AlarmMiddleware(app, emit=seen.emit)({}, lambda *_: lambda _: None)
    assert "File" in seen.lines[0]
    assert "wsgi.py" not in seen.lines[0].replace("test_wsgi.py", "")


# --- the request's id and size ---


def with_headers(**headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request("GET", "/", 200, 0.25, None, "", header=named.get)


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("traceparent", "expected"),
    [
        (f"00-{TRACE}-{PARENT}-01", TRACE),
        (f"cc-{TRACE}-{PARENT}-01", TRACE),
        (f"cc-{TRACE}-{PARENT}-01-what-is-to-come", TRACE),
        (f"00-{TRACE}-{PARENT}-01-what-is-to-come", ""),
        (f"cc-{TRACE}-{PARENT}-01.what-is-to-come", ""),
        (f"ff-{TRACE}-{PARENT}-01", ""),
        (f"00-{TRACE.upper()}-{PARENT}-01", ""),
        (f"00-{'0' * 32}-{PARENT}-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"00-{TRACE}-{PARENT}", ""),
        (f"00-{TRACE}-{PARENT}-01, 00-{TRACE}-{PARENT}-01", ""),
        (f"00-{TRACE}-{PARENT}-01\n", ""),
        ("", ""),
    ],
)
def test_the_trace_is_the_requests_id(traceparent: str, expected: str) -> None:
    """The trace id of a `traceparent` counts as W3C Trace Context has it, and nothing else does."""
    assert with_headers(traceparent=traceparent).request_id == expected


def test_the_requests_own_id_comes_first() -> None:
    """What a proxy has numbered is known by that number."""
    assert with_headers(x_request_id="a1-b2", traceparent=f"00-{TRACE}-{PARENT}-01").request_id == "a1-b2"
    assert fields(with_headers(x_request_id="a1-b2"))["request_id"] == "a1-b2"


@pytest.mark.parametrize("own", ["", "a b", "a\nb", "ä", "x" * 129])
def test_what_is_no_id_is_not_taken_for_one(own: str) -> None:
    """A client cannot put text of its own into an alarm as an id."""
    assert with_headers(x_request_id=own, traceparent=f"00-{TRACE}-{PARENT}-01").request_id == TRACE


@pytest.mark.parametrize(
    ("length", "size"), [("12", 12), ("0", 0), ("", None), ("-1", None), ("1e3", None), ("²", None)]
)
def test_the_requests_size_is_what_the_client_announced(length: str, size: int | None) -> None:
    """`Content-Length` tells it, where it is a number."""
    assert with_headers(content_length=length).request_size == size


def test_no_header_gets_into_an_alarm_but_the_requests_id() -> None:
    """Cookies, credentials and whatever else the client sent stay in the process."""
    got: list[str] = []
    secret = with_headers(cookie="s3cret", authorization="s3cret", x_forwarded_for="s3cret")
    RequestRules("test", [lambda _: "x"], lambda line, facts: got.append(f"{line}{facts}")).judge(secret)
    assert "s3cret" not in "".join(got) + repr(secret)


# --- requests that do not end, and clients that leave ---


def test_unfinished_after_tells_of_its_own_limit_alone() -> None:
    """Each limit is told at its time, and no rule for requests that have ended sees one that has not."""
    rules = RequestRules(
        "test", [unfinished_after(5), unfinished_after(9), slower_than(1), lambda _: "x"], got := Keep()
    )
    rules.judge(Request("GET", "/a", None, 5.1, None, "", unfinished_after=5.0))
    assert got.lines == ["Request has not ended: GET /a is still running after 5 s"]


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan])
def test_a_limit_that_is_none_is_refused(seconds: float) -> None:
    """A mistake in a limit is told where it is made."""
    with pytest.raises(ValueError, match="seconds above 0"):
        unfinished_after(seconds)


def test_client_left_tells_of_a_client_that_left() -> None:
    """A client that hung up is told where one asks for it."""
    left = Request("GET", "/a", 200, 0.25, None, "", disconnected=True)
    assert client_left(left) == "Client hung up: GET /a"
    assert client_left(request()) is None


# --- what goes wrong in a rule ---


class BrokenHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError(record.getMessage())


@pytest.fixture
def broken_logging() -> Iterator[None]:
    handler = BrokenHandler()
    logger = logging.getLogger("alarm_mw.app.middleware.evaluation")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


def test_broken_logging_does_not_reach_the_request(broken_logging: None) -> None:
    """Where even the report of a broken rule fails, the request still goes on."""
    RequestRules("test", [broken_rule], ignore).judge(request())


def test_a_workers_exit_passes_through_a_rule() -> None:
    """A worker that is told to exit while a rule runs exits."""

    def exiting(_: Request) -> str:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        RequestRules("test", [exiting], ignore).judge(request())


@given(st.text())
def test_no_path_can_forge_a_second_line(path: str) -> None:
    """Line and fields are made visible, whatever rule wrote them."""
    got: list[str] = []

    def take(line: str, facts: Mapping[str, str]) -> None:
        got.extend([line, facts["method"], facts.get("path", "-")])

    RequestRules("test", [lambda r: f"Path: {r.path}"], take).judge(request(f"G\n{path}", path))
    assert len(got) == 3
    assert all(len(text.splitlines()) == 1 for text in got)


def test_a_disconnect_is_told_by_its_class() -> None:
    """Starlette's, Werkzeug's and uvicorn's exceptions for a client that left are known; others are failures."""

    class ClientDisconnect(Exception):  # noqa: N818  # Starlette's name
        pass

    assert is_disconnect(ClientDisconnect())
    assert not is_disconnect(ConnectionResetError())
