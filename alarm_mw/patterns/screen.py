"""The screen: which lines some rule may match, told for all rules in one pass.

It is what every line and every record goes through, and next to nothing comes out of it. It may say yes too often,
never no too often. The rules themselves have the last word (`CompiledRule.search`), but for those that a `Hit`
calls certain. Any thread may use a screen; nothing in it blocks.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import NamedTuple, Protocol

import msgspec

from alarm_mw.model.types import Rule
from alarm_mw.patterns.expression import NOWHERE, Exactness, Expression
from alarm_mw.patterns.finder import RULE_BITS, Finder, LiteralFinder, Name, Re2Finder, Tell
from alarm_mw.patterns.hyperscan_finder import HyperscanFinder
from alarm_mw.patterns.text_screen import TellText, joined, text_teller

_FORMAT = 3
_RULE_MASK = (1 << RULE_BITS) - 1

#: How many combinations of rules are remembered.
MOST_SEEN = 1000


class Hit(NamedTuple):
    """A line in which rules may match; there may be a million of them in a few seconds."""

    #: Where its first byte is in the data, or in what `Screen.scan` was told that the data is a part of.
    start: int
    #: With its newline, where it has one.
    line: bytes
    #: The numbers of the rules that may match, ascending.
    rules: tuple[int, ...]
    #: Those among them that do match: they need no verdict.
    certain: tuple[int, ...] = ()

    @property
    def end(self) -> int:
        """Where it ends, after its newline."""
        return self.start + len(self.line)


class Screened(Protocol):
    """A rule with its expression, such as a `CompiledRule`."""

    rule: Rule
    expression: Expression


#: The level and the logger that a rule asks for.
Condition = tuple[int | None, str | None]


def applies(least: int | None, parent: str | None, level: int | None, logger: str) -> bool:
    """Return whether a rule that asks for a level and a logger applies to records of `level` and `logger`."""
    if least is not None and (level is None or level < least):
        return False
    return parent is None or logger == parent or logger.startswith(parent + ".")


class _Saved(msgspec.Struct, array_like=True, frozen=True):
    """A screen as bytes."""

    format: int
    backend: Name
    expressions: tuple[Expression, ...]
    refused: tuple[int, ...]
    conditions: tuple[Condition, ...]
    database: bytes


class Screen:
    """All rules at once."""

    def __init__(self, expressions: Sequence[Expression], finder: Finder, conditions: Sequence[Condition]) -> None:
        #: How each rule is looked for.
        self.expressions = tuple(expressions)
        self._conditions = tuple(conditions)
        #: Some rule asks for no level and no logger.
        self.takes_any = (None, None) in conditions
        #: Some rule applies to every record of this level and above; and what the rules for one logger ask for.
        self._least = min(
            (level for level, logger in conditions if level is not None and logger is None), default=math.inf
        )
        self._of_loggers = tuple(condition for condition in conditions if condition[1] is not None)
        self._finder = finder
        #: Made for the first record, without a lock: a forked child could find it held.
        self._tell: Tell | None = None
        #: What the rules need together.
        self.needs = joined(expression.needs for expression in expressions if expression != NOWHERE)
        #: The same of a record's text, without a newline at its end; made for the first one as well.
        self.may_match_text: TellText = self._may_match_first
        #: The rules that have to be judged on every line.
        nowhere = {rule for rule, item in enumerate(expressions) if item == NOWHERE}
        self._every = tuple(sorted(finder.refused - nowhere))
        self._all = tuple(rule for rule in range(len(expressions)) if rule not in nowhere)
        self._exact = tuple(item.exact if finder.exact else Exactness.NEVER for item in expressions)
        self._alone = tuple((rule,) for rule in range(len(expressions)))
        #: What rules make of a line of ASCII; in a flood they are the same again and again.
        self._common = lru_cache(MOST_SEEN)(partial(self._sorted, enough=Exactness.ASCII))
        #: What is certain of a hit of one rule on a line of ASCII.
        self._certain = tuple(
            alone if exact >= Exactness.ASCII else () for alone, exact in zip(self._alone, self._exact, strict=True)
        )

    @classmethod
    def compile(cls, rules: Sequence[Screened], *, backend: Name | None = None) -> Screen:
        """Return the screen of the rules; a rule's number is its place among them.

        `backend` None is the best one that is installed. Raises `ImportError` where the one asked for is missing.
        """
        expressions = [rule.expression for rule in rules]
        conditions = dict.fromkeys((item.rule.level, item.rule.logger) for item in rules if item.expression != NOWHERE)
        return cls(expressions, _build(expressions, backend), [*conditions])

    @property
    def rule_set(self) -> object:
        """What the numbers of the rules belong to: this very screen."""
        return self

    @property
    def backend(self) -> Name:
        """What the screen runs on."""
        return self._finder.name

    @property
    def judges_every_line(self) -> tuple[int, ...]:
        """The numbers of the rules that nothing can be looked for: each line and record goes to them."""
        return self._every

    def scan(self, data: bytes, base: int = 0) -> list[Hit]:
        """Return the lines of a chunk in which some rule may match, in order.

        `data` is whole lines; only the last line of a stream may lack its newline. A multiline rule is looked for
        line by line. `base` is where the data is in the stream.
        """
        if self._every:
            return list(self._line_by_line(data, base))
        finds = self._finder.find(data)
        if finds is None:
            return list(self._line_by_line(data, base))
        return self._hits(data, finds, base) if finds else []

    def candidates(self, message: bytes) -> tuple[int, ...]:
        """Return the numbers of the rules that may match a record: one of its lines, or it all (multiline)."""
        found = self._finder.matches(message) if message else None
        return self._all if found is None else self._with_every(found)

    @property
    def may_match(self) -> Tell:
        """What tells whether any rule may match a record of one or more lines, the last one with its newline."""
        if self._tell is None:
            self._tell = (lambda _message: True) if self._every else self._finder.teller()
        return self._tell

    def _may_match_first(self, text: str) -> bool:
        self.may_match_text = tell = text_teller(self.needs, self.may_match)
        return tell(text)

    def may_concern(self, level: int | None, logger: str) -> bool:
        """Return whether any rule may apply to a record of this level and logger, whatever its message."""
        if self.takes_any or (level is not None and level >= self._least):
            return True
        # To ask `any` of none would take a third of such a log call.
        return bool(self._of_loggers) and any(applies(*asked, level, logger) for asked in self._of_loggers)

    def dumps(self) -> bytes:
        """Return the screen as bytes, for another process."""
        finder = self._finder
        saved = _Saved(_FORMAT, finder.name, self.expressions, self._every, self._conditions, finder.dumps())
        return msgspec.msgpack.encode(saved)

    @classmethod
    def loads(cls, saved: bytes) -> Screen:
        """Return the screen that `dumps` made, at once where the same Hyperscan is here, else compiled anew.

        Raises `ValueError` for bytes that are no screen of this version.
        """
        try:
            screen = msgspec.msgpack.decode(saved, type=_Saved)
        except msgspec.DecodeError as error:
            raise ValueError(f"this is no screen: {error}") from None
        if screen.format != _FORMAT:
            raise ValueError(f"this screen has format {screen.format}, not {_FORMAT}")
        return cls(screen.expressions, _finder(screen), screen.conditions)

    def _with_every(self, rules: set[int]) -> tuple[int, ...]:
        return tuple(sorted(rules.union(self._every))) if rules else self._every

    # Finds to hits

    def _hits(self, data: bytes, finds: list[int], base: int) -> list[Hit]:
        """Return the lines around the finds."""
        # In a flood every line is one. So there is no call in here that most lines could do without, and `new` is what
        # `Hit` itself would call.
        finds.sort()
        new, alone, certain, is_ascii = tuple.__new__, self._alone, self._certain, data.isascii()
        hits: list[Hit] = []
        rule = start = end = 0
        others: list[int] = []
        for find in finds:
            at = (find >> RULE_BITS) - 1
            if at >= end:
                if end and not is_ascii:
                    hits.append(self._hit(base + start, data[start:end], (rule, *others)))
                elif others:
                    hits.append(new(Hit, (base + start, data[start:end], *self._common((rule, *others)))))
                elif end:
                    hits.append(new(Hit, (base + start, data[start:end], alone[rule], certain[rule])))
                if others:
                    others = []
                rule = find & _RULE_MASK
                start, end = end, data.find(b"\n", end) + 1 or len(data)
                if at >= end:
                    start = data.rfind(b"\n", end, at) + 1 or end
                    end = data.find(b"\n", at) + 1 or len(data)
            elif (other := find & _RULE_MASK) != rule and other not in others:
                others.append(other)
        hits.append(self._hit(base + start, data[start:end], (rule, *others)))
        return hits

    def _enough(self, line: bytes) -> Exactness:
        return Exactness.ASCII if line.isascii() else Exactness.ALWAYS

    def _hit(self, start: int, line: bytes, found: tuple[int, ...]) -> Hit:
        return Hit(start, line, *self._sorted(found, self._enough(line)))

    def _sorted(self, found: tuple[int, ...], enough: Exactness) -> tuple[tuple[int, ...], tuple[int, ...]]:
        rules, exact = tuple(sorted(found)), self._exact
        return rules, tuple([rule for rule in rules if exact[rule] >= enough])

    def _line_by_line(self, data: bytes, base: int) -> Iterator[Hit]:
        """Yield the hits of a chunk in which every line is looked at by itself."""
        start = 0
        while start < len(data):
            end = data.find(b"\n", start) + 1 or len(data)
            line = data[start:end]
            yield from self._judged(base + start, line, self._finder.matches(line))
            start = end

    def _judged(self, start: int, line: bytes, found: set[int] | None) -> Iterator[Hit]:
        """Yield the hit of one line, if it is one; without finds, anything may match."""
        if found is None:
            yield Hit(start, line, self._all)
        elif found or self._every:
            enough = self._enough(line)
            certain = tuple(sorted(rule for rule in found if self._exact[rule] >= enough))
            yield Hit(start, line, self._with_every(found), certain)


def _finder(saved: _Saved) -> Finder:
    """Return the finder that was saved, or a new one that does the same."""
    try:
        if saved.backend == "hyperscan":
            return HyperscanFinder.loads(saved.database, saved.expressions, frozenset(saved.refused))
        return _build(saved.expressions, saved.backend)
    except (ImportError, ValueError):  # It is not here, or is another version, or was for another processor.
        return _build(saved.expressions, None)


def _build(expressions: Sequence[Expression], backend: Name | None) -> Finder:
    """Return the finder of that name, or the best that is installed; raise `ImportError` where it is missing."""
    match backend:
        case "hyperscan":
            return HyperscanFinder.compile(expressions)
        case "re2":
            return Re2Finder(expressions)
        case "regex":
            return LiteralFinder(expressions)
    return _best(expressions, (HyperscanFinder.compile, Re2Finder))


def _best(expressions: Sequence[Expression], makers: Sequence[Callable[[Sequence[Expression]], Finder]]) -> Finder:
    """Return what the first maker makes whose package is installed, else what needs no package."""
    for make in makers:
        with contextlib.suppress(ImportError):
            return make(expressions)
    return LiteralFinder(expressions)
