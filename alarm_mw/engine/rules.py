"""A rule's own verdict on a line: whether its regexp matches, decided in bounded time.

How a regexp is run, so that no line can hold the thread:

1. The tree of the pattern tells its worst case (`safety`). Up to the length at which that stays within a budget,
   Python's `re` runs it: for most patterns that is every line that there is.
2. Beyond, the `regex` package does, with a time limit of `RULE_TIMEOUT`, on a pattern in which Python's meaning is
   spelled out (`render`), so that its answer is that of `re`. Past the limit `RuleTimeout` is raised.

The screen asks for a verdict only where its own yes is not exact; so ``(a+)+$`` on a line of ASCII is answered by
an automaton, and never runs here.
"""

from __future__ import annotations

import re
import warnings
from functools import cached_property
from typing import AnyStr

import regex

from alarm_mw.engine import pcre, python_syntax
from alarm_mw.engine.render import render
from alarm_mw.engine.safety import longest
from alarm_mw.engine.translate import Expression, translate
from alarm_mw.engine.tree import Tree
from alarm_mw.errors import PatternError, RuleTimeout
from alarm_mw.types import Rule, Syntax

#: Seconds that a regexp may take for one line.
RULE_TIMEOUT = 0.05


class CompiledRule:
    """A rule that was understood. May be used from any thread."""

    def __init__(self, rule: Rule, tree: Tree) -> None:
        self.rule = rule
        #: How the screen finds the lines in which the rule may match.
        self.expression: Expression = translate(tree, multiline=rule.multiline)
        self._tree = tree
        self._longest = longest(tree)

    def __repr__(self) -> str:
        return f"CompiledRule({self.rule!r})"

    def search(self, line: bytes) -> bool:
        """Return whether the regexp matches somewhere in `line`, which has its newline.

        Of a `multiline` rule, `line` is the whole message. Takes up to about twice `RULE_TIMEOUT`, past which it
        raises `RuleTimeout`.
        """
        if self._tree.text:
            text = line.decode("utf-8", "surrogateescape")
            if len(text) <= self._longest:
                return self._text_pattern.search(text) is not None
            return _search_in_time(self._bounded_text_pattern, text)
        if len(line) <= self._longest:
            return self._bytes_pattern.search(line) is not None
        return _search_in_time(self._bounded_bytes_pattern, line)

    def prepare(self) -> None:
        """Compile what a first search would; raise `re.error` where that cannot be done."""
        _ = self._text_pattern if self._tree.text else self._bytes_pattern

    @cached_property
    def _text_pattern(self) -> re.Pattern[str]:
        return re.compile(self.rule.pattern)

    @cached_property
    def _bytes_pattern(self) -> re.Pattern[bytes]:
        return re.compile(render(self._tree).encode())

    @cached_property
    def _bounded_text_pattern(self) -> regex.Pattern[str]:
        return regex.compile(render(self._tree), regex.VERSION0, cache_pattern=False)

    @cached_property
    def _bounded_bytes_pattern(self) -> regex.Pattern[bytes]:
        return regex.compile(render(self._tree).encode(), regex.VERSION0, cache_pattern=False)


def _search_in_time(pattern: regex.Pattern[AnyStr], text: AnyStr) -> bool:
    try:
        return pattern.search(text, timeout=RULE_TIMEOUT) is not None
    except TimeoutError:
        raise RuleTimeout(f"the regexp took longer than {RULE_TIMEOUT} s") from None


def compile_rule(rule: Rule) -> CompiledRule:
    """Return the rule ready for use; raise `PatternError` where its regexp is wrong or cannot be had."""
    try:
        return _pcre_rule(rule) if rule.syntax is Syntax.PCRE else CompiledRule(rule, _parse(rule.pattern))
    except RecursionError:
        raise PatternError("groups are nested too deeply") from None


def _pcre_rule(rule: Rule) -> CompiledRule:
    compiled = CompiledRule(rule, pcre.parse(rule.pattern))
    try:
        compiled.prepare()
    except re.error as error:  # Its position is one in another pattern, the rendered one.
        raise PatternError(f"this cannot be had in Python: {error.msg}") from None
    return compiled


def _parse(pattern: str) -> Tree:
    try:
        with warnings.catch_warnings():
            # What Python may read otherwise one day is what this Python says today.
            warnings.simplefilter("ignore")
            # Compiling finds what parsing does not, such as a lookbehind without a fixed length.
            re.compile(pattern)
            return python_syntax.parse(pattern)
    except re.error as error:
        raise PatternError(error.msg, error.pos) from None
    except OverflowError:
        raise PatternError("a count is too high") from None
