"""PCRE's syntax, held against PCRE itself and perl."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from example_counts import examples
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st

from alarm_mw.engine.rules import CompiledRule, compile_rule
from alarm_mw.model.errors import PatternError, RuleTimeout
from alarm_mw.model.types import Rule, Syntax

Patterns = Callable[[Syntax], st.SearchStrategy[str]]
Grammar = Callable[[Sequence[str], Sequence[str]], st.SearchStrategy[str]]


class Pcre1:
    """PCRE 8, which Debian's uWSGI is linked with: what these rules mean."""

    #: Optimizations that change what some patterns mean, such as ``\R+\s``: PCRE_NO_AUTO_POSSESS, …_NO_START_OPTIMIZE.
    OPTIONS = 0x20000 | 0x4000000

    def __init__(self) -> None:
        self._library = library = ctypes.CDLL("libpcre.so.3")
        library.pcre_compile.restype = ctypes.c_void_p
        pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
        library.pcre_compile.argtypes = [text, number, pointer, pointer, pointer]
        library.pcre_exec.argtypes = [pointer, pointer, text, number, number, number, pointer, number]
        self._free = ctypes.CFUNCTYPE(None, pointer)(pointer.in_dll(library, "pcre_free").value or 0)

    def answers(self, pattern: bytes, subjects: Sequence[bytes]) -> list[bool | None]:
        """Return whether the pattern is found in each subject, None where PCRE gave up; raise `ValueError`."""
        error, offset, places = ctypes.c_char_p(), ctypes.c_int(), (ctypes.c_int * 99)()
        code = self._library.pcre_compile(pattern, self.OPTIONS, ctypes.byref(error), ctypes.byref(offset), None)
        if not code or b"\0" in pattern:
            raise ValueError((error.value or b"it holds NUL").decode())
        found = [self._library.pcre_exec(code, None, text, len(text), 0, 0, places, 99) for text in subjects]
        self._free(code)
        return [True if count >= 0 else False if count == -1 else None for count in found]


class Pcre2:
    """The library behind ``grep -P``: what only PCRE2 takes has its meaning."""

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


PCRE1, PCRE2 = Pcre1(), Pcre2()


def meant(pattern: str, subjects: Sequence[bytes]) -> list[bool | None]:
    """Return the answers of PCRE 8, or of PCRE2 where PCRE 8 refuses the pattern; raise `ValueError` where both do."""
    data = pattern.encode("utf-8", "surrogateescape")
    try:
        return PCRE1.answers(data, subjects)
    except ValueError:
        return PCRE2.answers(data, subjects)


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
    (r"(?(?=(a))x|b(c)(d)\3)", b"bcdd", True),
    # Escapes that mean nothing are letters; digits that name no group are digits.
    (r"\y\i\_[\y\R\A\g]", b"yi_R", True),
    (r"[\d-z]", b"-", True),
    (r"[a[:digit:]-z]", b"-", True),
    (r"\8\98", b"898", True),
    (r"(?i)[\p{Lu}b]", b"a", False),
    (r"^[\d\E\Q]\E][a-\Q\Ec]$", b"]b", True),
    (r"^[a-\Qc-\E][\Qa\E-c]$", b"bb", True),
    # POSIX classes, and what only looks like one
    ("[[:[:xdigit:]]+z", b"[:fz", True),
    ("x[^[:[:digit:]]", b"x:", False),
    ("[[:a]b:]", b":b:]", True),
    # Recursion
    (r"\((?:[^()]++|(?R))*\)\K", b"(a(b)c)", True),
    (r"^(\((?:[^()]|(?1))*\))$", b"(a(b)c", False),
    (r"^(?<n>a(?&n)?b)$", b"aabb", True),
    (r"^(?<n>a(?P>n)?b)$", b"aab", False),
    (r"(?(DEFINE)(?<x>\[(?&y)*\])(?<y>\d|(?&x)))^(?&x)$", b"[1[2[]3]]", True),
    (r"^((.)(?1)\2|.)$", b"abacaba", True),
    (r"(?|(a)x|(b)y)(?1)", b"bya", True),
    (r"(?J)(?<n>a)(?<n>b)(?&n)", b"aba", True),
    (r"(a)(?<=\x61)((.)\3)(?2)", b"abbcc", True),
    (r"(?:a(?R)?b)+c", b"aabbcc", False),
    ("(a)" + "".join(f"((?{n})(?{n}))" for n in range(1, 15)), b"a" * 32767, True),
    ("(a)" + "".join(f"((?{n})(?{n}))" for n in range(1, 15)), b"a" * 99, False),
    # Verbs
    (r"a(*PRUNE)b|ac", b"ac", False),
    (r"aaa(*SKIP)b|aac", b"aaac", False),
    (r"a(*SKIP)(*F)|.", b"a", False),
    (r"a(*PRUNE:name)b(*MARK:x)(*:y)", b"ab", True),
    # Extended characters
    (r"^\X$", b"\r\n", True),
    (r"^\X\X$", b"\r\n", False),
    # Starts
    ("(*UTF8)^caf.$", "café".encode(), True),
    ("(*UTF8)^caf..$", "café".encode(), False),
    (r"(*UTF8)^\X$", "e\u0301".encode(), True),
    (r"(*UTF8)(?i)^[^É]\x{df}$", "xẞ".encode(), True),
    (r"(*UTF8)\w", "é".encode(), False),
    (r"(*UTF8)(*UCP)^\w\b[[:upper:]]", "é".encode(), False),
    (r"(*UTF8)(*UCP)^\w\B[[:upper:]]\p{Greek}", "éÉλ".encode(), True),
    (r"(*UTF)\p{^Any}|\P{L}|\N{2}", "éé".encode(), True),
    (r"(*UCP)^\w\b", b"\xe9", True),
    (r"(*UCP)^\w\B", b"\xe9", False),
    (r"(*ANYCRLF)^a.$", b"a\r", False),
    (r"(*ANYCRLF)(?m)^b$", b"a\rb\r\nc", True),
    (r"(*CR)a$", b"a\r", True),
    (r"(*CR)a$", b"a\n", False),
    (r"(*CRLF)(?m)a$\r\n^b.$", b"a\r\nb\n", True),
    (r"(*CRLF).", b"\r\n", False),
    (r"(*CRLF)\n", b"\r\n", True),
    (r"(*ANY)a.", b"a\x85", False),
    (r"(*LF)(*NO_START_OPT)(*LIMIT_RECURSION=9)a$", b"a\n", True),
]


@pytest.mark.parametrize(("pattern", "subject", "found"), RARE)
def test_rare_syntax_means_what_it_means_to_pcre(pattern: str, subject: bytes, found: bool) -> None:
    """Whatever pcre2pattern(3) describes and is taken has the meaning that it has there."""
    assert rule(pattern).search(subject) is found
    assert meant(pattern, [subject]) == [found]


@pytest.mark.parametrize(("pattern", "subject"), FOUND)
def test_what_pcre_users_write_is_found(pattern: str, subject: bytes) -> None:
    """A PCRE pattern matches the lines that PCRE's documentation says, with nothing to be rewritten."""
    assert rule(pattern).search(subject)
    assert meant(pattern, [subject]) == [True]


@pytest.mark.parametrize(("pattern", "subject"), NOT_FOUND)
def test_what_pcre_does_not_find_is_not_found(pattern: str, subject: bytes) -> None:
    """A PCRE pattern does not match more than PCRE does: it works on bytes, and ASCII."""
    assert not rule(pattern).search(subject)
    assert meant(pattern, [subject]) == [False]


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
        ("(?R)", 0, "without an end"),
        ("(?<n>a?(?&n)?b)", 7, "without an end"),
        ("(?:(a?)(?2)|b)((?=b)(?1)*(?2))", 7, "without an end"),
        ("(?|(a(?1)?)|(b))", None, "several groups"),
        ("(?&n)", 0, "'n'"),
        ("(?<n>a)(?<n>b)", 7, "two groups"),
        (r"(?J)(?<n>a)(?<n>b)\k<n>", 18, "several groups"),
        (r"(?|(a)|(b))\1", 11, "several groups"),
        ("(?<1>a)", 0, "name"),
        (r"(?<=a+)b", 0, "fixed length"),
        (r"(a)(?<=\1)b", 3, "fixed length"),
        (r"(?<=(a)(?=\1))b", None, "same lookbehind"),
        (r"(?<=(?(?=a)a|b))", 4, "lookbehind"),
        (r"(a)(?(1)a|b|c)", 3, "two branches"),
        ("(?(DEFINE)a|b)", 0, "one branch"),
        ("(?(R)a)", 0, "conditions"),
        ("(*ACCEPT)", 0, "verb"),
        ("a(*UTF8)", 1, "here"),
        ("(*COMMIT)", 0, "verb (*COMMIT) is not supported"),
        ("(*SKIP:n)", 0, "with a name"),
        ("x(?>a(*SKIP)b)", 5, "in an atomic group"),
        (r"(*UTF8)\C", 7, "split"),
        (r"(*UTF8)\x{110000}", 7, "no such character"),
        ("(*UTF8)é[a", 8, "']'"),
        ("(*UTF8)é{" + "9" * 5000 + "}", None, "too high"),
        (r"\Lx", 0, "Perl"),
        (r"\x{100}", 0, "UTF-8 bytes"),
        (r"\x{zz}", 0, "hexadecimal"),
        (r"\o{9}", 0, "octal"),
        (r"\777", 0, "beyond"),
        (r"\c", 0, "ASCII"),
        (r"\N{U+41}", 0, "UTF8"),
        (r"\p{Foo}", 0, "script"),
        (r"\p{-}", 0, "script"),
        (r"[\N]", 1, "class"),
        (r"[a-\R]", 2, "range"),
        ("[a-[:digit:]]", 2, "range"),
        (r"[z-a]", 2, "out of order"),
        (r"[a-\d]", 2, "range"),
        ("[a", 0, "']'"),
        ("[[:foo:]]", 1, "[:foo:]"),
        ("[[.a.]]", 1, "collating"),
        ("[:alpha:]", 0, "within a class"),
        (r"[:x\d:]", 0, "within a class"),
        (r"[[:\]:]x]", 1, "[:\\]:]"),
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

PIECES = [bytes([code]) for code in b"abkKsAB1_ \t\r\n\xe9\xff\x00\x85\xa0.,{}]-#\x1b\x07\x01"] + [b"\xc3\xa9", b"ab"]

#: What PCRE refuses and we take in the meaning that it would have.
REFUSED_FOR_NOTHING = ("\\K is not allowed", "lookbehind assertion is not fixed length")


@settings(max_examples=examples(250), suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_patterns_mean_what_they_mean_to_pcre(data: st.DataObject, patterns: Patterns) -> None:
    """Whatever pattern is taken gives PCRE's own answer on every line; what PCRE refuses is refused."""
    pattern = data.draw(patterns(Syntax.PCRE))
    # Of an assertion repeated no times, PCRE's optimiser asks after all.
    assume("){0" not in pattern)
    subjects = data.draw(st.lists(st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join), min_size=1, max_size=8))
    try:
        compiled = rule(pattern)
    except PatternError:
        reject()
    try:
        expected = meant(pattern, subjects)
    except ValueError as error:
        assert str(error).startswith(REFUSED_FOR_NOTHING), pattern  # noqa: PT017  # a second expectation
        return
    for subject, answer in zip(subjects, expected, strict=True):
        if answer is not None:
            assert searched(compiled, subject) in {answer, None}, (pattern, subject)


BRACKETS = [
    *("[", "]", "^", "-", ":", ".", "=", "\\", "a", "b", "z", "0", " ", "[:", "[=", "[.", ":]", "=]", "[^", "upper"),
    *(
        "[:alpha:]",
        "[:^digit:]",
        r"\d",
        r"\w",
        r"\]",
        r"\\",
        r"\Q",
        r"\E",
        r"\b",
        r"\x41",
        r"\101",
        r"\8",
        r"\B",
        r"\N",
    ),
    *(r"\y", r"\pL", r"\h", r"\e"),
]
IN_BRACKETS = [bytes([code]) for code in b"[]^-:.=\\abzAZ0 \x08\x1bdwQEByN"]


@settings(max_examples=examples(300), suppress_health_check=list(HealthCheck))
@given(
    parts=st.lists(st.sampled_from(BRACKETS), max_size=8),
    start=st.sampled_from(["[", "(?i)[", "x?["]),
    end=st.sampled_from(["]", "]", "]+$", "]]"]),
    subjects=st.lists(st.lists(st.sampled_from(IN_BRACKETS), max_size=3).map(b"".join), min_size=1, max_size=8),
)
def test_brackets_are_read_as_pcre_reads_them(parts: list[str], start: str, end: str, subjects: list[bytes]) -> None:
    """A class is taken where PCRE 8 takes it, refused where it refuses it, and has the same members."""
    pattern = start + "".join(parts) + end
    try:
        expected = PCRE1.answers(pattern.encode(), subjects)
    except ValueError:
        with pytest.raises(PatternError):
            rule(pattern)
    else:
        assert list(map(rule(pattern).search, subjects)) == expected


@pytest.mark.parametrize(
    ("pattern", "subject", "first", "second"),
    [
        ("(a|ab)(?1)c", b"aabc", False, True),
        (r"(?<n>a|ab)(?&n)c", b"aabc", False, True),
        ("(?xx)[a b]", b" ", True, False),
        ("(?x)a\x85b", b"ab", False, True),
        (r"\y", b"y", True, None),
        (r"[\d-z]", b"-", True, None),
        (r"\8", b"8", True, None),
        ("(?^)a", b"a", None, True),
        ("(*pla:a)a", b"a", None, True),
    ],
)
def test_where_the_versions_of_pcre_differ_the_first_is_meant(
    pattern: str, subject: bytes, first: bool | None, second: bool | None
) -> None:
    """A call of a group is atomic, unknown escapes are letters: a rule means what it meant to Debian's uWSGI."""
    data = pattern.encode("latin-1")
    for library, found in ((PCRE1, first), (PCRE2, second)):
        if found is None:
            with pytest.raises(ValueError, match=r"\w"):
                library.answers(data, [subject])
        else:
            assert library.answers(data, [subject]) == [found]
    assert rule(data.decode("utf-8", "surrogateescape")).search(subject) is (second if first is None else first)


RECURSIONS = [
    *("^(%s(?1)?%s)$", "(%s(?1)?%s|%s)", "(?<n>%s)(?&n)%s", "^(?(DEFINE)(?<n>%s(?P>n)?%s))(?&n)$", "%s(?R)?%s"),
    *("^(%s|(?1)?)$", "(%s(?2)|%s)(%s(?1)?|%s)", r"^((.)(?1)\2|%s?)$", r"^(?:((.)(?1)\2|)|((.)(?3)\4|.))$"),
    *("(a%s(*SKIP)%s|%s)b", "(%s(*PRUNE)%s|%s)%s", "(?(DEFINE)(?<x>%s)(?<y>%s(?&x)%s))(?&y)+%s", r"(%s)(?1)\1%s"),
    *("(a|b(?1)*)%s(?1)%s", "(?|(%s)|(%s))(?1)", "%s(?:a%s(*SKIP)(*F)|%s)b"),
]
SMALL = [
    "a",
    "b",
    "ab",
    "[ab]",
    ".",
    "(?:a|ab)",
    "(?:b|)",
    "(?>a|ab)",
    r"a\X",
    "(?=a)",
    "(?!b)",
    "a*",
    "b+?",
    "(?:ab?)++",
]


@settings(max_examples=examples(200), suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_recursion_and_verbs_do_what_they_do_to_pcre(data: st.DataObject) -> None:
    """Whatever calls itself gives PCRE's own answers, and no line is kept out that it matches."""
    skeleton = data.draw(st.sampled_from(RECURSIONS))
    pattern = skeleton % tuple(data.draw(st.sampled_from(SMALL)) for _ in range(skeleton.count("%s")))
    pieces = st.sampled_from([b"a", b"b", b"ab", b"\r\n"])
    subjects = data.draw(st.lists(st.lists(pieces, max_size=7).map(b"".join), min_size=1, max_size=8))
    try:
        compiled = rule(pattern)
    except PatternError:
        reject()
    for subject, answer in zip(subjects, PCRE1.answers(pattern.encode(), subjects), strict=True):
        assert searched(compiled, subject) in {answer, None}, (pattern, subject)


UNICODE = [
    *("a", "é", "ß", "ſ", "k", "µ", "ı", ".", r"\w", r"\W", r"\d", r"\s", r"\h", r"\v", r"\b", r"\B", "[é-ü]", "[^é]"),
    *(r"[^\w]", r"\x{e9}", "[[:alpha:]]", "[[:^upper:]]", "[[:punct:]]", "[[:print:]]", "[[:graph:]]", "[[:space:]]"),
    *(
        r"\p{Lu}",
        r"\p{Greek}",
        r"\p{L&}",
        r"\PL",
        r"\p{Xan}",
        r"\X",
        r"\R",
        "(?i)",
        r"[\W\d]",
        "日",
        r"\x{1F600}",
        "^",
        "$",
    ),
]
CHARACTERS = "aéÉßẞſkKKµμıiI٣日😀 \u00a0\n1_!Σς"
LINES = ["a", "^", "$", ".", r"\R", r"\N", r"\Z", r"\z", r"\s", "[^a]", "(?s)", "(?m)", r"\b"]


@pytest.mark.parametrize(
    ("starts", "atoms", "pieces"),
    [
        (["(*UTF8)", "(*UTF8)(*UCP)"], UNICODE, [character.encode() for character in CHARACTERS]),
        (["(*UCP)"], UNICODE, [bytes([code]) for code in b"aA\xe9\xc9\xdf\xb5\xa0 \n1_!\xb2"]),
        (
            ["(*ANYCRLF)", "(*CR)", "(*CRLF)", "(*ANY)", "(*LF)(*BSR_ANYCRLF)"],
            LINES,
            [b"a", b"\r", b"\n", b"\r\n", b"\x85"],
        ),
    ],
)
@settings(max_examples=examples(60), suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_a_pattern_begins_with_changes_it_as_in_pcre(
    starts: list[str], atoms: list[str], pieces: list[bytes], data: st.DataObject, grammar: Grammar
) -> None:
    """After (*UTF8) characters are Unicode's, after (*UCP) classes are, and lines end as the pattern says."""
    pattern = data.draw(st.sampled_from(starts)) + data.draw(grammar(atoms, ["(?:%s)", "(?i:%s)", "(?=%s)", "(?m:%s)"]))
    assume("{0" not in pattern)
    subjects = data.draw(st.lists(st.lists(st.sampled_from(pieces), max_size=6).map(b"".join), min_size=1, max_size=8))
    try:
        compiled = rule(pattern)
        expected = PCRE1.answers(pattern.encode(), subjects)
    except (PatternError, ValueError):
        reject()
    for subject, answer in zip(subjects, expected, strict=True):
        assert answer is None or searched(compiled, subject) in {answer, None}, (pattern, subject)


# logcheck's rules, which people write for grep -E and take over

LOGCHECK = sorted(
    {
        line
        for path in Path("/etc/logcheck").glob("*.d*/*")
        for line in path.read_text("utf-8", "surrogateescape").splitlines()
        if line.strip() and not line.startswith("#")
    }
)


def test_every_rule_of_logcheck_is_taken() -> None:
    """Of the rules that Debian's logcheck-database brings, none is refused that PCRE takes."""
    assert len(LOGCHECK) > 1800
    for pattern in LOGCHECK:
        assert meant(pattern, [b"x"]) == [rule(pattern).search(b"x")]


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
