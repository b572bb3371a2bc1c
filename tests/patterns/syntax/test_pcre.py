"""PCRE's syntax, held against PCRE itself and perl."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable, Sequence

import pytest
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st

from alarm_mw.engine.rules import CompiledRule, compile_rule
from alarm_mw.model.errors import PatternError, RuleTimeout
from alarm_mw.model.types import Rule, Syntax

Grammar = Callable[[Sequence[str], Sequence[str]], st.SearchStrategy[str]]


class Pcre2:
    """The library behind ``grep -P``, which Debian's grep needs: PCRE without UTF mode, as uWSGI uses it."""

    def __init__(self) -> None:
        self._library = library = ctypes.CDLL("libpcre2-8.so.0")
        library.pcre2_compile_8.restype = library.pcre2_match_data_create_8.restype = ctypes.c_void_p
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        library.pcre2_compile_8.argtypes = [ctypes.c_char_p, size, ctypes.c_uint32, pointer, pointer, pointer]
        library.pcre2_match_8.argtypes = [pointer, ctypes.c_char_p, size, size, ctypes.c_uint32, pointer, pointer]
        library.pcre2_match_data_create_8.argtypes = [ctypes.c_uint32, pointer]
        library.pcre2_get_error_message_8.argtypes = [ctypes.c_int, ctypes.c_char_p, size]
        library.pcre2_code_free_8.argtypes = [pointer]
        self._match_data = library.pcre2_match_data_create_8(64, None)

    def answers(self, pattern: bytes, subjects: Sequence[bytes]) -> list[bool | None]:
        """Return whether the pattern is found in each subject, None where PCRE gave up; raise `ValueError`."""
        error, offset = ctypes.c_int(), ctypes.c_size_t()
        places = ctypes.byref(error), ctypes.byref(offset)
        code = self._library.pcre2_compile_8(pattern, len(pattern), 0, *places, None)
        if not code:
            raise ValueError(self._message(error.value))
        found = [self._library.pcre2_match_8(code, text, len(text), 0, 0, self._match_data, None) for text in subjects]
        self._library.pcre2_code_free_8(code)
        return [True if count >= 0 else False if count == -1 else None for count in found]

    def _message(self, number: int) -> str:
        text = ctypes.create_string_buffer(200)
        self._library.pcre2_get_error_message_8(number, text, len(text))
        return text.value.decode()


PCRE2 = Pcre2()


def rule(pattern: str) -> CompiledRule:
    return compile_rule(Rule(pattern, ("alarm",), Syntax.PCRE))


def searched(compiled: CompiledRule, subject: bytes) -> bool | None:
    try:
        return compiled.search(subject)
    except RuleTimeout:
        return None


# What the documentation of uWSGI and PCRE promises

FOUND = [
    (r"^caf..$", "café\n".encode()),
    (r"\xff", b"a\xffb"),
    (r"\x00", b"a\x00b"),
    (r"^$", b"\n"),
    (r"^\n", b"\n"),
    (r"a\n\z", b"a\n"),
    (r"a\Z", b"a\n"),
    (r"[[:alpha:]]+[[:^digit:]]", b"ab"),
    (r"[]a]b", b"]b"),
    (r"a{,3}b", b"a{,3}b"),
    (r"x]y}z{", b"x]y}z{"),
    (r"\Qa.b*\E+c", b"a.b**c"),
    (r"(?<y>\d\d)-\k<y>", b"24-24"),
    (r"(?'y'\d)\k{y}\g{y}(?P=y)\g1\g{-1}", b"777777"),
    (r"a(?i)b|C", b"c"),
    (r"(?>a+)b", b"aab"),
    (r"\h\H\R\N\e\a\cA\o{101}\x{42}", b"\xa0x\r\ny\x1b\x07\x01AB"),
    (r"foo\Kbar", b"foobar"),
    (r"(?x) a b # comment", b"ab"),
    (r"(?(DEFINE)(?<n>25[0-5]|1?\d?\d))^(?&n)\.(?&n)$", b"10.255\n"),
    (r"(?|(a)|(b))c", b"bc"),
    (r"(?<=ab|c)d", b"cd"),
    (r"\10|\011", b"\t"),
    (r"(a)?(?(1)b|c)", b"c"),
    (r"(?U)a+?$", b"aaa"),
    (r"[[:<:]]word[[:>:]]", b"a word."),
    (r"\p{Lu}\PL", b"A1"),
    (r"(*NO_JIT)(*LIMIT_MATCH=10)a(?#comment)(?C1)", b"a"),
    ("é", "é".encode()),
    ("\udcff", b"\xff"),
]
NOT_FOUND = [
    (r"^caf.$", "café\n".encode()),
    (r"\w", "é".encode()),
    (r"[[:alpha:]]", "é".encode()),
    (r"a\z", b"a\n"),
    (r"a.", b"a\n"),
    (r"a++a", b"aaa"),
    (r"(?>a|ab)c", b"abc"),
    (r"(?:a(?-i)b)(*F)", b"ab"),
    (r"(?i)[[:^upper:]]", b"a"),
    (r"(?m)b^$", b"b\n"),
]


#: What is seldom written, or is not the same to perl.
RARE = [
    (r"\Qa|b)", b"a|b)", True),
    (r"(?=a)+a", b"a", True),
    (r"(?=b)*a", b"a", True),
    (r"(?=b){0}a", b"a", True),
    (r"(?(?=a)ab|cd)$", b"cd", True),
    (r"(?(?<!x)y|z)", b"xy", False),
    (r"(?<n>a)?(?(<n>)b|c)$", b"ab", True),
    (r"(?<n>a)?(?('n')b|c)$", b"a", False),
    (r"(?:(a)(*F)|b)(?(1)x|c)", b"bc", True),
    (r"(?:(a)(*F)|b)(?(1)(x)\2|(c)\3)", b"bcc", True),
    (r"(?:(a)(*F)|b)\1", b"bb", False),
    (r"(*pla:a)ab", b"ab", True),
    (r"(*atomic:a|ab)c", b"abc", False),
    (r"^[\Qa-c\E]+$", b"a-c", True),
    (r"[\Qa-c\E]", b"b", False),
    (r"[a\E-\Ec]", b"b", True),
    (r"[a-][:x]", b"-:", True),
    (r"[[:a]]", b":]", True),
    (r"(?xx)^[a b]+$", b"a b", False),
    (r"[\b][\101][\12][\8][\x41-\x43]", b"\x08A\n8B", True),
    (r"[\pL][\PL]", b"a1", True),
    (r"^\C$", b"\n", True),
    (r"(a|b)\g<1>\g'1'", b"aba", True),
    (r"(?|(?<n>a)x|(?<n>b)y)", b"by", True),
    (r"(a(b))\2(?1)", b"abbab", True),
    (r"(?<=^a)b", b"ab", True),
    (r"(?<=(a))b", b"ab", True),
    (r"(?<=a(?:b|c))d", b"acd", True),
    (r"(?i)(?^)a", b"A", False),
    (r"(*BSR_ANYCRLF)\R", b"\x0b", False),
]


@pytest.mark.parametrize(("pattern", "subject", "found"), RARE)
def test_rare_syntax_means_what_it_means_to_pcre(pattern: str, subject: bytes, found: bool) -> None:
    """Whatever pcre2pattern(3) describes and is taken has the meaning that it has there."""
    assert rule(pattern).search(subject) is found
    assert PCRE2.answers(pattern.encode(), [subject]) == [found]


@pytest.mark.parametrize(("pattern", "subject"), FOUND)
def test_what_pcre_users_write_is_found(pattern: str, subject: bytes) -> None:
    """A PCRE pattern matches the lines that PCRE's documentation says, with nothing to be rewritten."""
    assert rule(pattern).search(subject)
    assert PCRE2.answers(pattern.encode("utf-8", "surrogateescape"), [subject]) == [True]


@pytest.mark.parametrize(("pattern", "subject"), NOT_FOUND)
def test_what_pcre_does_not_find_is_not_found(pattern: str, subject: bytes) -> None:
    """A PCRE pattern does not match more than PCRE does: it works on bytes, and ASCII."""
    assert not rule(pattern).search(subject)
    assert PCRE2.answers(pattern.encode(), [subject]) == [False]


@pytest.mark.parametrize(
    ("pattern", "position", "text"),
    [
        ("ab(c", 2, "never closed"),
        ("abc)", 3, "closes nothing"),
        ("é[a", 1, "']'"),
        ("a**", 2, "repeat"),
        ("(?i)*", 4, "repeat"),
        ("a{3,1}", 1, "out of order"),
        ("a{65536}", 1, "65535"),
        ("a{" + "9" * 5000 + "}", None, "too high"),
        (r"\g{" + "9" * 5000 + "}", None, "too high"),
        (r"\1(a)", 0, "group '1'"),
        (r"(a\1)", 2, "group '1'"),
        (r"x\k<no>", 1, "'no'"),
        ("(?R)", 0, "recursion"),
        ("(?<n>a(?&n)?)", 6, "recursion"),
        ("(?&n)", 0, "'n'"),
        (r"((a)\2)(?1)", 7, "reference"),
        ("(?<n>a)(?<n>b)", 7, "two groups"),
        (r"(?J)(?<n>a)(?<n>b)\k<n>", 18, "several groups"),
        (r"(?|(a)|(b))\1", 11, "several groups"),
        ("(?<1>a)", 0, "name"),
        (r"(?<=a+)b", 0, "fixed length"),
        (r"(a)(?<=\1)b", 3, "fixed length"),
        (r"(?<=(a)(?=\1))b", None, "same lookbehind"),
        ("(a)" + "".join(f"((?{n})(?{n}))" for n in range(1, 16)), 14, "too large"),
        (r"(?<=(?(?=a)a|b))", 4, "lookbehind"),
        (r"(a)(?(1)a|b|c)", 3, "two branches"),
        ("(?(DEFINE)a|b)", 0, "one branch"),
        ("(?(R)a)", 0, "conditions"),
        ("(*ACCEPT)", 0, "verb"),
        ("(*UTF8)a", 0, "UTF"),
        (r"\x{100}", 0, "UTF-8 bytes"),
        (r"\x{zz}", 0, "hexadecimal"),
        (r"\o{9}", 0, "octal"),
        (r"\777", 0, "beyond"),
        (r"\c", 0, "printable"),
        (r"\N{U+41}", 0, "bytes"),
        (r"\p{Greek}", 0, "categories"),
        (r"\X", 0, "\\X"),
        (r"[\R]", 1, "class"),
        (r"[z-a]", 2, "out of order"),
        (r"[\d-z]", 3, "range"),
        ("[[:foo:]]", 1, "[:foo:]"),
        ("[[.a.]]", 1, "collating"),
        ("[:alpha:]", 0, "within a class"),
        ("(?z)", 0, "kind of group"),
        ("(?C'a')", 0, "callouts"),
        ("\\Qa\\E(?#b", 8, "comment"),
        ("a\\", 1, "backslash"),
        (r"\g(", 0, "group ''"),
        (r"\k(", 0, "brackets"),
        ("(" * 200 + ")" * 200, 60, "nested"),
    ],
)
def test_what_is_wrong_is_shown_where_it_stands(pattern: str, position: int | None, text: str) -> None:
    """A pattern that is wrong, or that cannot be had, is refused with its place in the pattern and the reason."""
    with pytest.raises(PatternError) as caught:
        rule(pattern)
    assert caught.value.position == position
    assert text in caught.value.text


# Property: the same answers as PCRE

ATOMS = [
    r"a",
    r"b",
    r"k",
    r"K",
    r"s",
    r".",
    r"^",
    r"$",
    r"\d",
    r"\w",
    r"\s",
    r"\W",
    r"\S",
    r"\D",
    r"\h",
    r"\H",
    r"\v",
    r"\V",
    r"\R",
    r"\N",
    r"\b",
    r"\B",
    r"\A",
    r"\z",
    r"\Z",
    r"\G",
    r"\K",
    r"\e",
    r"\a",
    r"\x41",
    r"\x{61}",
    r"\xe9",
    r"\xff",
    r"\x",
    r"\0",
    r"\01",
    r"\o{141}",
    r"\cA",
    r"\t",
    r"\n",
    r"\r",
    r"é",
    r"#",
    r"\Qa.b\E",
    r"\Q",
    r"\E",
    r"[ab]",
    r"[^a]",
    r"[]a]",
    r"[^]a]",
    r"[[:alpha:]]",
    r"[[:^alpha:]]",
    r"[[:upper:]]",
    r"[[:^upper:]x]",
    r"[a-c]",
    r"[\d_-]",
    r"[a\-c]",
    r"[\w.]",
    r"[\Qa-c\E]",
    r"[\x00-\x20]",
    r"[^\S\n]",
    r"[a-]",
    r"[-a]",
    r"\1",
    r"\2",
    r"\g1",
    r"\g{-1}",
    r"\k<n>",
    r"(?P=n)",
    r"\10",
    r"(?1)",
    r"(?&n)",
    r"(?#c)",
    r"{",
    r"}",
    r"]",
    r"{,2}",
    r"{1",
    r"\C",
    r"\pL",
    r"\p{Lu}",
    r"[[:<:]]",
    r"[[:>:]]",
    r"(?i)",
    r"(?-i)",
    r"(?s)",
    r"(?m)",
    r"(?x)",
    r"(?U)",
    r"(?J)",
    r"(?i-s)",
    r"(?^)",
    r"(?xx)",
    r"(?n)",
    r"(*F)",
    r"(?C1)",
    r"1",
    r"_",
    r",",
    r"[\h]",
    r"[\V]",
    r"[z\Ea]",
    r"\/",
    r"\-",
    r"\_",
    " ",
    "\x00",
    "\xa0",
    "\\ ",
]
GROUPS = [
    r"(%s)",
    r"(?:%s)",
    r"(?<n>%s)",
    r"(?P<n>%s)",
    r"(?'n'%s)",
    r"(?>%s)",
    r"(?=%s)",
    r"(?!%s)",
    r"(?<=%s)",
    r"(?<!%s)",
    r"(?i:%s)",
    r"(?s:%s)",
    r"(?m:%s)",
    r"(?x:%s)",
    r"(?|%s)",
    r"(?(1)%s)",
    r"(?(<n>)%s)",
    r"(?(?=a)%s)",
    r"(?(DEFINE)%s)",
    r"(*pla:%s)",
    r"(*atomic:%s)",
    r"(?-i:%s)",
    r"(?ims-x:%s)",
]
STARTS = ["", "", "", "", "(*LF)", "(*BSR_ANYCRLF)", "(?i)", "(?x)", "(?s)(?m)"]
PIECES = [bytes([code]) for code in b"abkKsAB1_ \t\r\n\xe9\xff\x00\x85\xa0.,{}]-#\x1b\x07\x01"] + [b"\xc3\xa9", b"ab"]

#: What PCRE refuses and we take in the meaning that it would have.
REFUSED_FOR_NOTHING = ("\\K is not allowed", "lookbehind assertion is not fixed length")


@settings(max_examples=250, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_patterns_mean_what_they_mean_to_pcre(data: st.DataObject, grammar: Grammar) -> None:
    """Whatever pattern is taken gives PCRE's own answer on every line; what PCRE refuses is refused."""
    pattern = data.draw(st.sampled_from(STARTS)) + data.draw(grammar(ATOMS, GROUPS))
    # Of an assertion repeated no times, PCRE's optimiser asks after all.
    assume("){0" not in pattern)
    subjects = data.draw(st.lists(st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join), min_size=1, max_size=8))
    try:
        compiled = rule(pattern)
    except PatternError:
        reject()
    try:
        expected = PCRE2.answers(pattern.encode(), subjects)
    except ValueError as error:
        assert str(error).startswith(REFUSED_FOR_NOTHING), pattern  # noqa: PT017  # a second expectation
        return
    for subject, answer in zip(subjects, expected, strict=True):
        if answer is not None:
            assert searched(compiled, subject) in {answer, None}, (pattern, subject)


PERL = r"""
binmode STDOUT; no warnings;
while (<STDIN>) { chomp; my ($p, $s) = map { pack 'H*', $_ } split / /, $_, 2; print $s =~ /$p/ ? 1 : 0 }
"""


def test_perl_gives_the_same_answers() -> None:
    """An engine that has nothing to do with PCRE reads the same patterns the same way."""
    cases = [
        case
        for case in FOUND + NOT_FOUND
        if not case[0].startswith(("(*", "\udcff", "(?U)", "[[:<", "(?m)b", "a{,3}", r"\p", r"\Q"))
        and "(?C" not in case[0]
    ]
    lines = "".join(f"{p.encode().hex()} {s.hex() or '00'}\n" for p, s in cases)
    done = subprocess.run(["perl", "-e", PERL], input=lines, capture_output=True, text=True, check=True)
    assert done.stdout == "".join(str(int(rule(p).search(s or b"\0"))) for p, s in cases)
