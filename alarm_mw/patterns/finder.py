"""What looks for all rules at once, and the two ways to do without Hyperscan."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from alarm_mw.patterns.expression import Expression
from alarm_mw.system.forks import held_off

Name = Literal["hyperscan", "re2", "regex"]

#: A find is an end offset, shifted by so many bits, and the number of a rule.
RULE_BITS = 20

#: Bytes that RE2's automaton may take.
_RE2_MEMORY = 64 << 20
_RE2_MEMORY_OF_RULE = 256 << 10
_PROBE = b"alarm-mw\x00probe"


#: Tells whether any rule may match somewhere in some bytes.
Tell = Callable[[bytes], bool]


class Finder(Protocol):
    """Finds where rules may match. Never misses one; any thread may ask."""

    name: Name
    #: The rules that it cannot look for: every line has to be judged.
    refused: frozenset[int]
    #: It runs the expressions whole, so that they are as exact as they say.
    exact: bool

    def find(self, data: bytes) -> list[int] | None:
        """Return the finds in many lines, in any order, or None where they are too many or cannot be told."""
        ...

    def matches(self, data: bytes) -> set[int] | None:
        """Return the rules that may match somewhere in the data, or None where that cannot be told."""
        ...

    def teller(self) -> Tell:
        """Return what tells, for every record of an application, whether any rule may match somewhere in it."""
        ...

    def dumps(self) -> bytes:
        """Return what `loads` makes a finder from, or nothing."""
        ...


class Re2Finder(Finder):
    """RE2's set of regexps: one pass over a chunk to see that nothing matches, else line by line."""

    name: Name = "re2"
    exact = True

    def __init__(self, expressions: Sequence[Expression]) -> None:
        with held_off():
            re2 = importlib.import_module("re2")
        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.log_errors = False
        options.max_mem = _RE2_MEMORY + _RE2_MEMORY_OF_RULE * len(expressions)
        self._set = re2.Set.SearchSet(options)
        self._set.Add(_PROBE)
        accepted = [rule for rule, item in enumerate(expressions) if item.pattern and self._takes(re2, item.pattern)]
        self._set.Compile()
        # RE2 answers "nothing" when it lacks memory for its automaton; then the probe is not found either.
        self._rules = accepted if self._set.Match(_PROBE) else []
        self.refused = frozenset(range(len(expressions))) - frozenset(self._rules)

    def _takes(self, re2: Any, pattern: str) -> bool:  # noqa: ANN401  # an optional package
        try:
            self._set.Add(f"(?m){pattern}".encode())
        except re2.error:
            return False
        return True

    def find(self, data: bytes) -> list[int] | None:
        """Return the finds, or None where they are too many or cannot be told."""
        return None if self.matches(data) else []

    def matches(self, data: bytes) -> set[int] | None:
        """Return the rules that may match somewhere in the data, or None where that cannot be told."""
        found = self._set.Match(data) if self._rules else None
        return {self._rules[index - 1] for index in found or () if index}

    def teller(self) -> Tell:
        """Return what tells whether any rule may match somewhere in a record."""
        return lambda data: bool(self.matches(data))

    def dumps(self) -> bytes:
        """Return the compiled database, or nothing."""
        return b""


class LiteralFinder(Finder):
    """The bytes that every line holds in which a rule matches. Nothing has to be installed for it."""

    name: Name = "regex"
    exact = False

    def __init__(self, expressions: Sequence[Expression]) -> None:
        self._literals = [(rule, item.literal) for rule, item in enumerate(expressions) if item.literal]
        self.refused = frozenset(range(len(expressions))) - frozenset(rule for rule, _ in self._literals)

    def find(self, data: bytes) -> list[int] | None:
        """Return the finds, or None where they are too many or cannot be told."""
        finds: list[int] = []
        for rule, literal in self._literals:
            end = data.find(literal)
            while end >= 0:
                end += len(literal)
                finds.append(end << RULE_BITS | rule)
                end = data.find(literal, data.find(b"\n", end - 1) + 1 or len(data))
        return finds

    def matches(self, data: bytes) -> set[int]:
        """Return the rules that may match somewhere in the data."""
        return {rule for rule, literal in self._literals if literal in data}

    def teller(self) -> Tell:
        """Return what tells whether any rule may match somewhere in a record."""
        return lambda data: any(literal in data for _, literal in self._literals)

    def dumps(self) -> bytes:
        """Return the compiled database, or nothing."""
        return b""
