"""The engine decides: which rules match a record, which alarms fire, and why the others do not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence
from functools import partial
from time import thread_time

from alarm_mw.engine.antiloop import is_marked
from alarm_mw.engine.flood_control.flood_control import FloodControl, Gate
from alarm_mw.engine.flood_control.limits import Limits, Rate
from alarm_mw.engine.memory import Memory
from alarm_mw.engine.messages import rule_text
from alarm_mw.engine.rules import CompiledRule, by_conditions
from alarm_mw.model.errors import RuleTimeout
from alarm_mw.model.types import Firing, Held, Reason, Record, Rule, Verdict
from alarm_mw.patterns.bounded_pattern import RULE_TIMEOUT
from alarm_mw.patterns.prefilter import Prefilter
from alarm_mw.patterns.record_prefilter import applies

#: A rule whose slow searches have taken so many seconds within `COST_WINDOW` seconds is not tried any more.
MAX_COST = 0.5
COST_WINDOW = 60.0

#: A search is slow when it takes so many seconds of the processor, or is cut off.
SLOW_SEARCH = 0.005

#: How many combinations of rules are remembered with the alarms that they fire.
_PLANS = 1000


class Engine:
    """Rules in order, and what holds their alarms back. Pure: `now` comes in, values come out.

    `limits` are those of single alarms. `memory` is that of a former engine: its holds, counts and thresholds go on.
    Everywhere `now` is in seconds of a clock that never goes back. `clock` tells the seconds for which this thread has
    had the processor.
    """

    def __init__(
        self,
        rules: Sequence[CompiledRule],
        prefilter: Prefilter,
        alarms: Collection[str],
        *,
        left_out: Collection[str] = (),
        alarm_freq: float,
        alarm_msg_size: int,
        alarm_rate: Rate | None = None,
        limits: Mapping[str, Limits] | None = None,
        memory: Memory | None = None,
        clock: Callable[[], float] = thread_time,
    ) -> None:
        self._rules = tuple(rules)
        self._names = tuple(_name(compiled.rule) for compiled in rules)
        self._by_conditions = by_conditions(rules)
        #: Tells which rules may match a line.
        self.prefilter = prefilter
        self._alarms = frozenset(left_out).union(alarms)
        #: For the next engine.
        self.memory = memory or Memory()
        self._flood_control = FloodControl(
            dict.fromkeys(self._alarms, Limits()) | dict(limits or {}),
            self.memory,
            left_out=left_out,
            alarm_rate=alarm_rate,
            alarm_freq=alarm_freq,
            alarm_msg_size=alarm_msg_size,
        )
        self._plans: dict[tuple[tuple[int, ...], str], tuple[tuple[str, ...], Reason | None] | None] = {}
        self._clock = clock
        #: By the memory's clock.
        self._now = self.memory.offset

    def evaluate(
        self,
        record: Record,
        now: float,
        candidates: Sequence[int] | None = None,
        certain: Container[int] = (),
    ) -> Verdict:
        """Put a record to the rules.

        `candidates` are the indexes of the rules that the prefilter left, ascending, and `certain` those of them that
        are known to match. Without them the record is prefiltered here.
        """
        if is_marked(record.message):
            return Verdict(skipped=Reason.ALARM_MARK)
        self._now = now + self.memory.offset
        if candidates is None:
            candidates = self._candidates(record)
        matched, cut_off, excluded = self._scan(record, candidates, certain)
        if not matched:
            skipped = Reason.EXCLUDED if excluded else Reason.RULE_TIMEOUT if cut_off else None
            return Verdict(skipped=skipped, cut_off=cut_off)
        return self._decide(matched, record, now + self.memory.offset, cut_off)

    def fire(self, alarm: str, record: Record, now: float) -> Verdict:
        """Fire an alarm past the rules; what holds firings back holds for it as well."""
        if alarm not in self._alarms:
            return Verdict(skipped=Reason.UNKNOWN_ALARM)
        return self._decide([], record, now + self.memory.offset, (), alarm)

    def is_switched_off(self, index: int) -> bool:
        """Return whether a rule is not tried any more, because its regexp took too long too often."""
        spent, _ = self.memory.costs.get(self._names[index], (0.0, 0.0))
        return round(spent, 6) >= MAX_COST

    def switched_off(self) -> list[Rule]:
        """Return the rules that are not tried any more."""
        return [compiled.rule for index, compiled in enumerate(self._rules) if self.is_switched_off(index)]

    def rule(self, index: int) -> Rule:
        """Return the rule at `index`."""
        return self._rules[index].rule

    def forget_others(self) -> None:
        """Forget what a former engine remembered of alarms and rules that this one does not have."""
        self.memory.keep_only(self._alarms, frozenset(self._names))

    def held_over(self, waiting: Mapping[str, int], now: float) -> None:
        """Count what earlier processes have fired and not delivered, so many firings of each alarm, as sent now."""
        self._flood_control.held_over(waiting, now + self.memory.offset)

    # Digests

    def due(self) -> float | None:
        """Return when `tick` has something to do, None where it has not."""
        due = self.memory.held_back.due()
        return None if due is None else due - self.memory.offset

    def tick(self, now: float, time: float, *, at_end: bool = False) -> list[Firing]:
        """Return the digests that are due: messages that tell what was held back. `time` is since the epoch.

        `at_end` those that would be due later as well, since nobody will remember them then.
        """
        due = self.due()
        if due is None or (due > now and not at_end):
            return []
        self.memory.is_changed = True
        return list(self._flood_control.tick(now + self.memory.offset, time, at_end=at_end))

    # Silences

    def silence(self, alarm: str, seconds: float, now: float, comment: str) -> None:
        """Hold an alarm back for so long, whatever it would say; `comment` is for people."""
        now += self.memory.offset
        self.memory.silences.until[alarm] = (now + seconds, comment)
        self.memory.held_back.put_off(alarm, now + seconds)
        self.memory.is_changed = True

    def unsilence(self, alarm: str, now: float) -> None:
        """End an alarm's silence; what it held back is due."""
        if self.memory.silences.until.pop(alarm, None) is not None:
            self.memory.held_back.put_off(alarm, now + self.memory.offset)
            self.memory.is_changed = True

    def silences(self, now: float) -> dict[str, tuple[float, str]]:
        """Return for how many seconds each alarm is silenced yet, with the comment."""
        now += self.memory.offset
        found = dict(self.memory.silences.until)  # a copy: it may be another thread that asks
        return {alarm: (until - now, comment) for alarm, (until, comment) in found.items() if until > now}

    # Floods

    def gate(self, rules: tuple[int, ...], source: str, now: float) -> tuple[Gate, Verdict] | None:
        """Return what becomes of every printed line that these rules are certain to match, where that can be told.

        It is what `evaluate` would say of each, until that or another method has changed the memory: for lines
        without alarm code's mark, and none but ``Gate.message`` where that is not None.
        """
        now += self.memory.offset
        plan = self._plan(rules, source)
        if plan is None or self.memory.echoes.expects_prints(now):
            return None
        alarms, skipped = plan
        gate = self._flood_control.gate(alarms, now)
        return None if gate is None else (gate, Verdict((), gate.held, alarms, skipped))

    def settled(self, rules: tuple[int, ...], certain: Container[int], line: bytes) -> tuple[int, ...] | None:
        """Return which of the rules that may match a printed line do; None where that takes too long to tell.

        Of a rule on requests each line is judged by itself: its regexp says little.
        """
        if any(self._rules[rule].rule.request is not None for rule in rules):
            return None
        try:
            return tuple([rule for rule in rules if rule in certain or self._finds(rule, line)])
        except RuleTimeout:
            return None

    def _finds(self, index: int, line: bytes) -> bool:
        return not self.is_switched_off(index) and self._timed(index, partial(self._rules[index].search, line))

    def hold(self, gate: Gate, first: Record, last: bytes, n: int, now: float) -> None:
        """Note that a gate has decided `n` lines, of which `first` was the first, and `last` the last one."""
        self.memory.is_changed = True
        self._flood_control.hold(gate, first, last, n, now + self.memory.offset)

    def _plan(self, rules: tuple[int, ...], source: str) -> tuple[tuple[str, ...], Reason | None] | None:
        """Return the alarms of rules that match a printed line, and why it has none; None where rules count."""
        key = (rules, source)
        if key not in self._plans:
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            matched, _, excluded = self._scan(Record(b"", source, 0.0, ""), rules, rules)
            counts = any(compiled.rule.count > 1 for compiled in matched)
            skipped = Reason.EXCLUDED if excluded and not matched else None
            self._plans[key] = None if counts else (_alarms(matched), skipped)
        return self._plans[key]

    # One record

    def _scan(
        self, record: Record, candidates: Sequence[int], certain: Container[int]
    ) -> tuple[list[CompiledRule], tuple[int, ...], bool]:
        """Return the rules that match and fire, the rules cut off, and whether one excluded the rest."""
        matched: list[CompiledRule] = []
        cut_off: list[int] = []
        lines = _lines(record.message)
        for index in candidates:
            compiled = self._rules[index]
            if not applies(compiled.rule.level, compiled.rule.logger, record.level, record.logger):
                continue
            if compiled.rule.request is not None and not self._judge(index, partial(compiled.fits, record), cut_off):
                continue
            if index not in certain and not self._matches(index, record.message, lines, cut_off):
                continue
            if compiled.rule.excludes:
                return matched, tuple(cut_off), True
            matched.append(compiled)
        return matched, tuple(cut_off), False

    def _candidates(self, record: Record) -> Sequence[int]:
        """Return the rules that may match: those that the prefilter finds, and those on this very request."""
        found = self.prefilter.candidates(record.message)
        if not record.held:
            return found
        return sorted({*found, *(index for key in record.held for index in self._by_conditions.get(key, ()))})

    def _matches(self, index: int, message: bytes, lines: Sequence[bytes], cut_off: list[int]) -> bool:
        compiled = self._rules[index]
        return self._judge(
            index, lambda: any(map(compiled.search, (message,) if compiled.rule.multiline else lines)), cut_off
        )

    def _judge(self, index: int, verdict: Callable[[], bool], cut_off: list[int]) -> bool:
        """Return a rule's verdict; of one that is switched off, or now cut off at its time limit, that it is none."""
        if self.is_switched_off(index):
            return False
        try:
            return self._timed(index, verdict)
        except RuleTimeout:
            cut_off.append(index)
            return False

    def _timed(self, index: int, verdict: Callable[[], bool]) -> bool:
        """Return a rule's verdict, and note what it has cost where that is much."""
        began = self._clock()
        try:
            found = verdict()
        except RuleTimeout:
            self._note_cost(index, RULE_TIMEOUT)
            raise
        if (cost := self._clock() - began) >= SLOW_SEARCH:
            self._note_cost(index, cost)
        return found

    def _note_cost(self, index: int, cost: float) -> None:
        name = self._names[index]
        spent, since = self.memory.costs.get(name, (0.0, self._now))
        if not 0 <= self._now - since <= COST_WINDOW:
            spent, since = 0.0, self._now
        self.memory.costs[name] = (spent + cost, since)
        self.memory.is_changed = True

    def _decide(
        self, matched: Sequence[CompiledRule], record: Record, now: float, cut_off: tuple[int, ...], *direct: str
    ) -> Verdict:
        """Fire or hold back the alarms of the rules that match, or those that are fired directly."""
        self.memory.is_changed = True
        alarms = direct or _alarms(matched)
        echoes = {alarm for alarm in alarms if self.memory.echoes.is_echo(alarm, record, now)}
        firing = dict[str, CompiledRule | None].fromkeys(direct) | self._firing_rules(matched, echoes, now)
        firings: list[Firing] = []
        held: list[Held] = []
        for alarm in alarms:
            if alarm in echoes:  # of which the recipient has been told
                decision: Firing | Held = Held(alarm, Reason.ECHO)
            elif alarm not in firing:
                decision = Held(alarm, Reason.BELOW_THRESHOLD)
            else:
                decision = self._flood_control.decide(alarm, record, now, firing[alarm])
            if isinstance(decision, Firing):
                firings.append(decision)
            else:
                held.append(decision)
        return Verdict(tuple(firings), tuple(held), tuple(alarms), None, cut_off)

    def _firing_rules(self, matched: Sequence[CompiledRule], echoes: set[str], now: float) -> dict[str, CompiledRule]:
        """Return the alarms that fire, each with the first rule that says so."""
        firing: dict[str, CompiledRule] = {}
        for compiled in matched:
            rule = compiled.rule
            if rule.count > 1 and not (echoes.isdisjoint(rule.alarms) and self._counts_up(rule, now)):
                continue
            for alarm in rule.alarms:
                if alarm not in firing:
                    firing[alarm] = compiled
        return firing

    def _counts_up(self, rule: Rule, now: float) -> bool:
        return self.memory.thresholds.reached(_name(rule), rule.count, rule.within, now)


def _name(rule: Rule) -> str:
    """Return what a rule is known by in the memory: the same in every process, and after changes of other rules."""
    return f"{rule_text(rule)} {','.join(rule.alarms)}"


def _alarms(rules: Sequence[CompiledRule]) -> tuple[str, ...]:
    """Return the alarms of rules in their order, each once."""
    return tuple(dict.fromkeys(alarm for compiled in rules for alarm in compiled.rule.alarms))


def _lines(message: bytes) -> tuple[bytes, ...]:
    """Return the lines with their newlines; only LF ends a line, an empty message is one empty line."""
    if message.find(b"\n", 0, -1) < 0:
        return (message,)
    lines = tuple(line + b"\n" for line in message.removesuffix(b"\n").split(b"\n"))
    return lines if message.endswith(b"\n") else (*lines[:-1], lines[-1][:-1])
