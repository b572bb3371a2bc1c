"""A rule's own verdict: Python's meaning, PCRE's meaning, and no line that can hold the thread."""

from __future__ import annotations

import contextlib
import re
import sys
import time
import warnings
from collections.abc import Callable

import pytest
import regex
from example_counts import examples
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from alarm_mw.engine.rules import compile_rule
from alarm_mw.model.errors import PatternError, RuleTimeout
from alarm_mw.model.types import Rule, Syntax
from alarm_mw.patterns.bounded_pattern import RULE_TIMEOUT
from alarm_mw.patterns.safety import BUDGET, longest
from alarm_mw.patterns.syntax import python as python_syntax
from alarm_mw.patterns.syntax.render import render
from alarm_mw.patterns.tree import NOTHING

Patterns = Callable[[Syntax], st.SearchStrategy[str]]


def python(pattern: str) -> Rule:
    return Rule(pattern, ("alarm",))


def test_python_rules_see_text() -> None:
    """A rule in Python's syntax sees characters, and undecodable bytes as surrogates."""
    assert compile_rule(python(r"^caf.$")).search("café\n".encode())
    assert compile_rule(python("\udcff")).search(b"a\xff\n")
    assert compile_rule(python(r"(?i)straße")).search("STRAßE\n".encode())


def test_a_rule_sees_the_newline() -> None:
    r"""The newline is part of the line: ``$`` matches before it, ``\Z`` only after it."""
    for syntax in Syntax:
        assert compile_rule(Rule(r"a$", ("alarm",), syntax)).search(b"a\n")
        assert compile_rule(Rule(r"^a\n$", ("alarm",), syntax)).search(b"a\n")
    assert not compile_rule(python(r"a\Z")).search(b"a\n")


@pytest.mark.parametrize(
    ("pattern", "position"),
    [("ab(c", 2), ("[z-a]", 1), (r"(?<=a+)b", None), ("a" + "(" * 3000 + ")" * 3000, None), (r"a{99999999999}", None)],
)
def test_a_wrong_python_pattern_says_where_it_breaks(pattern: str, position: int | None) -> None:
    """What Python's `re` refuses is refused, at the place that `re` names."""
    with pytest.raises(PatternError) as caught:
        compile_rule(python(pattern))
    assert caught.value.position == position
    assert caught.value.text


def test_a_rule_shows_what_it_was_made_from() -> None:
    """In a debugger or a traceback, a rule is told by its pattern."""
    assert repr(compile_rule(python("ab+"))) == f"CompiledRule({python('ab+')!r})"


def test_python_rules_are_pythons() -> None:
    """PCRE's conveniences are errors in a rule of Python's syntax, as they are in Python."""
    for pattern in (r"\h", r"\Qa\E", r"(?<n>a)", r"a(?i)b"):
        with pytest.raises(PatternError):
            compile_rule(python(pattern))


@pytest.mark.parametrize("syntax", Syntax)
@pytest.mark.parametrize("pattern", [r"^(a+)+$", r"^(?:a|aa)+$", r"^(?:.*)*x\b.*(?!a)b"])
def test_an_exponential_pattern_is_cut_off(syntax: Syntax, pattern: str) -> None:
    """A pattern that would backtrack for years raises `RuleTimeout` soon after its time."""
    compiled = compile_rule(Rule(pattern, ("alarm",), syntax))
    started = time.monotonic()
    with pytest.raises(RuleTimeout):
        compiled.search(b"a" * 50_000 + b"xb\xff\n" + b"a" * 50)
    assert time.monotonic() - started < 100 * RULE_TIMEOUT


@pytest.mark.parametrize("syntax", Syntax)
@pytest.mark.parametrize("pattern", [r".*.*.*x\b", r"\d+[^\d]x?(?=y)", r"(.*) \1 (?=z)"])
def test_a_polynomial_pattern_is_cut_off_on_a_long_line(syntax: Syntax, pattern: str) -> None:
    """A pattern whose time grows with a power of the line's length does not hold the thread either."""
    compiled = compile_rule(Rule(pattern, ("alarm",), syntax))
    started = time.monotonic()
    with contextlib.suppress(RuleTimeout):
        assert not compiled.search(b"1x_ " * 16_000)
    assert time.monotonic() - started < 100 * RULE_TIMEOUT


@pytest.mark.parametrize(
    ("pattern", "power"),
    [
        ("ERROR", 1),
        (r"^\S+ \S+ \d+ (?:WARNING|ERROR) ", 1),
        (r"foo.*bar", 2),
        (r"\d+x", 2),
        (r"^.*foo.*bar", 2),
        (r".*.*.*x", 4),
        (r"(?:[a-z]+-)+x", 2),
        (r"(?:\d{1,3}\.){3}\d{1,3}", 1),
        (r"^(?:a{0,100}b)*(a|b)\1", 2),
        (r"a*(?=.*b)c", 3),
        (r"(?:ab|c)*x", 2),
        (r"(ab)*x", 2),
        (r"(?:(?>ab))*x", 2),
        (r"(a)?(?:(?(1)b|c))*x", 2),
    ],
)
def test_the_worst_case_is_told_from_the_pattern(pattern: str, power: int) -> None:
    """`re` runs a pattern up to the length at which its worst case is still quick."""
    length = longest(python_syntax.parse(pattern))
    assert BUDGET / 100 < length**power <= BUDGET * 1.0001


@pytest.mark.parametrize(
    "pattern", [r"(a+)+$", r"(?:a|a.)*c", r"(?:a?)*b", r"(?:.*,)*x", r"(a*)*(?(1)b|c)", r"((a+)+b){5}", r"(?:\b)*x"]
)
def test_what_may_explode_is_never_given_to_re(pattern: str) -> None:
    """A repeat whose item can be matched in several ways has no safe length."""
    assert longest(python_syntax.parse(pattern)) == 0


@pytest.mark.parametrize("syntax", Syntax)
@pytest.mark.parametrize(
    "pattern", [r"(?:a{65535}){65535}", r"((((a{99}){99}){99}){99}){99}", r"(?:(?=b)[ab]{999}x?){999,}"]
)
def test_a_pattern_that_would_take_the_memory_is_refused(syntax: Syntax, pattern: str) -> None:
    """Repeats of repeats that amount to millions of parts are an error that says how many."""
    with pytest.raises(
        PatternError, match=r"its repeats amount to [\d,]+ parts, more than 100,000: use smaller counts"
    ):
        compile_rule(Rule(pattern, ("alarm",), syntax))


@pytest.mark.parametrize("syntax", Syntax)
@pytest.mark.parametrize("pattern", [r"a{40000}", r"(?:a{0,60000}b){0,60000}c", r"(?:ab{1,60000}){999}"])
def test_large_counts_are_no_reason_to_refuse_a_pattern(syntax: Syntax, pattern: str) -> None:
    """Only what occurs at least takes memory, and that may be a lot."""
    assert not compile_rule(Rule(pattern, ("alarm",), syntax)).search(b"x")


# Property: `regex` with the meaning spelled out gives the answer of `re`

TEXT = st.lists(st.sampled_from('abkKsiIİıSA1_ \t\r\n\x1céÉßµμKſ٣²σςΣǅǆ\u0301\u2028\x85\udcff\udc80.-#{"'), max_size=7)


@settings(max_examples=examples(250), suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_verdict_is_that_of_re(data: st.DataObject, patterns: Patterns) -> None:
    """A line too long for `re` is judged by `regex`, and the answer is the one that `re` gives."""
    pattern = data.draw(patterns(Syntax.PYTHON))
    # `re` does not go back among the counts of a possessive repeat of more than a character.
    if ")+" in pattern or "}+" in pattern or ")?+" in pattern or ")*+" in pattern:
        reject()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = re.compile(pattern)
            bounded = regex.compile(render(python_syntax.parse(pattern)), regex.VERSION0, cache_pattern=False)
    except re.error:
        reject()
    for text in data.draw(st.lists(TEXT.map("".join), min_size=1, max_size=8)):
        assert (bounded.search(text) is not None) == (expected.search(text) is not None), (pattern, text)


@pytest.mark.parametrize(
    "pattern",
    [
        r"\Ba",
        r"\A\B\Z",
        r"(?a:\w)+$",
        r"(?a)\d",
        r"(?i)[^i-kσ]",
        r"(?i)[i-lé-ü]+$",
        r"(?i)µ\Z",
        r"(?i)[\W_]",
        r"(?i)\W",
    ],
)
def test_characters_are_those_of_re(pattern: str) -> None:
    """Words, digits and cases beyond ASCII are what they are to `re`, for `regex` too."""
    bounded = regex.compile(render(python_syntax.parse(pattern)), regex.VERSION0, cache_pattern=False)
    for text in ["", "a", "aa", "éa", "é", "É", "٣", "7", "İ", "ı", "i", "J", "K", "ß", "Σ", "ς", "σ", "Μ", "µ", " "]:
        assert (bounded.search(text) is not None) == (re.search(pattern, text) is not None), (pattern, text)


def test_what_can_never_match_is_known_as_such() -> None:
    """``(?!)`` matches nowhere, and is nothing in the tree where Python's parser says so: from 3.12 on."""
    assert not compile_rule(python("(?!)")).search(b"a\n")
    assert python_syntax.to_node("FAILURE", (), re.NOFLAG) == NOTHING


def test_letters_are_the_same_in_any_case_as_they_are_for_re() -> None:
    """No character of Unicode has an ASCII letter for its other case that the screen does not know of."""
    everything = "".join(map(chr, range(0x80, sys.maxunicode + 1)))
    twins = re.compile("[a-z]", re.IGNORECASE).findall(everything)
    assert sorted(twins) == sorted(python_syntax.TWINS)


@pytest.mark.parametrize("pattern", ["a{%s}", "(a)\\%s", "(a)(?(%s)b)"])
def test_numbers_that_python_does_not_read_are_refused(pattern: str) -> None:
    """A number of thousands of digits is a mistake with a name, not a crash."""
    with pytest.raises(PatternError):
        compile_rule(python(pattern % ("9" * 5000)))


def test_groups_that_are_nested_too_deeply_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A regexp that cannot be read to its bottom is a mistake with a name, not a crash."""

    def give_up(*_: object, **__: object) -> object:
        raise RecursionError

    monkeypatch.setattr("alarm_mw.patterns.bounded_pattern.required_literals", give_up)
    with pytest.raises(PatternError, match="nested too deeply"):
        compile_rule(python("a"))
