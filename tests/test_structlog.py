"""The structlog processor, in a process that is its own master."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

import alarm_mw
from alarm_mw.testing import Alarms


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
    log, _ = logger(
        alarm_mw.AlarmProcessor(), structlog.processors.format_exc_info, structlog.processors.JSONRenderer()
    )
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


@pytest.fixture
def alarms() -> Iterator[Alarms]:
    """Give what is fired, every repetition included."""
    with Alarms(log_alarms=["a TERRIBLE"], alarm_freq=0) as alarms:
        yield alarms


@pytest.fixture
def stdlib() -> Iterator[logging.Logger]:
    logger = logging.getLogger("test-structlog")
    logger.propagate = False
    yield logger
    logger.handlers.clear()
    structlog.contextvars.clear_contextvars()


def wrapped(stdlib: logging.Logger, *processors: Any) -> Any:
    """Return a structlog logger whose events become records of `logging`."""
    return structlog.wrap_logger(stdlib, processors=[*processors], wrapper_class=structlog.stdlib.BoundLogger)


def test_context_variables_are_fields(alarms: Alarms, stdlib: logging.Logger) -> None:
    """What was bound to the context goes with the alarm, before `merge_contextvars`, behind it, and when rendered."""
    structlog.contextvars.bind_contextvars(request_id="r-1")
    processor = alarm_mw.AlarmProcessor()
    for chain in (
        [processor, structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer()],
        [structlog.contextvars.merge_contextvars, processor, structlog.processors.JSONRenderer()],
        [structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer(), processor],
    ):
        logger(*chain)[0].error("TERRIBLE")
    assert [firing.record.fields["request_id"] for firing in alarms.fired()] == ["r-1"] * 3


def test_a_structured_traceback_is_shown_as_python_shows_it(alarms: Alarms) -> None:
    """Behind `dict_tracebacks` a rule finds the exception's line, with its type in front."""
    log, _ = logger(
        structlog.processors.dict_tracebacks, alarm_mw.AlarmProcessor(), structlog.processors.JSONRenderer()
    )
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        log.exception("TERRIBLE")
    lines = alarms.fired()[0].text.splitlines()
    assert (lines[0], lines[1], lines[-1]) == (
        "TERRIBLE",
        "Traceback (most recent call last):",
        "ZeroDivisionError: division by zero",
    )


CHAINS = {
    "wrapped": [alarm_mw.AlarmProcessor(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    "keywords": [alarm_mw.AlarmProcessor(), structlog.stdlib.render_to_log_kwargs],
    "rendered": [alarm_mw.AlarmProcessor(), structlog.processors.JSONRenderer()],
    "last": [structlog.dev.ConsoleRenderer(colors=False), alarm_mw.AlarmProcessor()],
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_an_event_that_becomes_a_log_record_fires_once(
    alarms: Alarms, stdlib: logging.Logger, chain: list[Any]
) -> None:
    """With the processor and the handler both at work, an event is one alarm each time, and a plain record is, too."""
    stdlib.addHandler(alarm_mw.AlarmHandler())
    log = wrapped(stdlib, *chain)
    log.error("TERRIBLE", order=17)
    log.error("TERRIBLE", order=17)
    stdlib.error("TERRIBLE plain")
    assert len(alarms.fired()) == 3


def test_foreign_records_fire_once(alarms: Alarms, stdlib: logging.Logger) -> None:
    """A processor in the chains of a `ProcessorFormatter` sees each record once, whoever formats it how often."""
    for stream in (io.StringIO(), io.StringIO()):
        handler = logging.StreamHandler(stream)
        handler.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                foreign_pre_chain=[alarm_mw.AlarmProcessor()],
                processors=[structlog.processors.JSONRenderer(default=str)],
            )
        )
        stdlib.addHandler(handler)
    stdlib.error("TERRIBLE 1")
    alarm_handler = alarm_mw.AlarmHandler()
    alarm_handler.setFormatter(stdlib.handlers[0].formatter)
    stdlib.addHandler(alarm_handler)
    stdlib.error("TERRIBLE 2")
    assert len(alarms.fired(match="TERRIBLE 1")) == 1
    assert len(alarms.fired(match="TERRIBLE 2")) == 1
    assert {firing.record.logger for firing in alarms.fired()} == {"test-structlog"}
    # Of the first one that of the other formatter; of the second one that, and the handler's: not one more.
    assert alarms.summary().endswith("held back: a (echo, 3 times)")
