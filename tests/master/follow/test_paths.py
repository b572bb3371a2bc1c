"""Rules with a condition on the path of a file."""

from __future__ import annotations

from alarm_mw.engine.rules import compile_rule
from alarm_mw.master.follow.paths import PathPrefilters
from alarm_mw.model.types import FieldCondition, FieldTest, Rule
from alarm_mw.patterns.prefilter import Prefilter


def rule(pattern: str, **conditions: str) -> Rule:
    """Return a rule whose fields match regexps."""
    fields = tuple(FieldCondition(name, (FieldTest("~", value),)) for name, value in conditions.items())
    return Rule(pattern, ("a",), fields=fields)


def found(rules: list[Rule], path: str, data: bytes) -> list[tuple[bytes, tuple[int, ...]]]:
    prefilter = PathPrefilters(Prefilter([compile_rule(each) for each in rules])).of(path)
    return [(hit.line, hit.rules) for hit in prefilter.scan(data)]


def test_without_such_rules_there_is_one_prefilter() -> None:
    """The engine's own."""
    prefilter = Prefilter([compile_rule(rule("ERROR"))])
    assert PathPrefilters(prefilter).of("/a.log") is prefilter


def test_rules_apply_to_the_files_that_they_name() -> None:
    """Beside other conditions, and under the same numbers."""
    rules = [rule("ERROR"), rule("ERROR", path="nginx"), rule("", path="nginx", user="kim")]
    assert found(rules, "/log/nginx.log", b"ERROR\nfine\n") == [(b"ERROR\n", (0, 1))]
    assert found(rules, "/log/other.log", b"ERROR\nfine\n") == [(b"ERROR\n", (0,))]
    assert found(rules, "/log/nginx.log", b'{"user": "kim"}\n') == [(b'{"user": "kim"}\n', (2,))]


def test_files_for_which_the_same_rules_apply_share_a_prefilter() -> None:
    """However many files there are; and the engine knows the numbers."""
    original = Prefilter([compile_rule(rule("ERROR", path="nginx"))])
    prefilters = PathPrefilters(original)
    assert prefilters.of("/nginx-1.log") is prefilters.of("/nginx-2.log") is not prefilters.of("/other.log")
    assert prefilters.of("/other.log").rule_set is original.rule_set
