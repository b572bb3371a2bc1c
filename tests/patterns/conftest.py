"""What the tests of regexps share: the parts that random patterns are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import strategies as st

from alarm_mw.model.types import Syntax
from alarm_mw.patterns import prefilter

Grammar = Callable[[Sequence[str], Sequence[str]], st.SearchStrategy[str]]
Patterns = Callable[[Syntax], st.SearchStrategy[str]]

COUNTS = ["", "", "", "*", "+", "?", "*?", "+?", "??", "*+", "++", "{2}", "{0,2}", "{1,}", "{1,3}?", "{0}", "{,3}"]


def listed(text: str) -> list[str]:
    """Return the parts in a text."""
    return text.split()


#: Parts of both syntaxes.
COMMON = [
    *listed(r"a b k K s i é . ^ $ \d \w \s \W \S \D \b \B \A \Z \n \r \x41 \xe9 # { } ] a{,2} {1 1 _ ab a+b foo"),
    *listed(r"""[ab] [^a] []a] [a-c] [\d_-] [\w.] [^\s"] [^\S\n] [\x00-\x20] [^\n] \1 \2 (?(1)a|b) (?P=n) (?#c)"""),
    *listed(r"\bk k\b \W\b s$ ^a \s*$ \n$"),
    " ",
]
GROUPS = [
    *listed(r"(%s) (?:%s) (?P<n>%s) (?>%s) (?=%s) (?!%s) (?<=%s) (?<!%s) (?i:%s) (?s:%s) (?m:%s) (?x:%s) (?-i:%s)"),
    *listed(r"(?(1)%s) (?:%s|^) (?:%s|$)"),
]
STARTS = ["", "", "", "(?i)", "(?x)", "(?s)(?m)", "(?mi)"]

#: Those of one syntax: parts, groups and beginnings.
OF_PYTHON = (
    [
        *listed(r"İ É ß µ ſ ٣ ² σ ς ǅ \x1c \b. .\b \bé [^\W\d] [é-ü] [^é] [kſ] [\S\n] [α-ω] [^k] [^İ] [i-l]"),
        *("\u212a", "\udcff", "\udc80", "\u2028", "\x85"),
    ],
    ["(?a:%s)", "(?u:%s)", "(?ai:%s)"],
    ["(?a)", "(?ai)"],
)
OF_PCRE = (
    [
        *listed(r"\h \H \v \V \R \N \z \G \K \e \a \x{61} \xff \x \0 \01 \o{141} \cA \t \Qa.b\E \Q \E \x85 , \/ \- \_"),
        *listed(r"[^]a] [[:alpha:]] [[:^alpha:]] [[:upper:]] [[:^upper:]x] [[:^digit:]] [[:<:]] [[:>:]] [\h] [\V]"),
        *listed(r"[a\-c] [\Qa-c\E] [a-] [-a] [z\Ea] \g1 \g{-1} \k<n> \10 (?1) (?&n) {,2} \C \pL \p{Lu} a++"),
        *listed("(?i) (?-i) (?s) (?m) (?x) (?U) (?J) (?i-s) (?^) (?xx) (?n) (*F) (?C1)"),
        *("\x00", "\xa0", "\\ "),
    ],
    listed("(?<n>%s) (?'n'%s) (?|%s) (?(<n>)%s) (?(?=a)%s) (?(DEFINE)%s) (*pla:%s) (*atomic:%s) (?ims-x:%s)"),
    ["(*LF)", "(*BSR_ANYCRLF)"],
)


def _grammar(atoms: Sequence[str], groups: Sequence[str]) -> st.SearchStrategy[str]:
    """Return patterns made of the atoms, and of groups written with ``%s`` for what they hold."""
    one = st.tuples(st.sampled_from(atoms), st.sampled_from(COUNTS)).map("".join)

    def extend(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        group = st.tuples(st.sampled_from(groups), inner).map(lambda pair: pair[0].replace("%s", pair[1]))
        item = st.one_of(one, st.tuples(group, st.sampled_from(COUNTS)).map("".join))
        sequence = st.lists(item, min_size=1, max_size=4).map("".join)
        return st.one_of(sequence, st.lists(sequence, min_size=1, max_size=2).map("|".join))

    return st.recursive(st.lists(one, min_size=1, max_size=3).map("".join), extend, max_leaves=5)


def _patterns(syntax: Syntax) -> st.SearchStrategy[str]:
    """Return patterns of a syntax, some of which it refuses."""
    atoms, groups, starts = OF_PYTHON if syntax is Syntax.PYTHON else OF_PCRE
    start = st.sampled_from([*STARTS, *starts])
    return st.tuples(start, _grammar([*COMMON, *atoms], [*GROUPS, *groups])).map("".join)


@pytest.fixture(scope="session")
def grammar() -> Grammar:
    return _grammar


@pytest.fixture(scope="session")
def patterns() -> Patterns:
    return _patterns


@pytest.fixture(scope="module", autouse=True)
def _patient() -> Iterator[None]:
    """Let no chunk be left to the engine for the time that it takes: that is for a test to choose, not for the load."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefilter, "PATIENCE", 3600.0)
        yield
