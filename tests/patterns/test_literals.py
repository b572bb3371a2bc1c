"""The literals that a regexp requires: no line matches without one of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
from example_counts import examples
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from alarm_mw.engine.rules import CompiledRule, compile_rule
from alarm_mw.model.errors import PatternError, RuleTimeout
from alarm_mw.model.types import Rule, Syntax
from alarm_mw.patterns.literal_finder import PlainFinder, literal_finder
from alarm_mw.patterns.literals import EVERY_LINE, Literal, required_literals
from alarm_mw.patterns.prefilter import Prefilter
from alarm_mw.patterns.syntax import pcre, python
from alarm_mw.patterns.tree import Tree

Patterns = Callable[[Syntax], st.SearchStrategy[str]]

SYNTAXES = [python.parse, pcre.parse]


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        ("GET.*", {b"GET"}),
        ("GET.*5003", {b"5003"}),
        ("error|fail(?:ed|ure): .*", {b"error", b"failed: ", b"failure: "}),
        ("(foo.*bar)baz", {b"barbaz"}),
        ("(?:foo.*bar|f.*bor)baz", {b"barbaz", b"borbaz"}),
        ("ab+cde", {b"bcde"}),
        ("(?:ab|cd){2,}x?", {b"abab", b"abcd", b"cdab", b"cdcd"}),
        ("a{3}b\\s", {b"aaab"}),
        ("xa{0}b", {b"xb"}),
        ("colou?r", {b"color", b"colour"}),
        ("[hm]ouse", {b"house", b"mouse"}),
        ("(?:[a-h][a-h])failed", {b"failed"}),
        ("gone\\n", {b"gone"}),
        ("x[\n ]gone", {b"gone"}),
        ("foo(?=barbar)", {b"barbar"}),
        ("(?<=foo)ba", {b"foo"}),
        ("foo(?!bar)", {b"foo"}),
        ("(?>ab|abc)d", {b"abd", b"abcd"}),
        ("(a)(?(1)bcd|efg)", {b"abcd", b"aefg"}),
        ("(abc)\\1", {b"abc"}),
        ("st\u00f6rung", {"st\u00f6rung".encode()}),
        ("(?i)error", {b"error"}),
        ("foo|foobar|barfoo", {b"foo"}),
    ],
)
@pytest.mark.parametrize("parse", SYNTAXES)
def test_the_best_texts_are_chosen(pattern: str, texts: set[bytes], parse: Callable[[str], Tree]) -> None:
    """Of all texts that a match holds, the longest and rarest are looked for; of a choice, one of each branch."""
    assert {literal.text for literal in required_literals(parse(pattern))} == texts


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "",
            "a*",
            "^",
            "$",
            r"\Z",
            "x|",
            "(?!)",
            r"\b",
            "a",
            "a.b",
            r"\d\d:\d\d",
            "(?:ab|c?)",
            r"\n",
            "[^a]+",
            r"(\d)\1",
        ),
        *("|".join(f"{n:03d}" for n in range(65)), "[^ab][^cd]"),
    ],
)
@pytest.mark.parametrize("parse", SYNTAXES)
def test_what_has_no_literal_is_judged_on_every_line(pattern: str, parse: Callable[[str], Tree]) -> None:
    """Without two characters to look for, every line goes to the rule."""
    assert required_literals(parse(pattern)) == EVERY_LINE


@pytest.mark.parametrize(
    ("pattern", "literals"),
    [
        ("TERRIBLE ALARM", [Literal(b"TERRIBLE ALARM", certain=True)]),
        (".*upload.*", [Literal(b"upload", certain=True)]),
        ("^(?:one|two)", [Literal(b"one", at_start=True, certain=True), Literal(b"two", at_start=True, certain=True)]),
        ("(?i)error", [Literal(b"error", ignores_case=True, certain=True)]),
        ("[Ee][Rr][Rr]or", [Literal(b"error", ignores_case=True)]),
        ("^one.*x", [Literal(b"one")]),
        ("one$", [Literal(b"one")]),
        (r"\bone\b", [Literal(b"one")]),
        ("a++bone", [Literal(b"abone")]),
        ("(?>one|onet)wo", [Literal(b"onetwo"), Literal(b"onewo")]),
    ],
)
@pytest.mark.parametrize("parse", SYNTAXES)
def test_a_plain_text_is_certain(pattern: str, literals: list[Literal], parse: Callable[[str], Tree]) -> None:
    """Whoever finds a plain text, in any case or at the start of a line, has found a match; of others only maybe."""
    if "++" not in pattern:
        assert list(required_literals(parse(pattern))) == literals


def test_a_multiline_rule_is_never_certain() -> None:
    """Its text may begin in another line."""
    assert required_literals(python.parse("^one"), multiline=True) == (Literal(b"one"),)


def test_letters_have_twins_beyond_ascii() -> None:
    """Python's ``i``, ``k`` and ``s`` in any case are other characters too: lines with them are candidates."""
    texts = {literal.text.decode(): literal.certain for literal in required_literals(python.parse("(?i)disk"))}
    assert texts == {"disk": True, "\u0130": False, "\u0131": False, "\u017f": False, "\u212a": False}
    assert [literal.text for literal in required_literals(pcre.parse("(?i)disk"))] == [b"disk"]


def test_a_byte_that_is_no_text_is_looked_for() -> None:
    """What Python reads as a surrogate is one byte of the line, which may be a part of a character."""
    assert required_literals(python.parse("ab\udc80")) == (Literal(b"ab\x80"),)
    assert required_literals(python.parse("ab(?:\ud800|cd)")) == (Literal(b"abcd"),)


# Property: never no too often

FINDERS = [literal_finder, PlainFinder]
PIECES = [
    text.encode("utf-8", "surrogateescape") for text in 'abkKsS1A_ \t\r.-#{"éÉßKſİı٣²σς\udcff\udc80\x1c\u2028\x85\x00'
]
PIECES += [b"ab", b"foo", b"aab", b"\xe2\x84", b"\xc3", b"\xc2\xa0"]
LINE = st.lists(st.sampled_from(PIECES), max_size=7).map(b"".join)


def verdict(rule: CompiledRule, line: bytes) -> bool:
    """Return the rule's own answer; one that is not in time counts as no."""
    try:
        return rule.search(line)
    except RuleTimeout:
        return False


@pytest.mark.parametrize("syntax", Syntax)
@settings(max_examples=examples(250), suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_line_that_a_rule_matches_is_missed(syntax: Syntax, data: st.DataObject, patterns: Patterns) -> None:
    """Every line that a rule matches is a hit, with each finder; and a certain hit is a line that the rule matches."""
    pattern = data.draw(patterns(syntax))
    multiline = data.draw(st.sampled_from([False, False, False, True]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rule = compile_rule(Rule(pattern, ("alarm",), syntax, multiline=multiline))
    except PatternError:
        reject()
    lines = [line + b"\n" for line in data.draw(st.lists(LINE, min_size=1, max_size=8))]
    if data.draw(st.booleans()):
        lines[-1] = lines[-1][:-1]
    stream = b"".join(lines)
    prefilter = Prefilter([rule], data.draw(st.sampled_from(FINDERS)))
    hits = {hit.start: hit for hit in prefilter.scan(stream)}
    start = 0
    for line in filter(None, lines):
        hit = hits.get(start)
        if verdict(rule, line):
            assert hit, (pattern, line)
            assert stream[hit.start : hit.end] == line
            assert prefilter.may_match(line)
            assert prefilter.candidates(line) == (0,)
        elif hit:
            assert not hit.certain, (pattern, line)
        text = line.removesuffix(b"\n")
        if verdict(rule, text + b"\n"):
            assert prefilter.records.may_match(text.decode("utf-8", "surrogateescape")), (pattern, text)
        start += len(line)
    if verdict(rule, stream) and multiline:
        assert prefilter.candidates(stream) == (0,), pattern
