"""What tells of a record's text whether any rule may match it."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.engine.rules import compile_rule
from alarm_mw.model.types import Rule
from alarm_mw.patterns.record_prefilter import FEW, SHORT, RecordPrefilter, record_rules

SOME = ["one", "two.*x", r"\Athree$", "four"]
ANY_CASE = ["(?i)one", "TWO|three+x", "(?i:fo)UR"]
OTHERS = [f"x{n:02d}" for n in range(FEW + 4)]
MANY = [*SOME, *OTHERS]
MANY_IN_ANY_CASE = [*ANY_CASE, "TWo2", "(?i)two3", *OTHERS]
NEVER = ["one", r"^\s*$", "st\u00f6r"]
ALL = [SOME, ANY_CASE, MANY, MANY_IN_ANY_CASE]


def prefilter_of(patterns: list[str]) -> RecordPrefilter:
    return RecordPrefilter(record_rules([compile_rule(Rule(pattern, ("alarm",))) for pattern in patterns]))


PREFILTERS = {tuple(patterns): prefilter_of(patterns) for patterns in (*ALL, NEVER)}
PIECES = [
    "one",
    "two",
    "x",
    "three",
    "FOUR",
    "x07",
    "TWo2",
    "TWO3",
    "on",
    "e",
    " ",
    "\n",
    "st\u00f6r",
    "\u0131",
    "\ud800",
]


@given(st.sampled_from([*PREFILTERS]), st.lists(st.sampled_from([*PIECES, "-" * SHORT]), max_size=6).map("".join))
def test_no_record_is_told_away_that_a_rule_matches(patterns: tuple[str, ...], text: str) -> None:
    """Whatever a rule says of a record, in few or many characters, of ASCII or not: the text tells of it."""
    message = text.encode("utf-8", "backslashreplace") + b"\n"
    compiled = [compile_rule(Rule(pattern, ("alarm",))) for pattern in patterns]
    if any(rule.search(line) for rule in compiled for line in message.splitlines(keepends=True)):
        assert PREFILTERS[patterns].may_match(text)


@pytest.mark.parametrize("patterns", ALL)
@pytest.mark.parametrize("text", ["", "on\ne", "on" + "-" * SHORT, "\u00fc", "TWo x"])
def test_what_no_rule_requires_is_told_away(patterns: list[str], text: str) -> None:
    """A record goes nowhere that holds nothing of what the rules ask for, the first as well as later ones."""
    prefilter = prefilter_of([*patterns, "nothing"])
    assert [prefilter.may_match(text), prefilter.may_match(text)] == [False, False]


@pytest.mark.parametrize("text", ["it is one", "ONE MORE"])
def test_case_is_ignored_where_a_rule_ignores_it(text: str) -> None:
    """However the text writes what the rule asks for, the record goes on to it, the first as well as later ones."""
    prefilter = prefilter_of(ANY_CASE)
    assert [prefilter.may_match(text), prefilter.may_match(text)] == [True, True]


def test_what_cannot_be_encoded_is_left_to_the_rules() -> None:
    """They see its escapes."""
    assert prefilter_of(MANY).may_match("\ud800")


def test_a_rule_without_a_literal_gets_every_record() -> None:
    """There is nothing to look for; without any rule, no record may match."""
    assert prefilter_of(NEVER).may_match("")
    assert not prefilter_of([]).may_match("")


@pytest.mark.parametrize("pattern", [r"one\n", r"on.\n$", r"\n"])
@pytest.mark.parametrize("multiline", [False, True])
def test_a_rule_may_ask_for_the_newline_that_a_text_lacks(pattern: str, *, multiline: bool) -> None:
    """The line has one, as if it had been printed."""
    rule = compile_rule(Rule(pattern, ("alarm",), multiline=multiline))
    assert rule.search(b"one\n")
    assert RecordPrefilter(record_rules([rule])).may_match("one")


def test_without_its_package_many_literals_are_looked_for_by_the_finder(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Python 3.15, for which it has no wheel yet."""
    monkeypatch.setitem(sys.modules, "ahocorasick", None)
    prefilter = prefilter_of(MANY)
    assert [prefilter.may_match("a x07"), prefilter.may_match("a x")] == [True, False]


def test_many_literals_beyond_ascii_are_in_no_text_of_ascii() -> None:
    """They are looked for in other texts."""
    prefilter = prefilter_of([f"\u00fc{n:02d}" for n in range(FEW + 4)])
    assert [prefilter.may_match("a 07"), prefilter.may_match("a \u00fc07"), prefilter.may_match("\u00fc")] == [
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], [False, False, False]),
        ([{}], [True, True, True]),
        ([{"level": 40}], [False, True, False]),
        ([{"logger": "app"}, {"level": 40, "logger": "db"}], [True, True, False]),
        ([{"logger": "application"}, {}], [True, True, True]),
    ],
)
def test_it_knows_what_its_rules_ask_for(conditions: list[dict[str, Any]], expected: list[bool]) -> None:
    """By level and logger alone it tells that no rule applies."""
    each = RecordPrefilter(record_rules([compile_rule(Rule("x", ("a",), **condition)) for condition in conditions]))
    assert [each.may_concern(20, "app.x"), each.may_concern(40, "app"), each.may_concern(None, "appx")] == expected
