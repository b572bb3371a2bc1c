"""A rule's regexp: parsed, and searched for in a line within a time limit.

How a regexp is run, so that no line can block the thread:

1. The tree of the pattern gives its worst case (`safety`). Python's `re` searches lines up to the length at which the
   worst case stays within a budget. For most patterns this covers every line.
2. The `regex` package searches longer lines, with a time limit of `RULE_TIMEOUT`. It gets a pattern in which Python's
   meaning is spelled out (`render`), so its answer is that of `re`. Past the limit `RuleTimeout` is raised.

A regexp is compiled at its first use, unless compiling is the only way to find out whether it is valid.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, AnyStr

from msgspec import structs

from alarm_mw.model.errors import PatternError, RuleTimeout
from alarm_mw.model.types import Rule, Syntax
from alarm_mw.patterns.access_log import pattern_for
from alarm_mw.patterns.literals import Literals, required_literals
from alarm_mw.patterns.safety import MOST_PARTS, longest, parts
from alarm_mw.patterns.syntax import pcre, python
from alarm_mw.patterns.syntax.render import render
from alarm_mw.patterns.tree import NATIVE, walk
from alarm_mw.system.forks import cached_property, held_off

if TYPE_CHECKING:
    import regex

#: About as many steps as `re` makes in five milliseconds, the limit for a search in the thread that reads a stream.
QUICK = 1_000_000

#: Seconds that a regexp may take for one line.
RULE_TIMEOUT = 0.05


#: Decides whether a line matches; returns None if that could take long.
Confirm = Callable[[bytes], bool | None]


class BoundedPattern:
    """A parsed regexp. Usable from any thread."""

    def __init__(self, rule: Rule) -> None:
        """Parse the regexp of a rule; raise `PatternError` if it is wrong."""
        self._rule = rule
        if rule.syntax is Syntax.PCRE:
            self._tree = pcre.parse(rule.pattern)
            self._limit_size()
            if python.is_doubtful(rule.pattern):
                self._compile()
        else:
            self._tree, compiled = python.read(rule.pattern)
            self._limit_size()
            if compiled is not None:
                self._text_pattern = compiled

    def _limit_size(self) -> None:
        size = parts(self._tree.root)
        if size > MOST_PARTS:
            raise PatternError(f"its repeats amount to {size:,} parts, more than {MOST_PARTS:,}: use smaller counts")

    def literals(self) -> Literals | None:
        """Return the literals that every matching line contains; None for a rule whose records name it themselves."""
        rule = self._rule
        if rule.request is None:
            return required_literals(self._tree, multiline=rule.multiline)
        if not rule.request.access_log:
            return None
        found = required_literals(self._tree, multiline=rule.multiline)
        # A status is rarer than a method.
        asked = structs.replace(rule.request, methods=()) if rule.request.statuses else rule.request
        found = found or required_literals(python.parse(pattern_for(asked)))
        # Finding a line does not mean that the conditions hold.
        return tuple(structs.replace(literal, certain=False) for literal in found)

    def _compile(self) -> None:
        """Raise `PatternError` if Python rejects the translated PCRE regexp."""
        try:
            if self._needs_regex:
                _ = self._bounded_text_pattern if self._tree.text else self._bounded_bytes_pattern
            else:
                _ = self._bytes_pattern
        except re.error as error:  # Its position is one in another pattern, the rendered one.
            raise PatternError(f"not supported by Python's re: {error.msg}") from None

    @cached_property
    def confirm(self) -> Confirm:
        """Return a function that decides whether a line contains a match; it returns None if that could take long."""
        if self._needs_regex:
            return lambda _line: None
        quickest = self._longest
        # Called for most lines of a flood, so everything is bound here.
        if self._tree.text:
            search_text = self._text_pattern.search

            def confirm_text(line: bytes) -> bool | None:
                text = line.decode("utf-8", "surrogateescape")
                return search_text(text) is not None if len(text) <= quickest else None

            return confirm_text
        search = self._bytes_pattern.search
        return lambda line: search(line) is not None if len(line) <= quickest else None

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

    def groups(self, line: bytes) -> dict[str, str] | None:
        """Return the named groups of the first match in a line, None where there is none; for Python's regexps.

        Of a line that `re` must not search whole, its beginning is searched.
        """
        text = line.decode("utf-8", "surrogateescape")[: max(self._longest, 0)]
        found = self._text_pattern.search(text)
        return None if found is None else {name: value or "" for name, value in found.groupdict().items()}

    @cached_property
    def group_names(self) -> frozenset[str]:
        """Return the names of its groups; none for PCRE's."""
        return frozenset() if self._rule.syntax is Syntax.PCRE else frozenset(self._text_pattern.groupindex)

    @cached_property
    def _longest(self) -> int:
        """How many characters `re`, which holds the GIL, may search; -1 if it does not support the pattern."""
        return -1 if self._needs_regex else longest(self._tree, QUICK)

    @cached_property
    def _needs_regex(self) -> bool:
        """Whether it is a PCRE regexp that only the `regex` package supports."""
        if self._rule.syntax is not Syntax.PCRE:
            return False
        return self._tree.text or any(isinstance(part, NATIVE) for part in walk(self._tree.root))

    @cached_property
    def _text_pattern(self) -> re.Pattern[str]:
        return re.compile(self._rule.pattern)

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
