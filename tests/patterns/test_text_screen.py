"""What tells of a record's text whether any rule may match it, before bytes are made of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.engine.rules import compile_rule
from alarm_mw.model.types import Rule
from alarm_mw.patterns.screen import Screen
from alarm_mw.patterns.text_screen import SHORT

FEW = ["one", "two.*x", r"\Athree$", "four"]
ANY_CASE = ["(?i)one", "TWO|three+x", "(?i:fo)UR"]
MANY = [*FEW, *(f"x{n:02d}" for n in range(20))]
NEVER = ["one", r"^\s*$", "st\u00f6r"]


def screen_of(patterns: list[str]) -> Screen:
    return Screen.compile([compile_rule(Rule(pattern, ("alarm",))) for pattern in patterns])


SCREENS = {tuple(patterns): screen_of(patterns) for patterns in (FEW, ANY_CASE, MANY, NEVER)}
PIECES = ["one", "two", "x", "three", "FOUR", "x07", "on", "e", " ", "\n", "st\u00f6r", "\u0131", "\ud800", "-" * SHORT]


@given(st.sampled_from([*SCREENS]), st.lists(st.sampled_from(PIECES), max_size=6).map("".join))
def test_no_record_is_told_away_that_a_rule_matches(patterns: tuple[str, ...], text: str) -> None:
    """Whatever a rule says of a record, in few or many characters, of ASCII or not: the text tells of it."""
    message = text.encode("utf-8", "backslashreplace") + b"\n"
    compiled = [compile_rule(Rule(pattern, ("alarm",))) for pattern in patterns]
    if any(rule.search(line) for rule in compiled for line in message.splitlines(keepends=True)):
        assert SCREENS[patterns].may_match_text(text)


@pytest.mark.parametrize("patterns", [FEW, ANY_CASE, MANY])
@pytest.mark.parametrize("text", ["", "on\ne", "on" + "-" * SHORT, "\u00fc", "TWo x"])
def test_what_no_rule_needs_is_told_away(patterns: list[str], text: str) -> None:
    """A record goes nowhere that holds nothing of what the rules ask for, the first as well as later ones."""
    screen = screen_of(patterns)
    assert [screen.may_match_text(text), screen.may_match_text(text)] == [False, False]


def test_what_cannot_be_encoded_is_left_to_the_rules() -> None:
    """They see its escapes."""
    assert screen_of(MANY).may_match_text("\ud800")


@pytest.mark.parametrize("pattern", [r"one\n", r"on.\n$", r"\n"])
@pytest.mark.parametrize("multiline", [False, True])
def test_a_rule_may_ask_for_the_newline_that_a_text_lacks(pattern: str, *, multiline: bool) -> None:
    """The line has one, as if it had been printed."""
    rule = compile_rule(Rule(pattern, ("alarm",), multiline=multiline))
    assert rule.search(b"one\n")
    assert Screen.compile([rule]).may_match_text("one")
