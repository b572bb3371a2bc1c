"""The prefilter: the lines that some rule may match, told for all rules in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from alarm_mw.engine.rules import CompiledRule, compile_rule
from alarm_mw.model.types import Rule, Syntax
from alarm_mw.patterns import prefilter as prefilter_module
from alarm_mw.patterns.literal_finder import MakeFinder, PlainFinder, literal_finder
from alarm_mw.patterns.prefilter import BEGINNING, Hit, Prefilter

FINDERS: list[MakeFinder] = [literal_finder, PlainFinder]


def rules(*patterns: str, syntax: Syntax = Syntax.PCRE, multiline: bool = False) -> list[CompiledRule]:
    return [compile_rule(Rule(pattern, ("alarm",), syntax, multiline=multiline)) for pattern in patterns]


def matches(prefilter: Prefilter, compiled: Sequence[CompiledRule], data: bytes) -> list[tuple[int, tuple[int, ...]]]:
    """Return where each line begins that rules match, as the engine finds them."""
    found = []
    for hit in prefilter.scan(data):
        assert data[hit.start : hit.end] == hit.line
        matched = tuple(n for n in hit.rules if n in hit.certain or compiled[n].search(hit.line))
        if matched:
            found.append((hit.start, matched))
    return found


@pytest.mark.parametrize("finder", FINDERS)
def test_hits_are_lines_with_their_newline(finder: MakeFinder) -> None:
    """A hit says where its line stands in the stream, and which rules match there, in the order of the rules."""
    compiled = rules("ERROR", "disk (?:full|gone)", r"^\d+ E", "nothing")
    data = b"all is well\n17 ERROR: disk full ERROR\n\nERROR\nlast disk gone"
    assert Prefilter(compiled, finder).scan(data, 100) == [
        Hit(112, b"17 ERROR: disk full ERROR\n", (0, 1, 2), (0, 1, 2)),
        Hit(139, b"ERROR\n", (0,), (0,)),
        Hit(145, b"last disk gone", (1,), (1,)),
    ]


@pytest.mark.parametrize("finder", FINDERS)
@pytest.mark.parametrize("end", ["", "ü\n"])
def test_a_line_is_one_hit_however_often_its_rules_match(finder: MakeFinder, end: str) -> None:
    """A rule that matches twice in a line, and others that do as well, make one hit with each of them once."""
    prefilter = Prefilter(rules("AA", "BB"), finder)
    data = ("AA AA\nBB\nnone\nBB AA BB\nAA\nü AA\nBB BB\nAAAA" + end).encode()
    found = [(hit.start, hit.rules) for hit in prefilter.scan(data)]
    assert found == [(0, (0,)), (6, (1,)), (14, (0, 1)), (23, (0,)), (26, (0,)), (32, (1,)), (38, (0,))]


@pytest.mark.parametrize("finder", FINDERS)
def test_a_literal_alone_is_no_hit(finder: MakeFinder) -> None:
    """A line that holds what a rule requires is put to the rule, and only then a hit."""
    prefilter = Prefilter(rules("GET.*5003", "^start", "(?i)^any.*case"), finder)
    data = b"5003 GET\nGET /x 5003\nrestart\nstart\nANY CASE\ncase any\nstart start\n"
    assert [(hit.start, hit.rules, hit.certain) for hit in prefilter.scan(data)] == [
        (9, (0,), (0,)),
        (29, (1,), (1,)),
        (35, (2,), (2,)),
        (53, (1,), (1,)),
    ]


def test_nothing_comes_of_lines_that_no_rule_matches() -> None:
    """A chunk without a hit gives an empty list, and so does an empty chunk."""
    prefilter = Prefilter(rules("ERROR", "WARN"))
    assert prefilter.scan(b"fine\n" * 100) == []
    assert prefilter.scan(b"") == []


def test_a_regexp_that_could_take_long_is_left_to_the_engine() -> None:
    """The thread that reads a stream waits for no regexp: its rule may match."""
    prefilter = Prefilter(rules("(aa+)+bc$"))
    assert prefilter.scan(b"aabc\n") == [Hit(0, b"aabc\n", (0,))]


def test_a_chunk_that_takes_long_is_left_to_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many lines have to be put to regexps, the thread that reads a stream is not held up by all of them."""
    monkeypatch.setattr(prefilter_module, "PATIENCE", -1.0)
    assert Prefilter(rules("ab.*c", "ab")).scan(b"ab\n") == [Hit(0, b"ab\n", (0, 1), (1,))]


def test_an_exclusion_that_matches_ends_the_scan() -> None:
    """No regexp after ``not-log-alarm`` is asked about its lines."""
    compiled = [*rules("one.*x"), compile_rule(Rule("noise.*x", (), excludes=True)), *rules("two.*x")]
    hits = Prefilter(compiled).scan(b"one two noise x\ntwo x\n")
    assert [hit.rules for hit in hits] == [(0, 1), (2,)]


def test_rules_on_level_or_logger_find_only_lines_with_fields() -> None:
    """A rule that requires a level or a logger matches printed lines only if they are in JSON or logfmt."""
    of_records = [Rule("", ("a",), level=40), Rule("ERROR", ("a",), logger="shop"), Rule("two", (), level=1)]
    prefilter = Prefilter([*map(compile_rule, of_records), *rules("two")])
    assert prefilter.scan(b"ERROR\ntwo\n") == [Hit(6, b"two\n", (3,), (3,))]
    line = b'{"level": "ERROR", "logger": "shop.cart", "msg": "two"}\n'
    assert prefilter.scan(line) == [Hit(0, line, (0, 1, 2, 3), (0, 1, 2, 3))]
    line = b"level=info logger=shopping msg=two\n"
    assert prefilter.scan(line) == [Hit(0, line, (2, 3), (2, 3))]


@pytest.mark.parametrize("finder", FINDERS)
def test_beginnings_of_records_are_hits_of_no_rule(finder: MakeFinder) -> None:
    """A line that may begin a record of several lines is found in the same pass; whole records have no beginnings."""
    prefilter = Prefilter(rules("boom"), finder, [b"Traceback"])
    hits = prefilter.scan(b"fine\nTraceback\nboom\nTraceback boom\n")
    found = [(hit.line, hit.rules) for hit in hits]
    assert found == [(b"Traceback\n", (BEGINNING,)), (b"boom\n", (0,)), (b"Traceback boom\n", (BEGINNING, 0))]
    assert hits.has_beginnings
    assert prefilter.scan(b"Traceback\nboom\n").has_beginnings
    assert prefilter.scan(b"boom\nTraceback boom\nboom\n").has_beginnings
    assert not prefilter.scan(b"boom\nboom\n").has_beginnings
    assert Prefilter(rules("x*"), finder, [b"Traceback"]).scan(b"fine\nTraceback\nfine\n").has_beginnings
    assert prefilter.candidates(b"Traceback\nboom\n") == (0,)


@pytest.mark.parametrize("finder", FINDERS)
def test_rules_without_literals_are_asked_about_every_line(finder: MakeFinder) -> None:
    """A rule without anything to look for is put to each line, beside the rules that have a literal there."""
    prefilter = Prefilter(rules("bb", "x*", "^.$"), finder)
    assert prefilter.judges_every_line == (1, 2)
    hits = prefilter.scan(b"a\nbb\n\n")
    assert [(hit.start, hit.rules) for hit in hits] == [(0, (1, 2)), (2, (0, 1)), (5, (1,))]
    assert prefilter.may_match(b"a")
    assert prefilter.candidates(b"a") == (1, 2)


@pytest.mark.parametrize("finder", FINDERS)
@pytest.mark.parametrize("lines", [1, 100, 2000])
@pytest.mark.parametrize("line", [b"abz\n", b"a" + b"bb" * 100 + b"z\n", b"ab" * 5000 + b"bz\n"])
def test_lines_with_any_number_of_finds_are_hits(finder: MakeFinder, line: bytes, lines: int) -> None:
    """However often literals are found in a line, and however many such lines there are, each of them is one hit."""
    prefilter = Prefilter(rules("ab", "b.*z$", "bb", "nothing"), finder)
    found = [rule for rule, text in enumerate((b"ab", b"b", b"bb")) if text in line and rule != 1] + [1]
    data = b"fine\n" + line * lines
    hits = prefilter.scan(data)
    assert [hit.start for hit in hits] == [5 + n * len(line) for n in range(lines)]
    assert {hit.rules for hit in hits} == {tuple(sorted(found))} or prefilter.judges_every_line
    assert set(prefilter.candidates(line)) >= set(found)


@pytest.mark.parametrize("finder", FINDERS)
def test_a_record_of_several_lines_matches_by_one_of_them_or_as_a_whole(finder: MakeFinder) -> None:
    """A rule may match a record by any of its lines; a multiline rule also across them."""
    prefilter = Prefilter([*rules("^bb$"), *rules("aa.cc", "(?s)aa.*cc", multiline=True)], finder)
    assert prefilter.candidates(b"aa\nbb\ncc") == (0, 1, 2)
    assert prefilter.may_match(b"aa\nbb\ncc")


def test_an_empty_record_may_match_anything() -> None:
    """A record without a character goes to the rules: ``^$`` matches it."""
    prefilter = Prefilter(rules("^$", "aa"))
    assert prefilter.may_match(b"\n")
    assert prefilter.candidates(b"") == (0, 1)


@pytest.mark.parametrize("finder", FINDERS)
def test_no_rules_match_nothing(finder: MakeFinder) -> None:
    """Without rules no line is a hit, and no record may match."""
    prefilter = Prefilter([])
    assert prefilter.scan(b"a\n") == []
    assert not prefilter.may_match(b"a")
    assert prefilter.candidates(b"a") == ()


def test_combinations_of_literals_are_remembered_in_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many combinations a stream shows, the answers stay right."""
    monkeypatch.setattr(prefilter_module, "MOST_PLANS", 1)
    compiled = rules("aa", "bb", "cc")
    prefilter = Prefilter(compiled)
    lines = [b"aa\n", b"bb\n", b"cc\n", b"aa bb\n", b"bb cc\n", b"aa bb cc\n"] * 2
    assert [hit.rules for hit in prefilter.scan(b"".join(lines))] == [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)] * 2


@pytest.mark.parametrize("finder", FINDERS)
def test_what_calls_itself_is_left_to_the_engine(finder: MakeFinder) -> None:
    """A recursion or a verb is found by the literals around it, and asked only where there is a time limit."""
    compiled = rules(r"call\((\d|\((?1)\))\)", r"skip(*SKIP)(*F)|skipper", r"(*UTF8)^grö.e: \X$")
    data = "call(((7)))\ncall((7)\nskipper\nfine\ngröße: e\u0301\n".encode()
    prefilter = Prefilter(compiled, finder)
    assert all(not hit.certain for hit in prefilter.scan(data))
    lines = [data[start : data.index(b"\n", start)].decode() for start, _ in matches(prefilter, compiled, data)]
    assert lines == ["call(((7)))", "größe: e\u0301"]


def test_the_rules_are_told_by_their_numbers() -> None:
    """For who makes another prefilter of them."""
    compiled = rules("aa", "bb")
    assert Prefilter(compiled).rules == tuple(compiled)
