"""The facts of requests, the ready rules, and what becomes of their lines."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from alarm_mw.requests import (
    Request,
    RequestRules,
    fields,
    server_error,
    slower_than,
    tells_disconnect,
    unhandled_exception,
    upload_made,
    visible,
)


def request(
    method: str = "GET",
    path: str = "/",
    status: int | None = 200,
    duration: float = 0.25,
    exception: BaseException | None = None,
) -> Request:
    return Request(method, path, status, duration, exception, "192.0.2.7")


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
def test_server_error_tells_of_500_and_above(status: int | None, tells: bool) -> None:  # noqa: FBT001  # a table's column
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


@pytest.mark.parametrize(
    ("method", "path", "tells"),
    [("POST", "/upload", True), ("GET", "/upload", False), ("POST", "/uploads", False), ("POST", "/a/upload", False)],
)
def test_upload_made_tells_of_post_upload_alone(method: str, path: str, tells: bool) -> None:  # noqa: FBT001  # a table's column
    """Exactly `POST /upload` is the alarm."""
    line = "TERRIBLE ALARM! An upload has been made!" if tells else None
    assert upload_made(request(method, path)) == line


def test_every_rule_is_asked_in_order() -> None:
    """A rule that has a line does not keep the next one from being asked."""
    got: list[str] = []
    rules = RequestRules([lambda _: "one", lambda _: None, lambda _: "two"], lambda line, _: got.append(line))
    rules.judge(request())
    assert got == ["one", "two"]


def test_a_line_comes_with_the_facts() -> None:
    """Whoever receives the line learns the facts that are known, durations in seconds."""
    got: list[Mapping[str, str]] = []
    rules = RequestRules([lambda _: "x"], lambda _, facts: got.append(facts))
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
    RequestRules([broken_rule, lambda _: "next"], lambda line, _: got.append(line)).judge(request())
    assert got == ["next"]


def test_a_broken_rule_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """A rule that fails in every request is told once, with its name and its traceback, by a logger of ours."""
    rules = RequestRules([broken_rule], ignore)
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

    RequestRules([broken_rule, broken_too], ignore).judge(request())
    assert len(caplog.records) == 2


def test_a_broken_emit_harms_nobody_and_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """What `emit` raises stays inside and is told."""

    def broken_emit(line: str, facts: Mapping[str, str]) -> None:
        raise ConnectionError(line)

    RequestRules([lambda _: "x"], broken_emit).judge(request())
    assert len(caplog.records) == 1


def test_a_rule_that_returns_no_text_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """A rule that answers True instead of a line is a mistake that is told."""
    RequestRules([lambda _: True], ignore).judge(request())  # type: ignore[return-value,list-item]  # the mistake under test
    assert len(caplog.records) == 1


class BrokenHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError(record.getMessage())


@pytest.fixture
def broken_logging() -> Iterator[None]:
    handler = BrokenHandler()
    logger = logging.getLogger("alarm_mw.requests")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


def test_broken_logging_does_not_reach_the_request(broken_logging: None) -> None:
    """Where even the report of a broken rule fails, the request still goes on."""
    RequestRules([broken_rule], ignore).judge(request())


def test_a_workers_exit_passes_through_a_rule() -> None:
    """A worker that is told to exit while a rule runs exits."""

    def exiting(_: Request) -> str:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        RequestRules([exiting], ignore).judge(request())


@given(st.text())
@example("/\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
@example("\x1b[2J\x9b2J\x07\x7f")
@example("\u202egnp.exe")
@example("\udcff")
def test_visible_text_is_one_line_that_can_be_sent(text: str) -> None:
    """Whatever a client sends, the line stays one, has no control characters and is valid UTF-8."""
    shown = visible(text)
    assert len(f"x{shown}".splitlines()) == 1
    assert not any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in shown)
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert visible(shown) == shown


@given(st.text(st.characters(categories=["L", "M", "N", "P", "S", "Zs"])))
def test_visible_text_keeps_what_can_be_read(text: str) -> None:
    """Letters, numbers, marks, signs and spaces of every script stay as they are."""
    assert visible(text) == text


def test_visible_text_shows_a_newline_as_an_escape() -> None:
    """A newline is shown, not swallowed."""
    assert visible("a\nb\x1bc") == r"a\nb\x1bc"


@given(st.text())
def test_no_path_can_forge_a_second_line(path: str) -> None:
    """Line and fields are made visible, whatever rule wrote them."""
    got: list[str] = []

    def take(line: str, facts: Mapping[str, str]) -> None:
        got.extend([line, facts["method"], facts.get("path", "-")])

    RequestRules([lambda r: f"Path: {r.path}"], take).judge(request(f"G\n{path}", path))
    assert len(got) == 3
    assert all(len(text.splitlines()) == 1 for text in got)


def test_a_disconnect_is_told_by_its_class() -> None:
    """Starlette's, Werkzeug's and uvicorn's exceptions for a client that left are known; others are failures."""

    class ClientDisconnect(Exception):  # noqa: N818  # Starlette's name
        pass

    assert tells_disconnect(ClientDisconnect())
    assert not tells_disconnect(ConnectionResetError())
