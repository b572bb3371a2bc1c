"""Rule sets of others: no line that a rule matches lacks the rule's literals."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from alarm_mw.engine.rules import CompiledRule, compile_rule
from alarm_mw.model.errors import RuleTimeout
from alarm_mw.model.types import Rule, Syntax
from alarm_mw.patterns.literal_finder import PlainFinder, literal_finder
from alarm_mw.patterns.prefilter import Prefilter
from alarm_mw.patterns.syntax import pcre, python
from alarm_mw.patterns.tree import Atomic, Chars, Choice, Group, Node, Repeat, Sequence, codes

LOGCHECK = Path("/etc/logcheck")
LOGHUB = Path(__file__).parents[3] / "shared" / "data" / "loghub"
#: How many lines are made for each rule.
TIMES = 2


def a_match(node: Node, chosen: random.Random) -> bytes:
    """Return bytes that the node may match; whatever it looks at beside them is left out."""
    match node:
        case Chars(members, others):
            found = [bytes([code]) for code in codes(members) if code != 10]
            return chosen.choice(found or [other.encode("utf-8", "surrogateescape") for other in others] or [b""])
        case Sequence(items):
            return b"".join(a_match(item, chosen) for item in items)
        case Choice(branches):
            return a_match(chosen.choice(branches), chosen) if branches else b""
        case Repeat(item, least, most):
            times = chosen.randint(least, least + 2 if most is None else min(most, least + 2))
            return b"".join(a_match(item, chosen) for _ in range(times))
        case Group(item) | Atomic(item):
            return a_match(item, chosen)
    return b""


def logcheck() -> Iterator[Rule]:
    for file in sorted(LOGCHECK.glob("*.d*/*")):
        for line in file.read_bytes().decode("utf-8", "surrogateescape").splitlines():
            if line.strip() and not line.startswith("#"):
                yield Rule(line, ("a",), Syntax.PCRE)


def loghub(syntax: Syntax) -> Iterator[Rule]:
    for file in sorted(LOGHUB.glob("*.rules")):
        for line in file.read_text(encoding="utf-8").splitlines():
            yield Rule(line.split("\t", 1)[1], ("a",), syntax)


RULE_SETS = {"logcheck": list(logcheck())}
RULE_SETS |= {f"loghub-{syntax}": rules for syntax in Syntax if (rules := list(loghub(syntax)))}


def matches(rule: CompiledRule, line: bytes) -> bool:
    try:
        return rule.search(line)
    except RuleTimeout:
        return False


@pytest.mark.parametrize("name", RULE_SETS)
def test_what_each_rule_matches_is_a_candidate(name: str) -> None:
    """Of lines made after each regexp, and of these in any other case, none is lost, in a stream or as a record."""
    chosen = random.Random(1)
    compiled = [compile_rule(rule) for rule in RULE_SETS[name]]
    expected: list[tuple[int, bytes]] = []
    for number, rule in enumerate(compiled):
        parse = pcre.parse if rule.rule.syntax is Syntax.PCRE else python.parse
        root = parse(rule.rule.pattern).root
        texts = [a_match(root, chosen) for _ in range(TIMES)]
        lines = [line for text in texts for line in (text + b"\n", b"x " + text.swapcase() + b" x\n")]
        expected += [(number, line) for line in lines if matches(rule, line)]
    assert len(expected) > len(compiled)
    for finder in (literal_finder, PlainFinder):
        prefilter = Prefilter(compiled, finder)
        found = {hit.line: hit.rules for hit in prefilter.scan(b"none\n".join(line for _, line in expected))}
        for number, line in expected:
            assert number in found[line], (compiled[number], line)
            assert prefilter.records.may_match(line[:-1].decode("utf-8", "surrogateescape")), (compiled[number], line)
