"""What the screen looks for: it may say yes too often, never no too often."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from alarm_mw.engine.rules import CompiledRule, compile_rule
from alarm_mw.model.errors import PatternError, RuleTimeout
from alarm_mw.model.types import Rule, Syntax
from alarm_mw.patterns.expression import EVERY_LINE, Exactness
from alarm_mw.patterns.finder import Name
from alarm_mw.patterns.screen import Screen
from alarm_mw.patterns.syntax import pcre, python
from alarm_mw.patterns.translate import translate
from alarm_mw.patterns.tree import Tree

Grammar = Callable[[Sequence[str], Sequence[str]], st.SearchStrategy[str]]


@pytest.mark.parametrize(
    ("pattern", "expected", "exact"),
    [
        ("GET.*", "GET", Exactness.ASCII),
        (".*GET", "GET", Exactness.ASCII),
        ("é", r"(?:\xc3\xa9)", Exactness.ALWAYS),
        ("\udc80", r"(?:\x80)", Exactness.ASCII),
        ("(?i)ok", r"[Oo](?:[Kk]|\xe2\x84\xaa)", Exactness.ALWAYS),
        (r"(a+)+$", "a$", Exactness.ALWAYS),
        (r"\bfoo\b", r"\bfoo\b", Exactness.ASCII),
        (r"\b(?:ab|c)+\b", r"\b(?:ab|c)+\b", Exactness.ASCII),
        (r"\b\[x", r"\x5bx", Exactness.NEVER),
        (r"foo(?=bar)", "foobar", Exactness.ALWAYS),
        (r"(?<=foo)bar", "foobar", Exactness.ALWAYS),
        (r"foo(?!bar)", "foo", Exactness.NEVER),
        (r"(a|b)x\1", "[a-b]x[a-b]", Exactness.NEVER),
        (r"(?i)(ab)x\1", "[Aa][Bb][Xx](?:[Aa]|[\\x80-\\xff]{1,4})(?:[Bb]|[\\x80-\\xff]{1,4})", Exactness.NEVER),
        (r"(?>a|b)c", "[a-b]c", Exactness.NEVER),
        (r"(a)(?(1)b|c)", "a(?:b|c)", Exactness.NEVER),
        (r"a{300}", "aa{198}a", Exactness.NEVER),
        (r"x.{1,50}y", r"x[\x00-\x09\x0b-\x7f\x80-\xff]+y", Exactness.NEVER),
        (r"foo\s*$", r"foo[\x09\x0b-\x0d\x1c-\x20\x80-\xff]*$", Exactness.ASCII),
        (r"^$", r"^(?:\x0a|\z)", Exactness.NEVER),
        (r"^\s*$", r"^[\x09\x0b-\x0d\x1c-\x20\x80-\xff]*(?:\x0a|\z)", Exactness.NEVER),
        (r"^(?:a|$)", r"^(?:a|\x0a|\z)", Exactness.NEVER),
        (r"xa{0}b", "xb", Exactness.ALWAYS),
        (r"\b\bfoo", r"\bfoo", Exactness.NEVER),
        (r"(?i)(^a+)\1x", r"^[Aa]+[Aa\x80-\xff]+[Xx]", Exactness.NEVER),
        (r"x\s\Z", r"x(?:(?:[\x09\x0b-\x0d\x1c-\x20]|[\x80-\xff]{1,4})\z|\x0a)", Exactness.ASCII),
    ],
)
def test_a_pattern_is_translated_to_bytes(pattern: str, expected: str, exact: Exactness) -> None:
    """The screen's pattern is the rule's own on bytes, as narrow as can be, and knows where it is exact."""
    expression = translate(python.parse(pattern))
    assert (expression.pattern, expression.exact) == (expected, exact)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"(?s)a.*c$", r"a[\x00-\x7f\x80-\xff]*c"),
        (r"(?m)^a$\n(?:b\Z|c{2})", r"^a\x0a(?:b|cc)"),
    ],
)
def test_a_multiline_pattern_is_translated_without_the_ends_of_lines(pattern: str, expected: str) -> None:
    """A multiline rule is looked for across lines; where its text ends cannot be told in a stream."""
    expression = translate(python.parse(pattern), multiline=True)
    assert (expression.pattern, expression.exact) == (expected, Exactness.NEVER)


def test_references_to_references_stay_small() -> None:
    """A pattern whose back-references double with each group, thirty times, is a short one to the screen."""
    pattern = "(ab)" + "".join(rf"(\{number}\{number})" for number in range(1, 31))
    expression = translate(python.parse(pattern))
    assert expression.pattern.startswith("abab")
    assert len(expression.pattern) < 5000


def test_a_reference_to_what_never_matches_may_be_anything() -> None:
    """A back-reference into a part that was dropped, since it cannot match, does not narrow the screen."""
    assert translate(pcre.parse(r"(?:(a)(*F)|b)\1c")).pattern == r"b[\x00-\x09\x0b-\x7f\x80-\xff]*c"


@pytest.mark.parametrize("pattern", ["", "a*", "^", "$", r"\Z", r"a*\Z", r"x|", r"(?!)", r"\b", r"(?m)^\s*\Z"])
def test_what_matches_the_empty_text_has_to_be_judged_on_every_line(pattern: str) -> None:
    """Where nothing is left to look for, every line goes to the rule."""
    assert translate(python.parse(pattern)) == EVERY_LINE


@pytest.mark.parametrize(
    ("pattern", "literal"),
    [
        ("error: .* (?:a|b)", b"error: "),
        ("(?i)error", b""),
        (r"(?:x{3}|y)abc\d", b"abc"),
        (r"(?:abc)+d", b"abcd"),
        ("é", b"\xc3\xa9"),
    ],
)
def test_the_bytes_that_a_match_needs_are_known(pattern: str, literal: bytes) -> None:
    """Without an automaton, lines are looked for by the longest bytes that each match holds."""
    assert translate(python.parse(pattern)).literal == literal


@pytest.mark.parametrize(
    ("pattern", "needs"),
    [
        ("error|fail(?:ed|ure): .*", {"error", "fail"}),
        ("(?i)error", {"error"}),
        ("(?i:warn)ing|x (?i:Y)", {"warning", "x y"}),
        ("Disk: (?i:f)", {"Disk: "}),
        ("(?:ab|cd){2,}x?", {"ab", "cd"}),
        (r"a{3}b\s", {"aaab"}),
        ("(?:ab|c?)", set()),
        (r"\d\d:\d\d", {":"}),
        (r"gone\n", {"gone"}),
        (r"\n", set()),
        ("st\u00f6r", {"st"}),
        ("|".join(f"{n:03d}" for n in range(65)), set()),
    ],
)
@pytest.mark.parametrize("parse", [python.parse, pcre.parse])
def test_the_texts_are_known_of_which_a_match_holds_one(
    pattern: str, needs: set[str], parse: Callable[[str], Tree]
) -> None:
    """In any case, or in small letters where the rule has it so; a choice needs one of its branches."""
    assert set(translate(parse(pattern)).needs.texts) == needs


def test_bytes_patterns_are_exact_on_all_lines() -> None:
    """A PCRE rule without lookaround and references needs no second judge, whatever the line holds."""
    assert translate(pcre.parse(r"^\w+ [^x]\b\s*$")).exact is Exactness.ALWAYS


# Property: never no too often

BACKENDS: list[Name] = ["hyperscan", "re2", "regex"]
COMMON = [
    r"a",
    r"b",
    r"k",
    r"K",
    r"s",
    r"i",
    r"é",
    r".",
    r"^",
    r"$",
    r"\d",
    r"\w",
    r"\s",
    r"\W",
    r"\S",
    r"\D",
    r"\b",
    r"\B",
    r"\A",
    r"\Z",
    r"\n",
    r"\r",
    r"\x41",
    r"\xe9",
    r"#",
    r"[ab]",
    r"[^a]",
    r"[]a]",
    r"[a-c]",
    r"[\d_-]",
    r"[\w.]",
    r'[^\s"]',
    r"[^\S\n]",
    r"[\x00-\x20]",
    r"[^\n]",
    r"\1",
    r"(?(1)a|b)",
    r"(?#c)",
    r"{",
    r"}",
    r"]",
    r"a{,2}",
    r"{1",
    r"1",
    r"_",
    r"ab",
    r"a+b",
    r"\bk",
    r"k\b",
    r"\W\b",
    r"s$",
    r"^a",
    r"\s*$",
    r"\n$",
    r"foo",
    " ",
]
ATOMS = {
    Syntax.PYTHON: [
        r"İ",
        r"É",
        r"ß",
        r"µ",
        r"K",
        r"ſ",
        r"٣",
        r"²",
        r"σ",
        r"[é-ü]",
        r"[^é]",
        r"[kſ]",
        r"[^k]",
        r"[i-l]",
        r"\Z",
        r"(?P=n)",
        r"\b.",
        r".\b",
        r"\bé",
        "�",
        "�",
    ],
    Syntax.PCRE: [
        r"\h",
        r"\V",
        r"\R",
        r"\N",
        r"\z",
        r"\xff",
        r"[[:alpha:]]",
        r"[[:^digit:]]",
        r"(?i)",
        r"(?s)",
        r"(?m)",
        r"(?-i)",
        r"\k<n>",
        r"a++",
        r"\Qa.b\E",
        r"\x85",
        r"\G",
        r"\K",
    ],
}
GROUPS = [
    r"(%s)",
    r"(?:%s)",
    r"(?P<n>%s)",
    r"(?>%s)",
    r"(?=%s)",
    r"(?!%s)",
    r"(?<=%s)",
    r"(?<!%s)",
    r"(?i:%s)",
    r"(?s:%s)",
    r"(?m:%s)",
    r"(?x:%s)",
    r"(?-i:%s)",
    r"(?(1)%s)",
    r"(?:%s|^)",
    r"(?:%s|$)",
]
ONLY_PYTHON = ["(?a:%s)", "(?u:%s)", "(?ai:%s)"]
STARTS = ["", "", "", "(?i)", "(?x)", "(?s)(?m)", "(?mi)"]
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
@settings(max_examples=250, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_line_that_a_rule_matches_is_missed(syntax: Syntax, data: st.DataObject, grammar: Grammar) -> None:
    """Every line that a rule matches is a hit, on every backend; and a certain hit is a line that the rule matches."""
    groups = GROUPS + (ONLY_PYTHON if syntax is Syntax.PYTHON else [])
    pattern = data.draw(st.sampled_from(STARTS)) + data.draw(grammar(COMMON + ATOMS[syntax], groups))
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
    screen = Screen.compile([rule], backend=data.draw(st.sampled_from(BACKENDS)))
    hits = {hit.start: hit for hit in screen.scan(stream)}
    start = 0
    for line in filter(None, lines):
        hit = hits.get(start)
        if verdict(rule, line):
            assert hit, (pattern, line)
            assert stream[hit.start : hit.end] == line
            assert screen.may_match(line)
            assert screen.candidates(line) == (0,)
        elif hit:
            assert not hit.certain, (pattern, line)
        text = line.removesuffix(b"\n")
        if verdict(rule, text + b"\n"):
            assert screen.may_match_text(text.decode("utf-8", "surrogateescape")), (pattern, text)
        start += len(line)
    if verdict(rule, stream) and multiline:
        assert screen.candidates(stream) == (0,), pattern
