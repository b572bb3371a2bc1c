"""The prefilter finds the lines that some rule may match, for all rules in one pass.

Each rule requires literals (`literals`). The literals of all rules are searched for at once, and a rule's own regexp is
tried only on lines that contain one of its literals. Nearly every line therefore costs one pass of Hyperscan's literal
matcher and nothing else. The prefilter may report too many lines, never too few. Usable from any thread; does not
block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from time import monotonic
from typing import NamedTuple, Protocol

from alarm_mw.model.types import Rule
from alarm_mw.patterns.literal_finder import LITERAL_BITS, LiteralFinder, MakeFinder, literal_finder
from alarm_mw.patterns.literals import Literal, Literals
from alarm_mw.patterns.record_prefilter import RecordPrefilter, record_rules

_LITERAL_MASK = (1 << LITERAL_BITS) - 1

#: Seconds per chunk for searching with regexps; the rest of the chunk is left to the engine. One more search
#: may take another five milliseconds, and then `StreamIntake` waits for the engine: 0.05 s in all.
PATIENCE = 0.02

#: In the place of a rule's number: the line may begin a record of several lines (`Prefilter`).
BEGINNING = -1

#: How many combinations of literals are remembered.
MOST_PLANS = 1000


class Hit(NamedTuple):
    """A line in which rules may match. There may be a million of them in a few seconds."""

    #: The offset of its first byte in the data, plus the base given to `Prefilter.scan`.
    start: int
    #: The line, with its newline if it has one.
    line: bytes
    #: The numbers of the rules that may match, ascending.
    rules: tuple[int, ...]
    #: Those among them that certainly match.
    certain: tuple[int, ...] = ()

    @property
    def end(self) -> int:
        """The offset after its newline."""
        return self.start + len(self.line)


class Hits(list[Hit]):
    """The hits of a chunk, in order."""

    #: Whether some of them are hits of `BEGINNING`. To look for these would take 70 ns for each line of a flood.
    has_beginnings = False


class PrefilteredRule(Protocol):
    """A rule with the literals that it requires, such as a `CompiledRule`."""

    rule: Rule
    literals: Literals | None
    keys: tuple[str, ...] | None
    ends_scan: bool

    @property
    def confirm(self) -> Callable[[bytes], bool | None]:
        """A function that decides whether the rule matches a printed line; it returns None if that could take long."""
        ...


class _Plan(NamedTuple):
    """What to do with a line that contains certain literals."""

    #: The rules that require one of them, ascending, and those that they make certain.
    rules: tuple[int, ...]
    certain: tuple[int, ...]
    #: The literals that count only at the start of a line.
    at_start: tuple[int, ...]
    #: Each rule, whether it is certain, and whether it ends the scan where it matches.
    asked: tuple[tuple[int, bool, bool], ...]


class Prefilter:
    """The prefilter of all rules. A rule's number is its index."""

    def __init__(
        self,
        rules: Sequence[PrefilteredRule],
        make_finder: MakeFinder = literal_finder,
        beginnings: Iterable[bytes] = (),
    ) -> None:
        """Prepare the rules; `scan` returns each line that holds one of the `beginnings` as a hit of `BEGINNING`."""
        self._rules = tuple(rules)
        looked_for = [(number, rule.literals) for number, rule in enumerate(rules) if rule.literals is not None]
        #: The rules that must be tried on every line.
        self.judges_every_line = tuple(number for number, literals in looked_for if not literals)
        self._all = tuple(number for number, _ in looked_for)
        #: What `scan` looks for beside the literals of the rules.
        self.beginnings = tuple(beginnings)
        requiring = {Literal(text, certain=True): [BEGINNING] for text in self.beginnings}
        for number, literals in looked_for:
            for literal in literals:
                requiring.setdefault(literal, []).append(number)
        self._literals = tuple(requiring)
        self._requiring = tuple(map(tuple, requiring.values()))
        self._finder: LiteralFinder = make_finder(self._literals)
        #: The rules that a literal makes certain if the line contains no other literal, and at which place in the line
        #: its last byte must then stand; below zero: at any.
        self._alone = tuple(
            (tuple(numbers), len(literal.text) - 1 if literal.at_start else -1)
            if literal.certain and not (literal.at_start and literal.ignores_case) and BEGINNING not in numbers
            else ((), -1)
            for literal, numbers in requiring.items()
        )
        #: The functions that confirm each rule, compiled at first use.
        self._confirm: list[Callable[[bytes], bool | None]] = [
            partial(self._first_confirm, number) for number in range(len(rules))
        ]
        self._plans: dict[tuple[int, ...], _Plan] = {}
        #: The lines that rules want around their hits, by the rules' numbers.
        self.contexts = {n: each.rule.context for n, each in enumerate(rules) if each.rule.context is not None}
        #: For the records of the application's processes.
        self.records = RecordPrefilter(record_rules(rules))

    @property
    def rules(self) -> tuple[PrefilteredRule, ...]:
        """The rules, by their numbers."""
        return self._rules

    @property
    def rule_set(self) -> object:
        """The owner of the rule numbers: this prefilter."""
        return self

    def scan(self, data: bytes, base: int = 0) -> Hits:
        """Return the printed lines of a chunk in which some rule may match, in order.

        `data` is whole lines; only the last line of a stream may lack its newline. A multiline rule is searched
        for line by line. `base` is the offset of the data in the stream.
        """
        finds = None if self.judges_every_line else self._finder.find(data)
        if finds is None:
            return self._line_by_line(data, base, monotonic() + PATIENCE)
        return self._hits(data, finds, base, monotonic() + PATIENCE) if finds else Hits()

    def candidates(self, message: bytes) -> tuple[int, ...]:
        """Return the numbers of the rules that may match one of a record's lines, or the whole record (multiline)."""
        if not message:
            return self._all
        found = {rule for literal in self._finder.found_in(message) for rule in self._requiring[literal]}
        return tuple(sorted(found.union(self.judges_every_line) - {BEGINNING}))

    def may_match(self, message: bytes) -> bool:
        """Return whether any rule may match a record of one or more lines."""
        return bool(self.judges_every_line) or self._finder.finds_any(message)

    # From finds to hits

    def _hits(self, data: bytes, finds: list[int], base: int, until: float) -> Hits:
        """Return the lines around the finds."""
        # In a flood every line is a hit, so this loop avoids every unnecessary call.
        finds.sort()
        new, alone = tuple.__new__, self._alone
        hits: list[Hit] = []  # to append to an instance of `Hits` takes longer
        has_beginnings = False
        start = end = literal = 0
        certain: tuple[int, ...] = ()
        others: tuple[int, ...] = ()
        for find in finds:
            at = (find >> LITERAL_BITS) - 1
            if at < end:
                if (other := find & _LITERAL_MASK) != literal and other not in others:
                    others += (other,)
                continue
            if certain and not others:
                hits.append(new(Hit, (base + start, data[start:end], certain, certain)))
            elif end:
                has_beginnings |= self._check(base + start, data[start:end], (literal, *others), hits, until)
                others = ()
            literal = find & _LITERAL_MASK
            start, end = end, data.find(b"\n", end) + 1 or len(data)
            if at >= end:
                start = data.rfind(b"\n", end, at) + 1 or end
                end = data.find(b"\n", at) + 1 or len(data)
            certain, place = alone[literal]
            if place >= 0 and at - start != place:
                certain = ()
        has_beginnings |= self._check(base + start, data[start:end], (literal, *others), hits, until)
        found = Hits(hits)
        found.has_beginnings = has_beginnings
        return found

    def _line_by_line(self, data: bytes, base: int, until: float) -> Hits:
        """Return the hits of a chunk, searching each line separately."""
        hits = Hits()
        start = 0
        while start < len(data):
            end = data.find(b"\n", start) + 1 or len(data)
            line = data[start:end]
            hits.has_beginnings |= self._check(base + start, line, tuple(self._finder.found_in(line)), hits, until)
            start = end
        return hits

    def _check(self, start: int, line: bytes, found: tuple[int, ...], hits: list[Hit], until: float) -> bool:
        """Add the hit of a line with these literals, unless the rules that are quick to check reject it.

        Returns whether it is a hit of `BEGINNING`.
        """
        rules, certain, at_start, asked = self._plans.get(found) or self._new_plan(found)
        if at_start:
            kept = tuple([literal for literal in found if literal not in at_start or self._begins(line, literal)])
            if kept != found:
                return self._check(start, line, kept, hits, until)
        if rules != certain and monotonic() < until:
            rules, certain = self._confirmed(line, asked)
        if rules:
            # The same as `Hit(…)`, without a Python call.
            hits.append(tuple.__new__(Hit, (start, line, rules, certain)))
        return rules[:1] == (BEGINNING,)

    def _first_confirm(self, rule: int, line: bytes) -> bool | None:
        self._confirm[rule] = confirm = self._rules[rule].confirm
        return confirm(line)

    def _begins(self, line: bytes, literal: int) -> bool:
        text, ignores_case = self._literals[literal].text, self._literals[literal].ignores_case
        return (line[: len(text)].lower() if ignores_case else line).startswith(text)

    def _new_plan(self, found: tuple[int, ...]) -> _Plan:
        if len(self._plans) >= MOST_PLANS:
            self._plans.clear()
        rules = {rule for literal in found for rule in self._requiring[literal]}
        certain = {rule for literal in found if self._literals[literal].certain for rule in self._requiring[literal]}
        at_start = tuple(literal for literal in found if self._literals[literal].at_start)
        rules.update(self.judges_every_line)
        ends = {rule for rule in rules if rule != BEGINNING and self._rules[rule].ends_scan}
        asked = tuple((rule, rule in certain, rule in ends) for rule in sorted(rules))
        plan = self._plans[found] = _Plan(tuple(sorted(rules)), tuple(sorted(certain)), at_start, asked)
        return plan

    def _confirmed(
        self, line: bytes, asked: Iterable[tuple[int, bool, bool]]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the rules that match or may match, and those that match, up to the first that ends the scan."""
        matching: list[int] = []
        sure: list[int] = []
        confirm = self._confirm
        for rule, is_certain, ends_scan in asked:
            answer = is_certain or confirm[rule](line)
            if answer is False:
                continue
            matching.append(rule)
            if answer:
                sure.append(rule)
                if ends_scan:
                    break
        return tuple(matching), tuple(sure)
