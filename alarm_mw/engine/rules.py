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
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, AnyStr

import msgspec

from alarm_mw.engine import pcre, python_syntax
from alarm_mw.engine.access_log import pattern_for, read_line
from alarm_mw.engine.conditions import CompiledConditions, key_of, no_header
from alarm_mw.engine.render import render
from alarm_mw.engine.safety import longest
from alarm_mw.engine.translate import EVERY_LINE, NOWHERE, Expression, translate
from alarm_mw.engine.tree import Tree
from alarm_mw.engine.widen import Exactness
from alarm_mw.errors import PatternError, RuleTimeout
from alarm_mw.forks import held_off
from alarm_mw.types import Record, RequestConditions, Rule, Syntax

if TYPE_CHECKING:
    import regex

#: Seconds that a regexp may take for one line.
RULE_TIMEOUT = 0.05


class CompiledRule:
    """A rule that was understood. May be used from any thread.

    Without a tree its regexp is read when it is first needed; then it has to be one that `compile_rule` took before,
    and `expression` what it got for it.
    """

    def __init__(self, rule: Rule, expression: Expression, tree: Tree | None = None) -> None:
        self.rule = rule
        #: How the screen finds the lines in which the rule may match.
        self.expression = expression
        if tree is not None:
            self._tree = tree

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

    def fits(self, record: Record) -> bool:
        """Return whether the record is of a request for which the rule's conditions hold; may take as long as `search`.

        Most of a middleware's were decided in the application. What is left is a path that was too long to be searched
        there.
        """
        conditions = self._conditions
        if conditions.conditions.access_log:
            return any(map(self._fits_line, record.text.split("\n")))
        return conditions.key in record.held and self._fits_path(record.fields.get("path", ""))

    def _fits_line(self, line: str) -> bool:
        request = read_line(line)
        return request is not None and self._conditions.hold(request, no_header) and self._fits_path(request.path)

    def _fits_path(self, path: str) -> bool:
        pattern = self._conditions.path
        return pattern is None or len(path) <= pattern.limit or self._path.search(path.encode("utf-8", "surrogatepass"))

    def prepare(self) -> None:
        """Compile what a first search would; raise `re.error` where that cannot be done."""
        _ = self._text_pattern if self._tree.text else self._bytes_pattern

    @cached_property
    def _conditions(self) -> CompiledConditions:
        return CompiledConditions(self.rule.request or RequestConditions())

    @cached_property
    def _path(self) -> CompiledRule:
        return CompiledRule(Rule(self._conditions.conditions.path or "", ()), NOWHERE)

    @cached_property
    def _tree(self) -> Tree:
        return _parse(self.rule)

    @cached_property
    def _longest(self) -> int:
        return longest(self._tree)

    @cached_property
    def _text_pattern(self) -> re.Pattern[str]:
        return re.compile(self.rule.pattern)

    @cached_property
    def _bytes_pattern(self) -> re.Pattern[bytes]:
        return re.compile(render(self._tree).encode())

    @cached_property
    def _bounded_text_pattern(self) -> regex.Pattern[str]:
        return _bounded(render(self._tree))

    @cached_property
    def _bounded_bytes_pattern(self) -> regex.Pattern[bytes]:
        return _bounded(render(self._tree).encode())


def _bounded(pattern: AnyStr) -> regex.Pattern[AnyStr]:
    with held_off():
        import regex  # noqa: PLC0415  # 40 ms, for the few that need it

    compiled: regex.Pattern[AnyStr] = regex.compile(pattern, regex.VERSION0, cache_pattern=False)
    return compiled


def _search_in_time(pattern: regex.Pattern[AnyStr], text: AnyStr) -> bool:
    try:
        return pattern.search(text, timeout=RULE_TIMEOUT) is not None
    except TimeoutError:
        raise RuleTimeout(f"the regexp took longer than {RULE_TIMEOUT} s") from None


def compile_rule(rule: Rule) -> CompiledRule:
    """Return the rule ready for use; raise `PatternError` where its regexp is wrong or cannot be had."""
    try:
        tree = _parse(rule)
        compiled = CompiledRule(rule, _expression(rule, tree), tree)
    except RecursionError:
        raise PatternError("groups are nested too deeply") from None
    if rule.syntax is Syntax.PCRE:
        _try(compiled)
    return compiled


def _expression(rule: Rule, tree: Tree) -> Expression:
    """Return how the screen finds a rule's lines; a middleware's records name their rules themselves."""
    if rule.request is None:
        return translate(tree, multiline=rule.multiline)
    if not rule.request.access_log:
        return NOWHERE
    expression = translate(tree, multiline=rule.multiline)
    if expression == EVERY_LINE:
        expression = translate(python_syntax.parse(pattern_for(rule.request)))
    # That a line is found never says that the conditions hold.
    return msgspec.structs.replace(expression, exact=Exactness.NEVER)


def by_conditions(rules: Iterable[CompiledRule]) -> dict[str, list[int]]:
    """Return the places of the rules on requests, by the keys of their conditions."""
    places: dict[str, list[int]] = {}
    for place, compiled in enumerate(rules):
        if compiled.rule.request is not None:
            places.setdefault(key_of(compiled.rule.request), []).append(place)
    return places


def _try(compiled: CompiledRule) -> None:
    """Raise `PatternError` where Python refuses what PCRE's regexp became."""
    try:
        compiled.prepare()
    except re.error as error:  # Its position is one in another pattern, the rendered one.
        raise PatternError(f"this cannot be had in Python: {error.msg}") from None


def _parse(rule: Rule) -> Tree:
    return pcre.parse(rule.pattern) if rule.syntax is Syntax.PCRE else python_syntax.understood(rule.pattern)[1]
