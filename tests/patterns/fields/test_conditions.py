"""Conditions of rules on fields: when they hold, and that the literals that they require miss no line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from example_counts import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import LIMIT

from alarm_mw.engine.rules import compile_rule
from alarm_mw.model.types import FieldCondition, FieldTest, Record, Rule
from alarm_mw.patterns import prefilter
from alarm_mw.patterns.fields.conditions import FieldConditions
from alarm_mw.patterns.fields.literals import required
from alarm_mw.patterns.literals import Literal
from alarm_mw.patterns.prefilter import Prefilter
from alarm_mw.patterns.record_prefilter import RecordPrefilter, record_rules

_KIND = re.compile(r"[<>!]=|[<>!~]")


def where(**fields: Any) -> Rule:
    """Return a rule with conditions that are written as in a configuration; ``__`` in a name is a dot."""
    return Rule("", ("a",), fields=tuple(condition(name.replace("__", "."), value) for name, value in fields.items()))


def condition(field: str, value: Any) -> FieldCondition:
    return FieldCondition(field, tuple(map(_test, value if isinstance(value, list) else [value])))


def _test(value: Any) -> FieldTest:
    found = _KIND.match(value) if isinstance(value, str) else None
    if found is None:
        return FieldTest("=", value)
    operand = value[found.end() :]
    return FieldTest(found[0], operand if found[0] in {"!=", "~", "!"} else float(operand))


def meets(rule: Rule, line: bytes) -> bool:
    return FieldConditions(rule).meet_line(line)


LINE = {
    "event": "payment_failed",
    "level": "error",
    "amount": 100.0,
    "n": 2**63 + 1,
    "ok": False,
    "path": "/pay/new",
    "user": {"plan": "pro", "id": 17},
    "tags": ["new", "eu"],
    "none": None,
}


@pytest.mark.parametrize(
    "held",
    [
        where(event="payment_failed"),
        where(message="payment_failed"),
        where(level="ERROR"),
        where(level="err"),
        where(level=["critical", "error"]),
        where(level="!=info"),
        where(severity="error"),
        where(amount=100),
        where(amount="100.0"),
        where(amount=">=100", path="~^/pay"),
        where(amount="<100.5"),
        where(n=2**63 + 1),
        where(ok=False),
        where(user__plan="pro", user__id="17"),
        where(user__id=["x", 17]),
        where(tags="eu"),
        where(none="!"),
        where(user="!"),
        where(event="!=other"),
        where(tags="!=us"),
    ],
)
def test_conditions_that_hold(held: Rule) -> None:
    """Equality, one of several, numbers, comparisons, regexps, nested names, elements of arrays, and absence."""
    assert meets(held, json.dumps(LINE).encode())


@pytest.mark.parametrize(
    "missed",
    [
        where(event="payment"),
        where(event="Payment_failed"),
        where(level="warning"),
        where(level=40),
        where(level="!=ERR"),
        where(amount=99),
        where(amount="100"),
        where(amount=">100"),
        where(event=">1"),
        where(n=2**63),
        where(ok=True),
        where(path="~^pay"),
        where(user="pro"),
        where(plan="pro"),
        where(none=""),
        where(other="!=x"),
        where(event="!"),
        where(tags="!=eu"),
        where(event="payment_failed", other="x"),
    ],
)
def test_conditions_that_do_not_hold(missed: Rule) -> None:
    """One condition that does not hold is enough, and a field that is absent meets no condition but absence."""
    assert not meets(missed, json.dumps(LINE).encode())


def test_levels_are_compared_by_their_rank() -> None:
    """``>=warning`` is a warning and everything above it, by whatever name; a number in a line is just that number."""
    rule = where(level=">=30")
    found = [meets(rule, f"level={level} a=b".encode()) for level in ("warn", "CRITICAL", "40", "info", "odd")]
    assert found == [True, True, True, False, False]
    conditions = FieldConditions(where(level="error"))
    assert conditions.meet(Record(b"x", "logging", 0.0, "k", level=40))
    assert not conditions.meet(Record(b"x", "logging", 0.0, "k", level=35))
    assert FieldConditions(where(level=35)).meet(Record(b"x", "logging", 0.0, "k", level=35))


def test_logging_booleans_are_those_of_json() -> None:
    """``extra={"ok": True}`` and ``{"ok": true}`` mean the same."""
    assert FieldConditions(where(ok=True)).meet(Record(b"x", "logging", 0.0, "k", fields={"ok": "True"}))


def test_a_level_and_a_logger_are_conditions_as_well() -> None:
    """`level` and `logger` of a rule hold for lines that state them."""
    rule = Rule("", ("a",), level=30, logger="shop")
    lines = (b"level=error logger=shop", b"level=warn logger=shop.pay", b"level=info logger=shop", b"level=error")
    assert [meets(rule, line) for line in lines] == [True, True, False, False]
    assert not meets(rule, b"level=error logger=shopping")


# What lines must contain.


@pytest.mark.parametrize(
    ("rule", "texts", "keys"),
    [
        (where(event="payment_failed"), {"payment_failed", r"\u005", r"\u006", r"\u007"}, ("event",)),
        (where(user__plan="pro"), {'"pro', "=pro", r"\u006", r"\u007"}, ("user.plan",)),
        (where(order=4211), {'order"', "order=", r"\u006", r"\u007"}, ("order",)),
        (where(a="/pay/checkout"), {"checkout", r"\u006", r"\u007"}, ("a",)),
        (where(a="~(?i)^/Payment"), {"payment", r"\u004", r"\u005", r"\u006", r"\u007"}, ("a",)),
        (where(path=["x", "~.*"]), {'path"', "path=", r"\u006", r"\u007"}, ("path",)),
        (where(a="支払い失敗"), {"支払い失敗", r"\u"}, ("a",)),
        (where(logger="shop.payments"), {"shop.payments", r"\u002", r"\u006", r"\u007"}, None),
        (where(level="warn"), {'"warn', "=warn", "warning", r"\u004", r"\u005", r"\u006", r"\u007"}, None),
        (where(event="x"), set(), None),
        (where(a="!"), set(), None),
        (where(a="!", order=1), {'order"', "order=", r"\u006", r"\u007"}, ("order",)),
        (Rule("", ("a",), logger="shop"), {'"shop', "=shop", r"\u006", r"\u007"}, None),
        (Rule("", ("a",), logger="x"), {'"x', "=x", r"\u007"}, None),
        (Rule("", ("a",), logger=""), set(), None),
    ],
)
def test_the_rarest_text_is_required(rule: Rule, texts: set[str], keys: tuple[str, ...] | None) -> None:
    """A value, or the name of a field, and the escapes that could hide it; of records, a field of that name."""
    found = required(rule)
    assert {literal.text.decode() for literal in found.literals} == texts
    assert found.keys == keys


def test_a_regexp_beside_conditions_is_what_is_looked_for() -> None:
    """The literals of `pattern` are required of lines and records, but finding one is no match."""
    rule = compile_rule(Rule("^boom", ("a",), fields=where(order=1).fields))
    assert (rule.literals, rule.keys) == ((Literal(b"boom", at_start=True),), ())
    assert compile_rule(Rule("", ("a",), level=40)).keys is None


def test_many_values_require_the_name() -> None:
    """A condition with more values than are worth searching for requires its name."""
    found = required(where(order=[f"order-{n:04}" for n in range(200)]))
    assert Literal(b'order"') in found.literals


WORDS = [
    "payment_failed",
    "pro",
    "a/b",
    "ä",
    "500",
    "true",
    "x y",
    'say "hi"',
    "back\\slash",
    "line\nend",
    "\U0001f600é",
    "NaN",
]
NAMES = ["event", "level", "severity", "user.plan", "path", "n", "ключ", "a/b", "logger"]
VALUES = st.sampled_from(WORDS) | st.integers(-1000, 1000) | st.booleans() | st.sampled_from(["error", "WARN", "fatal"])
TESTS = st.one_of(
    VALUES.map(lambda value: FieldTest("=", value)),
    VALUES.map(lambda value: FieldTest("!=", value)),
    st.sampled_from(["pay", "^pro$", "(?i)PAYMENT", "[a-c]/", "ä|é", "^$", "fail.*d", "y h"]).map(
        lambda pattern: FieldTest("~", pattern)
    ),
    st.integers(-1000, 1000).map(lambda limit: FieldTest(">=", limit)),
    st.just(FieldTest("!")),
)
RULES = st.builds(
    lambda conditions, level, logger: Rule("", ("a",), fields=tuple(conditions), level=level, logger=logger),
    st.lists(st.builds(FieldCondition, st.sampled_from(NAMES), st.lists(TESTS, min_size=1, max_size=2).map(tuple))),
    st.sampled_from([None, None, 10, 30, 40, 50]),
    st.sampled_from([None, None, "shop", "pro"]),
)
OBJECTS = st.dictionaries(
    st.sampled_from(NAMES),
    VALUES | st.lists(VALUES, max_size=2) | st.none() | st.dictionaries(st.just("plan"), VALUES),
    max_size=5,
)


@st.composite
def json_lines(draw: st.DrawFn) -> bytes:
    """Return a JSON object with any spaces, escapes and forms of numbers that a writer may choose."""
    space = st.sampled_from(["", " ", "\t", "  "])

    def written(value: object) -> str:
        if isinstance(value, str):
            return '"' + "".join(map(char, value)) + '"'
        if isinstance(value, bool) or value is None:
            return json.dumps(value)
        if isinstance(value, int):
            return draw(st.sampled_from([str(value), f"{value}.0", f"{value}e0", f"{value}00E-2"]))
        if isinstance(value, Sequence):
            return f"[{draw(space)}" + f",{draw(space)}".join(map(written, value)) + "]"
        assert isinstance(value, dict)
        pairs = (f"{written(name)}{draw(space)}:{draw(space)}{written(each)}" for name, each in value.items())
        return f"{{{draw(space)}" + f"{draw(space)},".join(pairs) + f"{draw(space)}}}"

    def char(letter: str) -> str:
        escaped = json.dumps(letter)[1:-1]
        forms = [escaped if len(escaped) <= 2 else letter]
        units = letter.encode("utf-16-be")
        both = [units[at : at + 2].hex() for at in range(0, len(units), 2)]
        forms += ["".join(f"\\u{unit}" for unit in both), "".join(f"\\u{unit.upper()}" for unit in both)]
        forms += ["\\/"] if letter == "/" else []
        return draw(st.sampled_from([forms[0], forms[0], *forms]))

    return f"{draw(space)}{written(draw(OBJECTS))}\n".encode()


@st.composite
def logfmt_lines(draw: st.DrawFn) -> bytes:
    """Return a line in logfmt, with and without quotes."""
    pairs = []
    for name in draw(st.lists(st.sampled_from(NAMES[:6]), min_size=1, unique=True)):
        value = str(draw(VALUES))
        is_quoted = re.search(r'[\s"]', value) or draw(st.booleans())
        pairs.append(f"{name}={json.dumps(value, ensure_ascii=draw(st.booleans())) if is_quoted else value}")
    return " ".join(pairs).encode() + b"\n"


@pytest.fixture(scope="module", autouse=True)
def patience() -> Iterator[None]:
    """Let a line be checked for as long as it takes: on a busy machine, one may be left to the worker as a hit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefilter, "PATIENCE", LIMIT)
        yield


@settings(max_examples=examples(500))
@given(RULES, st.one_of(json_lines(), logfmt_lines(), st.sampled_from(WORDS).map(lambda word: word.encode() + b"\n")))
def test_the_prefilter_misses_no_line(rule: Rule, line: bytes) -> None:
    """A line that meets the conditions is a hit, however it is written, and a line that does not is none."""
    lines = line.splitlines(keepends=True)
    expected = [each for each in lines if meets(rule, each)]
    assert [hit.line for hit in Prefilter([compile_rule(rule)]).scan(b"".join(lines))] == expected


@settings(max_examples=examples(300))
@given(RULES, st.sampled_from(WORDS) | json_lines().map(lambda line: line.decode().removesuffix("\n")), OBJECTS)
def test_the_prefilter_misses_no_record(rule: Rule, text: str, fields: dict[str, Any]) -> None:
    """A record that meets the conditions, by its own fields or by those that its text states, passes in its process."""
    own = {name: str(value) for name, value in fields.items()}
    record = Record(text.encode(), "logging", 0.0, "k", level=40, logger="shop.pay", fields=own)
    rules = RecordPrefilter(record_rules([compile_rule(rule)]))
    if FieldConditions(rule).meet(record):
        assert rules.may_concern(40, "shop.pay")
        assert rules.may_match(text) or rules.has_key(own)


def test_an_object_given_as_extra_passes_by_its_name() -> None:
    """A log call does not know nested names yet: the name of the object is enough for its record to pass."""
    rules = RecordPrefilter(record_rules([compile_rule(where(user__plan__name="pro"))]))
    assert [*map(rules.has_key, (["user"], ["user.plan"], ["user.plan.name"], ["plan", "x"]))] == [True] * 3 + [False]
