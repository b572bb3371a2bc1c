"""The facts of records, their own and those that their lines state."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.model.types import FieldNames, Record, Stated
from alarm_mw.patterns.fields.facts import LONGEST_FIELD, MOST_FIELDS, Facts, level_of, number_of, understood

NAMES = FieldNames()
NOW = 1_764_460_800.0  # 2025-11-30, midnight in UTC


def record(line: bytes | dict[str, Any], **facts: Any) -> Record:
    message = line if isinstance(line, bytes) else json.dumps(line).encode()
    return Record(message, **{"source": "stdout", "time": NOW, "key": "k", **facts})


def test_a_line_states_its_level_logger_and_event() -> None:
    """The usual names of the usual libraries are understood, in JSON and in logfmt."""
    for line in (
        b'{"event": "late", "level": "warning", "logger": "shop"}',
        b'{"message": "late", "levelname": "WARNING", "name": "shop"}',
        b'{"msg": "late", "severity": "Warn", "log.logger": "shop"}',
        b'{"message": "late", "log": {"level": "warn", "logger": "shop"}}',
        b"lvl=warn msg=late logger=shop",
    ):
        facts = Facts(record(line), NAMES)
        assert (facts.event, facts.level, facts.logger) == ("late", logging.WARNING, "shop"), line


def test_own_facts_come_first() -> None:
    """What a source knows of its record counts, whatever the line says; what it does not know, the line may say."""
    line = {"level": "info", "logger": "x", "user": "kim", "n": 1}
    facts = Facts(record(line, level=40, logger="shop", fields={"user": "lee"}), NAMES)
    assert (facts.level, facts.logger) == (40, "shop")
    assert [*map(facts.texts, ("user", "n", "level", "severity", "logger", "name"))] == [
        ("lee",),
        ["1"],
        ["info"],
        ("error", "40"),
        ["x"],
        ("shop",),
    ]


def test_names_of_one_fact_are_one_field() -> None:
    """A message is found under each of its names: of a line without fields it is the line, of a record the event."""
    line = Facts(record({"msg": "late", "level": "error"}), NAMES)
    assert line.texts("event") == line.texts("message") == ["late"]
    assert line.texts("severity") == ["error"]
    plain = Facts(record(b"late\nTraceback\n", source="logging", logger="shop"), NAMES)
    assert plain.texts("event") == ("late",)
    assert plain.texts("name") == ("shop",)
    assert plain.texts("level") == plain.texts("user") == ()
    shown = Facts(record(b"12:00 late n=1\n", stated=Stated("late")), NAMES)
    assert shown.texts("message") == ("late",)
    assert Facts(record({"n": 1}), NAMES).event == ""
    assert Facts(record({"n": 1}), NAMES).logger == ""


def test_the_names_are_configurable() -> None:
    """Other names of the level, the message and so on take the place of the usual ones."""
    names = FieldNames(message=("what",), level=("l",), logger=("who",), time=("at",), exception=("why",))
    line = {"what": "late", "l": "error", "who": "shop", "at": NOW + 5, "why": "E: x", "level": "info", "event": "y"}
    found = understood(record(line), names)
    assert (found.level, found.logger, found.time) == (40, "shop", NOW + 5)
    assert found.stated == Stated("late", "E: x", ("at", "l", "what", "who", "why"))


def test_levels_are_names() -> None:
    """Names of levels are understood in any case; a number or another word is no level."""
    assert [*map(level_of, ("error", "ERR", "Fatal", "notice", "trace"))] == [40, 40, 50, 25, 5]
    assert [*map(level_of, ("40", "", "errors", "\u212aritical"))] == [None] * 4


def test_numbers_are_those_of_json() -> None:
    """A number is what JSON calls one; large integers are exact."""
    assert [*map(number_of, ("17", "-0", "1e2", "99.50", str(2**63 + 1)))] == [17, 0, 100.0, 99.5, 2**63 + 1]
    assert number_of("1" * 5000) == float("inf")
    assert [*map(number_of, ("", "x", "1_000", "0x10", "NaN", "inf", "١", " 1"))] == [None] * 8


def test_an_understood_record_has_the_facts_of_its_line() -> None:
    """Level, logger, time, traceback and fields of a line become those of its record; its message stays as it was."""
    line = {
        "timestamp": "2025-11-29T23:59:00Z",
        "level": "error",
        "event": "payment_failed",
        "user": {"plan": "pro", "tags": ["a", 1]},
        "amount": 99.5,
        "coupon": None,
        "exception": "Traceback (most recent call last):\nValueError: x\n",
    }
    found = understood(record(line), NAMES)
    assert found.message == json.dumps(line).encode()
    assert (found.level, found.logger, found.time) == (40, "", NOW - 60)
    assert {name: found.fields[name] for name in ("user.plan", "user.tags", "amount")} == {
        "user.plan": "pro",
        "user.tags": '["a", 1]',
        "amount": "99.5",
    }
    assert "coupon" not in found.fields
    assert found.stated == Stated(
        "payment_failed",
        "Traceback (most recent call last):\nValueError: x",
        ("event", "exception", "level", "timestamp"),
    )


def test_a_record_without_fields_stays_as_it_is() -> None:
    """Nothing is added to a line that states nothing."""
    for line in (b"late\n", b"{}", b"[]"):
        assert understood(record(line), NAMES) == record(line)


def test_structured_tracebacks_are_shown_as_python_does() -> None:
    """What structlog's `dict_tracebacks` wrote is a traceback again; what is no traceback is none."""
    frames = [{"filename": "a.py", "lineno": 3, "name": "f"}, "odd"]
    errors = [{"exc_type": "E", "exc_value": "x", "frames": frames}, {"exc_type": "F", "frames": 1}, "odd"]
    found = understood(record({"exception": errors}), NAMES)
    assert found.stated is not None
    assert found.stated.exception == (
        "Traceback (most recent call last):\n"
        '  File "a.py", line 3, in f\n'
        "E: x\nTraceback (most recent call last):\nF: \nodd"
    )
    found = understood(record({"exc_info": True, "stack_trace": "E: y"}), NAMES)
    assert found.stated is not None
    assert found.stated.exception == "E: y"
    assert "stack_trace" in found.stated.repeated


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        (NOW + 1.5, 1.5),
        ((NOW + 2) * 1000, 2.0),
        (str(NOW + 3), 3.0),
        ("2025-11-30T01:00:04+01:00", 4.0),
        ("2025-11-30 00:00:05.250Z", 5.25),
        ("1999-01-01T00:00:00Z", 0.0),
        ("0001-01-01T00:00:00+14:00", 0.0),
        ("soon", 0.0),
        (0.25, 0.0),
        (None, 0.0),
    ],
)
def test_a_plausible_time_is_the_time_of_the_record(time: object, seconds: float) -> None:
    """ISO 8601, seconds and milliseconds are times; one far from now is a duration, or a mistake, and is ignored."""
    assert understood(record({"time": time, "a": 1}), NAMES).time == pytest.approx(NOW + seconds)


def test_what_a_line_states_is_bounded() -> None:
    """However much a line states, its record has a bounded number of bounded fields, however deep they lie."""
    line: dict[str, Any] = {f"field{n}": "x" * 1100 for n in range(100)}
    found = understood(record(line), NAMES)
    assert len(found.fields) == MOST_FIELDS
    assert max(map(len, found.fields.values())) == LONGEST_FIELD
    deep: dict[str, Any] = {"a": 1}
    for _ in range(100):
        deep = {"a": deep}
    (name,) = understood(record(deep), NAMES).fields
    assert name == "a.a.a.a.a"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from([*NAMES.message, *NAMES.level, *NAMES.time, *NAMES.exception]), JSON))
def test_no_object_breaks_the_understanding(line: dict[str, Any]) -> None:
    """Whatever values the well-known names have, the facts can be stored, and nothing is raised."""
    found = understood(record(line), NAMES)
    stated = found.stated or Stated()
    for text in (found.logger, stated.event, stated.exception, *found.fields, *found.fields.values()):
        text.encode()
