"""The engine decides which rules match a record, which alarms fire, and why the others do not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from functools import partial
from time import thread_time
from typing import TYPE_CHECKING

from alarm_mw.engine.antiloop import is_marked
from alarm_mw.engine.flood_control.flood_control import FloodControl, Gate
from alarm_mw.engine.flood_control.limits import Limits, Rate
from alarm_mw.engine.flood_control.silences import Silence
from alarm_mw.engine.memory import Memory
from alarm_mw.engine.rules import CompiledRule, by_conditions, by_field
from alarm_mw.model.errors import RuleTimeout
from alarm_mw.model.measures import ExternalAlert, Ratio
from alarm_mw.model.types import FieldNames, Firing, Held, Reason, Record, Report, Rule, Verdict
from alarm_mw.patterns.fields import may_state_fields
from alarm_mw.patterns.prefilter import Prefilter
from alarm_mw.system.forks import held_off

if TYPE_CHECKING:  # few configurations need them
    from alarm_mw.engine.incidents.incidents import Incidents
    from alarm_mw.engine.routes import Router

#: A rule is switched off when its slow searches took this many seconds within `COST_WINDOW` seconds.
MAX_COST = 0.5
COST_WINDOW = 60.0

#: A search is slow if it takes this many seconds of processor time, or is cut off.
SLOW_SEARCH = 0.005

#: How many combinations of rules are cached with the alarms that they fire.
_PLANS = 1000


#: What matching rules lead to: their alarms, why there are none, and the rules.
Plan = tuple[tuple[str, ...], Reason | None, list[CompiledRule]]


class Engine:
    """The rules in order, with flood control for their alarms. Pure: `now` comes in, values come out.

    `limits` are the limits of single alarms; `left_out` are optional alarms that are not available. `memory` is the
    memory of an earlier engine: its holds, counts and thresholds continue. `now` is always in seconds of a clock that
    never goes back. `clock` returns the processor time of this thread in seconds.
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
        names: FieldNames | None = None,
        router: Router | None = None,
    ) -> None:
        self._rules = tuple(rules)
        self._names = tuple(compiled.name for compiled in rules)
        self._by_conditions = by_conditions(rules)
        self._by_field = by_field(rules)
        #: Finds the rules that may match a line.
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
        self.plans: dict[tuple[tuple[int, ...], str], Plan | None] = {}
        self._clock = clock
        #: Which fields of a line in JSON or logfmt become facts of the record that fires; None: only for rules on them.
        self._field_names = names
        #: Adds alarms to rules by the facts of a record; None where no route depends on them.
        self._router = router
        #: Of the rules that have some; None where there are none.
        self.incidents: Incidents | None = None
        #: By the memory's clock.
        self._now = self.memory.offset

    def evaluate(
        self,
        record: Record,
        now: float,
        candidates: Sequence[int] | None = None,
        certain: Container[int] = (),
    ) -> Verdict:
        """Apply the rules to a record.

        `candidates` are the indexes of the rules that passed the prefilter, in ascending order; `certain` are those of
        them that are known to match. Without candidates the record is prefiltered here.
        """
        if is_marked(record.message):
            return Verdict(skipped=Reason.ALARM_MARK)
        self._now = now + self.memory.offset
        if candidates is None:
            candidates = self._candidates(record)
        matched, cut_off, excluded = self._scan(record, candidates, certain)
        if excluded is not None:
            excluded.matches += 1
        if not matched:
            skipped = Reason.EXCLUDED if excluded is not None else Reason.RULE_TIMEOUT if cut_off else None
            return Verdict(skipped=skipped, cut_off=cut_off)
        return self._decide(matched, self._understood(record, matched), now + self.memory.offset, cut_off)

    def matching(self, record: Record) -> list[CompiledRule]:
        """Return the rules that match a record, with the alarms of their routes. Nothing is fired or counted."""
        matched, _, _ = self._scan(record, self._candidates(record), ())
        router = self._router
        if router is None:
            return matched
        understood = self._understood(record, matched)
        return [router.routed(each, understood) for each in matched]

    def _understood(self, record: Record, matched: Iterable[CompiledRule]) -> Record:
        """Return a record with the facts that its line states in JSON or logfmt."""
        if not may_state_fields(record.message):
            return record
        names = self._field_names or next((each.rule.names for each in matched if each.is_conditional), None)
        return record if names is None else _understood(record, names)

    def fire(self, alarm: str, record: Record, now: float) -> Verdict:
        """Fire an alarm directly, without a rule. Flood control applies."""
        if alarm not in self._alarms:
            return Verdict(skipped=Reason.UNKNOWN_ALARM)
        return self._decide([], record, now + self.memory.offset, (), alarm)

    def report(self, report: Report) -> Verdict:
        """Take in what a monitor says of its incidents."""
        found = None if self.incidents is None else self.incidents.report(report)
        if found is None:  # another configuration has taken effect
            return Verdict(skipped=Reason.UNJUDGED)
        return Verdict(tuple(found.firings), tuple(found.held), is_resolve=True)

    def beat(self, record: Record) -> Verdict:
        """Take a heartbeat in."""
        found = None if self.incidents is None else self.incidents.beat(record)
        if found is None:
            return Verdict(skipped=Reason.UNKNOWN_HEARTBEAT)
        return Verdict(tuple(found.firings), tuple(found.held), is_resolve=True)

    def alert(self, alert: ExternalAlert, record: Record) -> Verdict:
        """Take an alert of another program in."""
        found = None if self.incidents is None else self.incidents.alert(alert, record)
        if found is None:
            return Verdict(skipped=Reason.UNKNOWN_ALERT)
        return Verdict(tuple(found.firings), tuple(found.held), is_resolve=True)

    def is_switched_off(self, index: int) -> bool:
        """Return whether a rule is switched off because its regexp took too long too often."""
        spent, _ = self.memory.costs.get(self._names[index], (0.0, 0.0))
        return round(spent, 6) >= MAX_COST

    def switched_off(self) -> list[Rule]:
        """Return the rules that are switched off."""
        return [compiled.rule for index, compiled in enumerate(self._rules) if self.is_switched_off(index)]

    def rule(self, index: int) -> Rule:
        """Return the rule at `index`."""
        return self._rules[index].rule

    def forget_others(self) -> None:
        """Forget what an earlier engine remembered about alarms and rules that this engine does not have."""
        self.memory.keep_only(self._alarms, frozenset(self._names))

    def admit(self, alarm: str, rule: str, labels: Mapping[str, str], now: float) -> tuple[Reason, float | None] | None:
        """Ask flood control whether a message about an incident of a rule, with these labels, may go to `alarm`.

        Returns None, and counts the message, if it may; otherwise the reason and the seconds until it ends.
        """
        return self._flood_control.admit(alarm, rule, labels, now + self.memory.offset)

    def count_undelivered(self, waiting: Mapping[str, int], now: float) -> None:
        """Count firings that earlier processes did not deliver, by alarm, as sent now."""
        self._flood_control.count_undelivered(waiting, now + self.memory.offset)

    # Digests

    def due(self) -> float | None:
        """Return when `tick` has something to do, or None."""
        due = self.memory.held_back.due()
        return None if due is None else due - self.memory.offset

    def tick(self, now: float, time: float, *, at_end: bool = False) -> list[Firing]:
        """Return the digests that are due, which report what was held back; `time` is in seconds since the epoch.

        With `at_end`, return digests that are due later as well, because nothing remembers them after the end.
        """
        due = self.due()
        if due is None or (due > now and not at_end):
            return []
        self.memory.is_changed = True
        return list(self._flood_control.tick(now + self.memory.offset, time, at_end=at_end))

    # Silences

    def put_silence(self, wanted: Silence, now: float) -> Silence:
        """Create or update a silence (`Silences.put`). Its times are in seconds of the clock of `now`."""
        silence = self.memory.silences.put(wanted.shifted(self.memory.offset), now + self.memory.offset)
        self._look_at_digests(now)
        return silence.shifted(-self.memory.offset)

    def expire_silence(self, name: str, now: float) -> Silence:
        """End a silence; raise `UnknownSilenceError` where none of this id is pending or active."""
        silence = self.memory.silences.expire(name, now + self.memory.offset)
        self._look_at_digests(now)
        return silence.shifted(-self.memory.offset)

    def take_silence(self, other: Silence, now: float) -> None:
        """Take over a silence of another machine (`Silences.take`). Raises `ValueError` with a sentence for people."""
        if self.memory.silences.take(other.shifted(self.memory.offset), now + self.memory.offset):
            self._look_at_digests(now)

    def _look_at_digests(self, now: float) -> None:
        self.memory.held_back.look_at(Reason.SILENCED, now + self.memory.offset)
        self.memory.is_changed = True

    def silences(self) -> list[Silence]:
        """Return the silences, also those that expired in the last days. From any thread."""
        return [silence.shifted(-self.memory.offset) for silence in self.memory.silences]

    def silenced_by(self, labels: Mapping[str, str], now: float) -> list[Silence]:
        """Return the silences that hold back a message with these labels. From any thread."""
        found = self.memory.silences.holding(labels, now + self.memory.offset)
        return [silence.shifted(-self.memory.offset) for silence in found]

    # Floods

    def gate(self, rules: tuple[int, ...], source: str, now: float) -> tuple[Gate, Verdict] | None:
        """Return the common verdict on all printed lines that match exactly these rules, or None if there is none.

        It is what `evaluate` would return for each line until this or another method changes the memory. It applies to
        lines without the mark of alarm code, and only to ``Gate.message`` if that is not None.
        """
        now += self.memory.offset
        plan = self._plan(rules, source)
        if plan is None or self.memory.echoes.expects_prints(now):
            return None
        if self.incidents is not None and self.incidents.marking.has_inhibitions:
            return None
        alarms, skipped, _ = plan
        gate = self._flood_control.gate(alarms, now)
        return None if gate is None else (gate, Verdict((), gate.held, alarms, skipped))

    def confirmed_rules(self, rules: tuple[int, ...], certain: Container[int], line: bytes) -> tuple[int, ...] | None:
        """Return which of the candidate rules match a printed line, or None if finding out takes too long.

        For a rule on requests each line is evaluated by itself, because the regexp alone does not decide.
        """
        if any(self._rules[rule].rule.request is not None for rule in rules):
            return None
        try:
            return tuple([rule for rule in rules if rule in certain or self._finds(rule, line)])
        except RuleTimeout:
            return None

    def _finds(self, index: int, line: bytes) -> bool:
        return not self.is_switched_off(index) and self._timed(index, partial(self._rules[index].matches_line, line))

    def hold(self, gate: Gate, first: Record, last: bytes, n: int, now: float) -> None:
        """Record that a gate decided `n` lines, from `first` to `last`."""
        self.memory.is_changed = True
        self._flood_control.hold(gate, first, last, n, now + self.memory.offset)

    def count(self, rules: tuple[int, ...], source: str, n: int) -> None:
        """Count `n` lines, which match exactly these rules and were decided by a gate, as matches of the rules."""
        plan = self._plan(rules, source)
        for compiled in () if plan is None else plan[2]:
            compiled.matches += n

    def matches(self) -> list[tuple[Rule, int]]:
        """Return the rules, and how many records and lines each has matched, without echoes. From any thread."""
        return [(compiled.rule, compiled.matches) for compiled in self._rules]

    def _plan(self, rules: tuple[int, ...], source: str) -> Plan | None:
        """Return what matching rules lead to; None where some have a count, or incidents."""
        key = (rules, source)
        if key not in self.plans:
            if len(self.plans) >= _PLANS:
                self.plans.clear()
            matched, _, excluded = self._scan(Record(b"", source, 0.0, ""), rules, rules)
            counts = any(each.rule.count > 1 or each.rule.keeps_state for each in matched)
            router = self._router
            is_open = counts or (router is not None and any(router.depends_on_records(each.rule) for each in matched))
            skipped = Reason.EXCLUDED if excluded is not None and not matched else None
            counted = matched if excluded is None else [*matched, excluded]
            self.plans[key] = None if is_open else (_alarms(matched), skipped, counted)
        return self.plans[key]

    # One record

    def _scan(
        self, record: Record, candidates: Sequence[int], certain: Container[int]
    ) -> tuple[list[CompiledRule], tuple[int, ...], CompiledRule | None]:
        """Return the rules that match and fire, the rules that were cut off, and the rule that excluded the rest."""
        matched: list[CompiledRule] = []
        cut_off: list[int] = []
        lines = _lines(record.message)
        for index in candidates:
            compiled = self._rules[index]
            if index not in certain:
                if compiled.is_conditional and not compiled.meets_conditions(record):
                    continue
                if compiled.rule.request is not None and not self._judge(
                    index, partial(compiled.fits, record), cut_off
                ):
                    continue
                if not self._matches(index, record.message, lines, cut_off):
                    continue
            if compiled.rule.excludes:
                return matched, tuple(cut_off), compiled
            matched.append(compiled)
        return matched, tuple(cut_off), None

    def _candidates(self, record: Record) -> Sequence[int]:
        """Return the rules that may match: those that the prefilter finds, those on this request and on its fields."""
        found = self.prefilter.candidates(record.message)
        if not record.held and not self._by_field:
            return found
        of_request = (index for key in record.held for index in self._by_conditions.get(key, ()))
        of_fields = (index for key in ("", *record.fields) for index in self._by_field.get(key, ()))
        return sorted({*found, *of_request, *of_fields})

    def _matches(self, index: int, message: bytes, lines: Sequence[bytes], cut_off: list[int]) -> bool:
        compiled = self._rules[index]
        return self._judge(
            index, lambda: any(map(compiled.search, (message,) if compiled.rule.multiline else lines)), cut_off
        )

    def _judge(self, index: int, verdict: Callable[[], bool], cut_off: list[int]) -> bool:
        """Return a rule's verdict; False if it is switched off or is cut off at its time limit."""
        if self.is_switched_off(index):
            return False
        try:
            return self._timed(index, verdict)
        except RuleTimeout:
            cut_off.append(index)
            return False

    def _timed(self, index: int, verdict: Callable[[], bool]) -> bool:
        """Return a rule's verdict, and record its cost if it was slow."""
        began = self._clock()
        try:
            found = verdict()
        except RuleTimeout:
            from alarm_mw.patterns.bounded_pattern import RULE_TIMEOUT  # noqa: PLC0415  # loaded by then

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
        """Fire or hold back the alarms of the matching rules, or those that are fired directly."""
        self.memory.is_changed = True
        found = matched
        if self._router is not None and not direct:
            matched = [self._router.routed(each, record) for each in matched]
        alarms = direct or _alarms(matched)
        echoes = {alarm for alarm in alarms if self.memory.echoes.is_echo(alarm, record, now)}
        for compiled in found:
            # Incidents do not count an echo either.
            compiled.matches += echoes.isdisjoint(compiled.rule.alarms)
        firings: list[Firing] = []
        held: list[Held] = []
        stateless, is_resolve = alarms, False
        has_inhibitions = self.incidents is not None and self.incidents.marking.has_inhibitions
        if self.incidents is not None and not direct:
            counted = {each.rule.counts_for for each in matched}
            matched, of_incidents, is_resolve = self._split(matched, record, now)
            if of_incidents:
                firings, held, news = self._follow(of_incidents, counted, record, echoes)
                matched += news
            stateless = _alarms(matched)
        firing = dict[str, CompiledRule | None].fromkeys(direct) | self._firing_rules(matched, echoes, now)
        for alarm in stateless:
            if alarm in echoes:  # the recipient already knows
                decision: Firing | Held = Held(alarm, Reason.ECHO)
            elif alarm not in firing:
                decision = Held(alarm, Reason.BELOW_THRESHOLD)
            elif has_inhibitions and self._is_inhibited(firing[alarm]):
                decision = self._flood_control.hold_back(alarm, record, Reason.INHIBITED)
            else:
                decision = self._flood_control.decide(alarm, record, now, firing[alarm])
            if isinstance(decision, Firing):
                firings.append(decision)
            else:
                held.append(decision)
        return Verdict(tuple(firings), tuple(held), tuple(alarms), None, cut_off, is_resolve)

    def _is_inhibited(self, compiled: CompiledRule | None) -> bool:
        """Return whether an incident inhibits a message of a rule without incidents, or of none."""
        assert self.incidents is not None
        rule = Rule("", ()) if compiled is None else compiled.rule
        return self.incidents.marking.inhibits(rule.name, dict(rule.labels))

    def _split(
        self, matched: Sequence[CompiledRule], record: Record, now: float
    ) -> tuple[list[CompiledRule], list[CompiledRule], bool]:
        """Return the rules without and with incidents, and whether one of them ends some.

        A line that also matches the rule itself ends nothing, and neither does an echo.
        """
        opened = {each.rule.name for each in matched if each.rule.incident is not None}
        plain: list[CompiledRule] = []
        of_incidents: list[CompiledRule] = []
        is_resolve = False
        for each in matched:
            if name := each.rule.resolves or each.rule.counts_for:
                is_resolve = True
                what = "resolve" if each.rule.resolves else "of"
                if name not in opened and not self.memory.echoes.is_echo(f"{name}\0{what}", record, now):
                    of_incidents.append(each)
            else:
                (of_incidents if each.rule.keeps_state else plain).append(each)
        return plain, of_incidents, is_resolve

    def _follow(
        self,
        matched: Sequence[CompiledRule],
        counted: Container[str],
        record: Record,
        echoes: Container[str],
    ) -> tuple[list[Firing], list[Held], list[CompiledRule]]:
        """Apply a record to the incidents of the rules that it matches; return as well those that fire without any.

        `counted` are the rules with a ratio of which the record is a part.
        """
        incidents = self.incidents
        assert incidents is not None
        firings, held, news = list[Firing](), list[Held](), list[CompiledRule]()
        lines = _lines(record.message)
        has_seen = any(each.rule.measure is None and not each.rule.counts_for for each in matched)
        is_new = not has_seen or incidents.is_new(record)
        for compiled in matched:
            rule = compiled.rule
            searched = (record.message,) if rule.multiline else lines
            is_echo = any(alarm in echoes for alarm in rule.alarms)
            if rule.measure is None and not rule.counts_for and not is_new:
                held += [Held(alarm, Reason.DUPLICATE) for alarm in rule.alarms]
            elif rule.resolves:
                firings += incidents.resolve(compiled, searched, record)
            elif is_echo:
                held += [Held(alarm, Reason.ECHO) for alarm in rule.alarms]
            elif isinstance(rule.measure, Ratio) and rule.name not in counted:
                held += [Held(alarm, Reason.BELOW_THRESHOLD) for alarm in rule.alarms]
            else:
                is_measured = rule.measure is not None or rule.counts_for
                found = (incidents.measure if is_measured else incidents.match)(compiled, searched, record)
                firings += found.firings
                held += found.held
                news += [compiled] if found.is_news else []
        return firings, held, news

    def _firing_rules(self, matched: Sequence[CompiledRule], echoes: set[str], now: float) -> dict[str, CompiledRule]:
        """Return the alarms that fire, each with the first rule that fires it."""
        firing: dict[str, CompiledRule] = {}
        for compiled in matched:
            rule = compiled.rule
            if rule.count > 1 and not (echoes.isdisjoint(rule.alarms) and self._counts_up(compiled, now)):
                continue
            for alarm in rule.alarms:
                if alarm not in firing:
                    firing[alarm] = compiled
        return firing

    def _counts_up(self, compiled: CompiledRule, now: float) -> bool:
        return self.memory.thresholds.reached(compiled.name, compiled.rule.count, compiled.rule.within, now)


def _understood(record: Record, names: FieldNames) -> Record:
    with held_off():
        from alarm_mw.patterns.fields.facts import understood  # noqa: PLC0415  # few lines are in JSON or logfmt

    return understood(record, names)


def _alarms(rules: Sequence[CompiledRule]) -> tuple[str, ...]:
    """Return the alarms of rules in order, each once."""
    return tuple(dict.fromkeys(alarm for compiled in rules for alarm in compiled.rule.alarms))


def _lines(message: bytes) -> tuple[bytes, ...]:
    """Return the lines with their newlines. Only LF ends a line; an empty message is one empty line."""
    if message.find(b"\n", 0, -1) < 0:
        return (message,)
    lines = tuple(line + b"\n" for line in message.removesuffix(b"\n").split(b"\n"))
    return lines if message.endswith(b"\n") else (*lines[:-1], lines[-1][:-1])
