"""The structlog processor, in a process that is its own master."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

import alarm_mw


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "out.txt"
    alarm_mw.init(alarms={"a": f"cmd:cat >> {path}"}, log_alarms=["a TERRIBLE"])
    yield path
    alarm_mw.shutdown()


def logger(*processors: Any) -> tuple[Any, io.StringIO]:
    """Return a logger with these processors, and what it prints to."""
    printed = io.StringIO()
    return structlog.wrap_logger(structlog.PrintLogger(printed), processors=[*processors]), printed


def test_before_the_renderer_rules_see_event_and_keys(out: Path) -> None:
    """The line is the event with its keys; the event goes on unchanged."""
    log, printed = logger(alarm_mw.AlarmProcessor(), structlog.processors.JSONRenderer())
    log.error("TERRIBLE", order=17)
    assert alarm_mw.shutdown()
    assert out.read_text() == "TERRIBLE order=17\n"
    assert printed.getvalue() == '{"order": 17, "event": "TERRIBLE"}\n'


def test_after_the_renderer_rules_see_the_line(out: Path) -> None:
    """The line is what will be printed."""
    log, printed = logger(structlog.processors.JSONRenderer(), alarm_mw.AlarmProcessor())
    log.error("TERRIBLE", order=17)
    assert alarm_mw.shutdown()
    assert out.read_text() == printed.getvalue() == '{"order": 17, "event": "TERRIBLE"}\n'


def test_bytes_are_taken_as_they_are(out: Path) -> None:
    """A renderer that makes bytes serves as well."""
    processor = alarm_mw.AlarmProcessor()
    assert processor(None, "info", b"TERRIBLE \xff") == b"TERRIBLE \xff"
    assert alarm_mw.shutdown()
    assert out.read_bytes() == b"TERRIBLE \xff\n"


def test_an_exception_is_part_of_the_alarm(out: Path) -> None:
    """`log.exception` sends the traceback with the event."""
    log, _ = logger(alarm_mw.AlarmProcessor(), structlog.processors.format_exc_info, structlog.dev.ConsoleRenderer())
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        log.exception("TERRIBLE")
    assert alarm_mw.shutdown()
    lines = out.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("TERRIBLE", "ZeroDivisionError: division by zero")


def test_an_exception_given_by_hand_is_part_of_the_alarm(out: Path) -> None:
    """`exc_info` may be the exception itself, or what sys.exc_info returns."""
    processor = alarm_mw.AlarmProcessor()
    error = ValueError("no")
    processor(None, "error", {"event": "TERRIBLE 1", "exc_info": error})
    processor(None, "error", {"event": "TERRIBLE 2", "exc_info": (ValueError, error, None)})
    assert alarm_mw.shutdown()
    assert sorted(out.read_text().splitlines()) == ["TERRIBLE 1", "TERRIBLE 2", "ValueError: no", "ValueError: no"]


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError

    __str__ = __repr__


def test_a_value_that_cannot_be_shown_breaks_no_log_call(out: Path) -> None:
    """Whatever the event holds, the processor gives it on, and the rules see the rest."""
    event = {"event": "TERRIBLE", "value": Unprintable()}
    assert alarm_mw.AlarmProcessor()(None, "info", event) is event
    assert alarm_mw.shutdown()
    assert out.read_text() == "TERRIBLE value=<Unprintable>\n"


def test_events_of_alarm_code_are_not_looked_at(out: Path) -> None:
    """An event of our own loggers raises no alarm."""
    alarm_mw.AlarmProcessor()(None, "error", {"event": "TERRIBLE", "logger": "alarm_mw.delivery"})
    assert alarm_mw.shutdown()
    assert not out.exists()
