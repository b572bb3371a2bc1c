"""Evaluates records and lines by the engine; each line of a flood costs next to nothing.

While nothing fires and everything that a line could raise is held back, its outcome is known before it is looked at
(`Engine.gate`): such lines are only counted, and of all of them two are made into records.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from alarm_mw.engine.antiloop import ALARM_MARK
from alarm_mw.engine.engine import Engine
from alarm_mw.engine.flood_control.flood_control import Gate
from alarm_mw.master.streams.lines import MAX_LINE
from alarm_mw.master.worker.batch import Batch, Item, Lines
from alarm_mw.model.measures import HEARTBEAT, ExternalAlert
from alarm_mw.model.types import Reason, Record, Verdict
from alarm_mw.patterns.prefilter import Hit
from alarm_mw.transports.own_requests import own_requests

log = logging.getLogger(__name__)

#: How many unknown alarms and heartbeats are named in the log, each once.
MAX_UNKNOWN = 100

#: How many requests of our own may be looked for in each line of a flood.
_MAX_OWN = 4


class Evaluated(NamedTuple):
    """The verdict on a record, and on `n` lines like it."""

    record: Record
    verdict: Verdict
    n: int = 1


class _Run:
    """Lines in a row that a gate decides."""

    __slots__ = ("first", "gate", "last", "message", "n", "verdict")

    def __init__(self, gate: Gate, verdict: Verdict) -> None:
        self.gate = gate
        self.verdict = verdict
        self.message = gate.message
        self.n = 0
        self.first: Hit | None = None
        self.last = b""


class Evaluator:
    """Asks an engine, in the worker's thread."""

    def __init__(self, engine: Engine, *, is_replaceable: bool = False) -> None:
        """Evaluate by `engine`; raise the system's errors (`OSError`) where another master can take over."""
        self._engine = engine
        self._is_replaceable = is_replaceable
        self._unknown: set[str] = set()

    def log_switched_off(self) -> None:
        """Name in the log the rules that are switched off already, by the engine before a restart perhaps."""
        for rule in self._engine.switched_off():
            log.warning("%s: the rule is switched off: its regexp %r took too long too often", rule.where, rule.pattern)

    def evaluate(self, batch: Batch, now: float, *, each: bool) -> Iterator[Evaluated]:
        """Yield the verdicts on everything in a batch, in order; with `each`, one for each line, for a listener."""
        for item in batch.items:
            yield Evaluated(item.record, self._evaluate(item, now))
        lines = batch.lines
        if lines is None:
            return
        if not self._is_current(lines):
            # Other rules have taken effect since the lines were prefiltered.
            for record in map(lines.record, lines.hits):
                yield Evaluated(record, self._evaluate(Item(record), now))
        elif each or len(lines.hits) == 1 or len(own := own_requests.expected()) > _MAX_OWN:
            for hit in lines.hits:
                record = lines.record(hit)
                yield Evaluated(record, self._evaluate(Item(record, None, hit.rules, hit.certain), now))
        else:
            yield from self._evaluate_together(lines, own, now)

    def evaluate_held_back(self, lines: Lines, now: float) -> list[Evaluated] | None:
        """Return the verdicts on lines that are all certain to be held back; None, and nothing is noted, for others.

        Takes some microseconds, and searches with no regexp. For `Worker.hold_back`.
        """
        if not self._is_current(lines) or own_requests.expected():
            return None
        runs, other = self._gather(iter(lines.hits), lines.stream, (), now, confirms=False)
        return list(self._finished(runs, lines, now)) if other is None else None

    def _is_current(self, lines: Lines) -> bool:
        """Return whether lines were prefiltered by the rules of this engine."""
        return lines.rule_set in (None, self._engine.prefilter.rule_set)

    # Records

    def _evaluate(self, item: Item, now: float) -> Verdict:
        try:
            if item.alarm is not None:
                return self._fire(item.alarm, item.record, now)
            if item.report is not None:
                return self._engine.report(item.report)
            if item.alert is not None or item.record.source == HEARTBEAT:
                return self._beat(item.record) if item.alert is None else self._alert(item.alert, item.record)
            if own_requests.takes(item.record):
                return Verdict(skipped=Reason.ALARM_ORIGIN)
            verdict = self._engine.evaluate(item.record, now, item.candidates, item.certain)
        except Exception as error:  # one line must not end all alarms
            if self._is_replaceable and isinstance(error, OSError):
                raise  # such as too many open files: the next master finds the record again
            log.exception("a record could not be evaluated")
            return Verdict(skipped=Reason.UNJUDGED)
        for index in verdict.cut_off:
            self._warn_cut_off(index)
        return verdict

    def _fire(self, alarm: str, record: Record, now: float) -> Verdict:
        verdict = self._engine.fire(alarm, record, now)
        if verdict.skipped is Reason.UNKNOWN_ALARM and self._is_news(alarm):
            log.warning("alarm() was called for %r, which is not configured", alarm)
        return verdict

    def _beat(self, record: Record) -> Verdict:
        verdict = self._engine.beat(record)
        name = record.fields.get(HEARTBEAT, "")
        if verdict.skipped is Reason.UNKNOWN_HEARTBEAT and self._is_news(f"heartbeat {name}"):
            log.warning("the heartbeat %r came, which no monitor 'heartbeat' of the configuration expects", name)
        return verdict

    def _alert(self, alert: ExternalAlert, record: Record) -> Verdict:
        verdict = self._engine.alert(alert, record)
        if verdict.skipped is Reason.UNKNOWN_ALERT and self._is_news(f"alert {alert.name}"):
            log.warning("the alert %r came, which no monitor 'alerts' of the configuration takes", alert.name)
        return verdict

    def _is_news(self, unknown: str) -> bool:
        """Return whether something unknown is to be named in the log, and remember that it was."""
        if unknown in self._unknown or len(self._unknown) >= MAX_UNKNOWN:
            return False
        self._unknown.add(unknown)
        return True

    def _warn_cut_off(self, index: int) -> None:
        rule = self._engine.rule(index)
        end = "; the rule is switched off" if self._engine.is_switched_off(index) else ""
        log.warning("%s: the regexp %r was cut off at its time limit%s", rule.where, rule.pattern, end)

    # Lines

    def _evaluate_together(self, lines: Lines, own: Sequence[bytes], now: float) -> Iterator[Evaluated]:
        """Yield one verdict for all lines in a row that have it in common; `own` are texts of our own requests."""
        hits = iter(lines.hits)
        while True:
            runs, other = self._gather(hits, lines.stream, own, now, confirms=True)
            yield from self._finished(runs, lines, now)
            if other is None:
                return
            record = lines.record(other)
            yield Evaluated(record, self._evaluate(Item(record, None, other.rules, other.certain), now))

    def _gather(
        self, hits: Iterator[Hit], stream: str, own: Sequence[bytes], now: float, *, confirms: bool
    ) -> tuple[dict[tuple[int, ...] | None, _Run | None], Hit | None]:
        """Take the next lines that gates decide, and return them with the first that none does."""
        runs: dict[tuple[int, ...] | None, _Run | None] = {}
        for hit in hits:
            _, line, found, certain = hit
            rules: tuple[int, ...] | None = found
            if certain != found:
                rules = self._confirmed_rules(hit) if confirms else None
            try:
                run = runs[rules]
            except KeyError:
                run = runs[rules] = None if rules is None else self._run(rules, stream, now)
            if (
                run is None
                or (run.message is not None and run.message != line)
                or line.startswith(ALARM_MARK)
                or (own and any(text in line for text in own))
            ):
                return runs, hit
            if not run.n:
                run.first = hit
            run.n += 1
            run.last = line
        return runs, None

    def _confirmed_rules(self, hit: Hit) -> tuple[int, ...] | None:
        """Return the rules that match; None where the line has to be evaluated by itself."""
        try:
            # One that was cut is no line yet, and one of several lines is searched line by line.
            if len(hit.line) >= MAX_LINE or hit.line.find(b"\n", 0, -1) >= 0:
                return None
            return self._engine.confirmed_rules(hit.rules, hit.certain, hit.line)
        except Exception:  # noqa: BLE001  # `_evaluate` meets it again, and logs it
            return None

    def _run(self, rules: tuple[int, ...], stream: str, now: float) -> _Run | None:
        found = self._engine.gate(rules, stream, now)
        return None if found is None else _Run(*found)

    def _finished(
        self, runs: dict[tuple[int, ...] | None, _Run | None], lines: Lines, now: float
    ) -> Iterator[Evaluated]:
        for rules, run in runs.items():
            if run is not None and rules is not None and run.first is not None:
                first = lines.record(run.first)
                self._engine.hold(run.gate, first, run.last, run.n, now)
                self._engine.count(rules, lines.stream, run.n)
                yield Evaluated(first, run.verdict, run.n)
