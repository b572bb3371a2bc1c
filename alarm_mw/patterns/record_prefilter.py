"""The prefilter for the application's records: decides from a record's text whether any rule may match it.

Nearly every log call ends here. The literals are therefore searched for in the text itself, without encoding it, and
without releasing the GIL: a thread that releases the GIL has to wait for it afterwards, which costs 15 µs per record in
a server with eight threads. There is no lock in here, and a forked child can continue to use it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import msgspec

from alarm_mw.model.types import Rule
from alarm_mw.patterns.literal_finder import literal_finder
from alarm_mw.patterns.literals import Literal, Literals

#: Up to this many literals are searched for one by one, which is faster than one pass for all.
FEW = 16

#: A longer text is searched by the finder for streams, which is so much faster that releasing the GIL pays.
SHORT = 2000

#: The level and the logger that a rule requires.
Condition = tuple[int | None, str | None]

#: Decides whether any rule may match a record, from its text without a final newline.
MayMatch = Callable[[str], bool]


def applies(least: int | None, parent: str | None, level: int | None, logger: str) -> bool:
    """Return whether a rule that requires `least` and `parent` applies to records of `level` and `logger`."""
    if least is not None and (level is None or level < least):
        return False
    return parent is None or logger == parent or logger.startswith(parent + ".")


class RecordRules(msgspec.Struct, frozen=True, array_like=True):
    """The facts about all rules that are needed to reject records."""

    #: None: some rule requires no literal, so every record passes.
    literals: tuple[Literal, ...] | None = ()
    conditions: tuple[Condition, ...] = ()
    #: A record with a field of such a name passes without a literal.
    keys: tuple[str, ...] = ()
    #: How many log calls before a record are shown with it; they are remembered whatever they say.
    before: int = 0


class RequiringRule(Protocol):
    """A rule with the literals that it requires, such as a `CompiledRule`."""

    rule: Rule
    literals: Literals | None
    keys: tuple[str, ...] | None


def record_rules(rules: Iterable[RequiringRule]) -> RecordRules:
    """Return these facts for some rules."""
    looked_for = [each for each in rules if each.literals is not None]
    conditions = dict.fromkeys((each.rule.level, each.rule.logger) for each in looked_for)
    is_known = all(each.literals and each.keys is not None for each in looked_for)
    literals = dict.fromkeys(literal for each in looked_for for literal in each.literals or ())
    keys = dict.fromkeys(name for each in looked_for for key in each.keys or () for name in _beginnings(key))
    before = max((each.rule.context.before for each in looked_for if each.rule.context is not None), default=0)
    return RecordRules(tuple(literals) if is_known else None, tuple(conditions), tuple(keys), before)


def _beginnings(key: str) -> list[str]:
    """Return a field's name and the names of the objects that may contain it: of ``user.plan`` also ``user``."""
    return [key[:at] for at, letter in enumerate(key) if letter == "."] + [key]


class RecordPrefilter:
    """The prefilter of an application's process. Usable from any thread; does not block."""

    def __init__(self, rules: RecordRules) -> None:
        self.rules = rules
        #: Whether some rule requires neither a level nor a logger, or all log calls are remembered.
        self.takes_any = (None, None) in rules.conditions or rules.before > 0
        self.before = rules.before
        #: Whether a record that no literal lets pass may pass by its fields, or is remembered.
        self.asks_more = bool(rules.keys or rules.before)
        #: The level from which some rule applies to every logger, and the requirements of the rules for single loggers.
        self._least = min(
            (level for level, logger in rules.conditions if level is not None and logger is None), default=math.inf
        )
        self._keys = frozenset(rules.keys)
        self._of_loggers = tuple(condition for condition in rules.conditions if condition[1] is not None)
        #: Decides whether any rule may match a record's text. Built at first use.
        self.may_match: MayMatch = self._may_match_first

    def _may_match_first(self, text: str) -> bool:
        self.may_match = may_match = _text_search(self.rules.literals)
        return may_match(text)

    def has_key(self, names: Iterable[str]) -> bool:
        """Return whether a record with fields of these names passes whatever its text is."""
        return not self._keys.isdisjoint(names)

    def may_concern(self, level: int | None, logger: str) -> bool:
        """Return whether any rule may apply to a record of this level and logger, whatever its message."""
        if self.takes_any or (level is not None and level >= self._least):
            return True
        # `any` of an empty sequence would take a third of such a log call.
        return bool(self._of_loggers) and any(applies(*asked, level, logger) for asked in self._of_loggers)


def _text_search(literals: Sequence[Literal] | None) -> MayMatch:
    """Return a function that decides whether a text contains any of the literals; always true if they are None."""
    if literals is None:
        return lambda _: True
    if not literals:
        return lambda _: False
    may_match_bytes = literal_finder(literals).finds_any
    may_match_ascii = _few(literals) if len(literals) <= FEW else _many(literals)

    def may_match(text: str) -> bool:
        # Characters beyond ASCII may be encoded in different ways.
        if may_match_ascii is not None and len(text) <= SHORT and text.isascii():
            return may_match_ascii(text)
        try:
            return may_match_bytes(text.encode())
        except UnicodeEncodeError:  # what becomes of it is for the rules to see
            return True

    return may_match


def _few(literals: Iterable[Literal]) -> MayMatch:
    """Return a search for a few literals in ASCII text."""
    texts = [(each.text.decode(), each.ignores_case) for each in literals if each.text.isascii()]
    same = tuple(text for text, ignores_case in texts if not ignores_case)
    small = tuple(text for text, ignores_case in texts if ignores_case)

    def finds_same(text: str) -> bool:
        for literal in same:  # noqa: SIM110  # `any` takes twice as long
            if literal in text:
                return True
        return False

    def finds_both(text: str) -> bool:
        in_small = text.lower()
        for literal in small:
            if literal in in_small:
                return True
        return finds_same(text)

    return finds_both if small else finds_same


def _many(literals: Iterable[Literal]) -> MayMatch | None:
    """Return what looks for any number of literals in a text of ASCII; None where its package is missing."""
    try:
        import ahocorasick  # noqa: PLC0415  # only many rules need it
    except ImportError:
        return None
    automaton: Any = ahocorasick.Automaton()
    texts = [(each.text.decode(), each.ignores_case) for each in literals if each.text and each.text.isascii()]
    ignore_case = any(ignores_case for _, ignores_case in texts)
    # Some literals may differ in their case alone.
    wanted: dict[str, list[str]] = {}
    for text, ignores_case in texts:
        wanted.setdefault(text.lower() if ignore_case else text, []).append("" if ignores_case else text)
    for text, as_written in wanted.items():
        automaton.add_word(text, () if "" in as_written or not ignore_case else tuple(as_written))
    if not wanted:
        return lambda _: False
    automaton.make_automaton()
    find = automaton.iter

    def finds_same(text: str) -> bool:
        return next(find(text), None) is not None

    def finds_any_case(text: str) -> bool:
        for end, as_written in find(text.lower()):
            if not as_written or any(text.endswith(each, 0, end + 1) for each in as_written):
                return True
        return False

    return finds_any_case if ignore_case else finds_same
