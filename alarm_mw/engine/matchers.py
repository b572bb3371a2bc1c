"""Matchers of labels, in Alertmanager's notation: ``severity="critical"``, ``team!="web"``, ``host=~"eu-.*"``."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

import msgspec

from alarm_mw.model.errors import PatternError, RuleTimeout
from alarm_mw.model.types import Rule
from alarm_mw.patterns.bounded_pattern import BoundedPattern

_EXAMPLE = """severity="critical", team!="web", host=~"eu-.*" or host!~"test-.*\""""

_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:.-]*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE = re.compile(r"""[^\s{}!=~,"'`\\]+""")
_OPERATOR = re.compile(r"=~|!~|!=|=")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)

#: Go's flags at the start of a regexp, which Python has for a group.
_FLAGS = re.compile(r"\(\?([ims]+)\)")


class Operator(enum.StrEnum):
    """What a matcher asks of a label's value."""

    EQUAL = "="
    NOT_EQUAL = "!="
    REGEXP = "=~"
    NOT_REGEXP = "!~"


class Matcher(msgspec.Struct, frozen=True):
    """One condition on a label. A label that is missing has an empty value.

    A regexp is Python's and matches the whole value. If that takes too long, the condition does not hold, whatever the
    operator.
    """

    name: str
    operator: Operator
    value: str

    def __post_init__(self) -> None:
        """Raise `ValueError` for a regexp that is wrong."""
        if not self.name:
            raise ValueError("expected a label's name before the operator")
        if self.operator in _REGEXPS:
            try:
                _anchored(self.value)
            except PatternError as error:
                raise ValueError(f"{self.name}: the regexp {self.value!r} cannot be used: {error}") from None

    def __str__(self) -> str:
        """Return the notation that `parse_matchers` reads."""
        name = self.name if _NAME.fullmatch(self.name) else _quoted(self.name)
        return f"{name}{self.operator}{_quoted(self.value)}"

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether the condition holds for these labels."""
        value = labels.get(self.name, "")
        if self.operator not in _REGEXPS:
            return (value == self.value) is not (self.operator in _NEGATIONS)
        try:
            found = _anchored(self.value).search(value.encode("utf-8", "replace"))
        except RuleTimeout:
            return False
        return found is not (self.operator in _NEGATIONS)


_REGEXPS = frozenset({Operator.REGEXP, Operator.NOT_REGEXP})
_NEGATIONS = frozenset({Operator.NOT_EQUAL, Operator.NOT_REGEXP})


@lru_cache(maxsize=1000)
def _anchored(pattern: str) -> BoundedPattern:
    """Return a regexp that matches whole texts; raise `PatternError` if it is wrong."""
    found = _FLAGS.match(pattern)
    flags, rest = (found[1], pattern[found.end() :]) if found else ("", pattern)
    return BoundedPattern(Rule(rf"\A(?{flags}:{rest})\Z", ()))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def parse_matchers(given: str | Iterable[str]) -> tuple[Matcher, ...]:
    """Return the matchers of one text, such as ``{severity="critical", host=~"eu-.*"}``, or of several.

    Braces may be left out, and the quotes of a value without blanks and special characters. Raises `ValueError` with a
    sentence for the user.
    """
    texts = (given,) if isinstance(given, str) else given
    return tuple(matcher for text in texts for matcher in _Reader(text).matchers())


def equal_to(labels: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return matchers, in their notation, that select what has all of these labels."""
    return tuple(str(Matcher(name, Operator.EQUAL, value)) for name, value in labels)


class _Reader:
    """Reads one text from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def matchers(self) -> list[Matcher]:
        end = "}" if self._take("{") else ""
        found: list[Matcher] = []
        while self._rest()[:1] not in {"", end}:
            if found and not self._take(","):
                raise self._error("a comma between two matchers")
            if self._rest()[:1] not in {"", end}:  # Alertmanager allows a comma at the end
                found.append(self._matcher())
        if not self._take(end):
            raise self._error("a closing brace")
        if self._rest():
            raise self._error("the end")
        if not found:
            raise ValueError(f"expected a matcher such as {_EXAMPLE}, got {self._text!r}")
        return found

    def _matcher(self) -> Matcher:
        name = self._string(_NAME, "a label's name")
        self._skip()
        operator = _OPERATOR.match(self._text, self._at)
        if operator is None:
            raise self._error("one of =, !=, =~ and !~")
        self._at = operator.end()
        value = self._string(_BARE, "a value in double quotes")
        return Matcher(name, Operator(operator[0]), value)

    def _string(self, bare: re.Pattern[str], expected: str) -> str:
        self._skip()
        if quoted := _QUOTED.match(self._text, self._at):
            self._at = quoted.end()
            return _ESCAPE.sub(lambda found: "\n" if found[1] == "n" else found[1], quoted[1])
        found = bare.match(self._text, self._at)
        if found is None:
            raise self._error(expected)
        self._at = found.end()
        return found[0]

    def _take(self, text: str) -> bool:
        if not self._rest().startswith(text):
            return False
        self._at += len(text)
        return True

    def _skip(self) -> None:
        self._at = len(self._text) - len(self._text[self._at :].lstrip())

    def _rest(self) -> str:
        self._skip()
        return self._text[self._at :]

    def _error(self, expected: str) -> ValueError:
        got = f"got {self._text[self._at :][:20]!r}" if self._rest() else "it ends there"
        return ValueError(f"{self._text!r}: expected {expected} at character {self._at + 1}, {got}")
