"""One rule on fields, wherever its record comes from; and the log calls before a record."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import loguru
import pytest
import structlog

import alarm_mw
from alarm_mw.loguru import AlarmSink
from alarm_mw.testing import Alarms

RULES = """
alarms.a = "log:"
[[rules]]
alarms = "a"
where = { event = "payment_failed", user.plan = "pro", order = ">=100" }
"""
FIELDS: dict[str, Any] = {"user": {"plan": "pro", "id": 17}, "order": 4211}


def _logger() -> logging.Logger:
    """Return a logger without former handlers."""
    log = logging.getLogger("shop.fields")
    log.handlers.clear()
    log.propagate = False
    log.setLevel(logging.DEBUG)
    return log


def _logging() -> Callable[..., object]:
    log = _logger()
    log.addHandler(alarm_mw.AlarmHandler())

    def call(event: str, **fields: object) -> None:
        log.error(event, extra=fields)

    return call


def _formatted_logging() -> Callable[..., object]:
    log = _logger()
    handler = alarm_mw.AlarmHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)

    def call(event: str, **fields: object) -> None:
        log.error(event, extra=fields)

    return call


def _json_logging() -> Callable[..., object]:
    log = _logger()
    handler = alarm_mw.AlarmHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    return lambda event, **fields: log.error(json.dumps({"event": event, **fields}))


def _structlog(*processors: Any) -> Callable[..., object]:
    log: Any = structlog.wrap_logger(structlog.PrintLogger(io.StringIO()), processors=[*processors])
    return log.error  # type: ignore[no-any-return]


def _structlog_before() -> Callable[..., object]:
    return _structlog(alarm_mw.AlarmProcessor(), structlog.processors.JSONRenderer())


def _structlog_behind() -> Callable[..., object]:
    return _structlog(structlog.processors.JSONRenderer(), alarm_mw.AlarmProcessor())


def _structlog_context() -> Callable[..., object]:
    def log(event: str, **fields: object) -> None:
        with structlog.contextvars.bound_contextvars(**fields):
            _structlog_before()(event)

    return log


def _loguru() -> Callable[..., object]:
    loguru.logger.remove()
    loguru.logger.add(AlarmSink())  # type: ignore[arg-type]  # its messages have types of their own
    return lambda event, **fields: loguru.logger.bind(**fields).error(event)


@pytest.fixture
def alarms(tmp_path: Path) -> Iterator[Alarms]:
    """Give what the rule fires."""
    (tmp_path / "a.toml").write_text(RULES)
    with Alarms(tmp_path / "a.toml") as alarms:
        yield alarms
    loguru.logger.remove()


@pytest.mark.parametrize(
    "logger",
    [
        _logging,
        _formatted_logging,
        _json_logging,
        _structlog_before,
        _structlog_behind,
        _structlog_context,
        _loguru,
    ],
)
def test_a_rule_on_fields_means_the_same_for_every_source(alarms: Alarms, logger: Callable[[], Any]) -> None:
    """Nested fields, numbers and the event are found in `extra`, in keys, in context variables and in JSON."""
    log = logger()
    log("payment_failed", **FIELDS)
    log("payment_failed", **{**FIELDS, "order": 7})
    log("payment_failed", **{**FIELDS, "user": {"plan": "free"}})
    log("payment_accepted", **FIELDS)
    log("payment_failed")
    (firing,) = alarms.fired()
    assert firing.record.level == logging.ERROR
    assert {name: firing.record.fields[name] for name in ("user.plan", "order")} == {
        "user.plan": "pro",
        "order": "4211",
    }


def test_dictionaries_in_extra_are_bounded(tmp_path: Path) -> None:
    """A dictionary that contains itself, or lies deep, becomes text."""
    (tmp_path / "a.toml").write_text('alarms.a = "log:"\n[[rules]]\npattern = "x"\nalarms = "a"\n')
    endless: dict[str, object] = {"a": 1}
    endless["b"] = endless
    with Alarms(tmp_path / "a.toml") as alarms:
        _logging()("x", endless=endless, empty={})
        (firing,) = alarms.fired()
    assert firing.record.fields["endless.a"] == "1"
    assert firing.record.fields["empty"] == "{}"
    assert max(name.count(".") for name in firing.record.fields) == 4


AROUND = """
alarms.a = "log:"
[[rules]]
pattern = "failed"
level = "ERROR"
alarms = "a"
context = { before = 2 }
"""


def test_log_calls_before_a_record_are_shown_with_it(tmp_path: Path) -> None:
    """A record has the log calls before it in its process, of all levels, each in one line with its level."""
    (tmp_path / "a.toml").write_text(AROUND)
    log = _logger()
    log.addHandler(alarm_mw.AlarmHandler())
    with Alarms(tmp_path / "a.toml") as alarms:
        log.info("forgotten")
        log.debug("retrying\nwith more")
        log.warning("slow %s", "x" * 1000)
        log.error("payment failed")
        log.error("refund failed")
        first, second = alarms.fired()
    lines = first.record.before.decode().splitlines()
    assert [line.partition(" ")[2][:18] for line in lines] == ["DEBUG    retrying", "WARNING  slow xxxx"]
    assert max(map(len, lines)) < 600
    assert second.record.before.decode().endswith(" ERROR    payment failed\n")
    # What no rule wants is not remembered.
    (tmp_path / "a.toml").write_text(AROUND.replace("context", "#"))
    with Alarms(tmp_path / "a.toml") as alarms:
        log.info("before")
        log.error("payment failed")
        (firing,) = alarms.fired()
    assert firing.record.before == b""


def test_lines_around_are_for_the_alarms_of_their_rule(tmp_path: Path) -> None:
    """An alarm whose rule does not ask for the lines around a match has none of them."""
    other = '[[rules]]\npattern = "payment"\nalarms = "b"\n'
    (tmp_path / "a.toml").write_text(AROUND.replace("alarms.a", 'alarms.b = "log:"\nalarms.a', 1) + other)
    log = _logger()
    log.addHandler(alarm_mw.AlarmHandler())
    with Alarms(tmp_path / "a.toml") as alarms:
        log.info("retrying")
        log.error("payment failed")
        assert {firing.alarm: bool(firing.record.before) for firing in alarms.fired()} == {"a": True, "b": False}
