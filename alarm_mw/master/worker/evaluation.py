"""Puts records and lines to the engine; of a flood of lines, each costs next to nothing.

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
from alarm_mw.model.types import Reason, Record, Verdict
from alarm_mw.patterns.prefilter import Hit
from alarm_mw.transports.own_requests import own_requests

log = logging.getLogger(__name__)

#: How many unknown alarms are named in the log, each once.
MAX_UNKNOWN = 100

#: How many requests of our own may be looked for in each line of a flood.
_MAX_OWN = 4


class Judged(NamedTuple):
    """What the engine said of a record, and of so many like it."""

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


class Judge:
    """Asks an engine, in its thread."""

    def __init__(self, engine: Engine, *, is_replaceable: bool = False) -> None:
        """Judge by an engine; where another master can take our place, leave to it what the machine refuses us."""
        self._engine = engine
        self._is_replaceable = is_replaceable
        self._unknown: set[str] = set()

    def tell_switched_off(self) -> None:
        """Name in the log the rules that another engine, before a restart perhaps, has switched off."""
        for rule in self._engine.switched_off():
            log.warning("%s: the rule is switched off: its regexp %r took too long too often", rule.where, rule.pattern)

    def judge(self, batch: Batch, now: float, *, each: bool) -> Iterator[Judged]:
        """Yield what becomes of all that is in a batch, in order; `each` line by itself where somebody listens."""
        for item in batch.items:
            yield Judged(item.record, self._judge(item, now))
        if batch.lines is not None:
            yield from self._of_lines(batch.lines, now, each=each)

    # Lines

    def _of_lines(self, lines: Lines, now: float, *, each: bool) -> Iterator[Judged]:
        if not self._is_ours(lines):
            # Other rules have come into force since they were prefiltered.
            records = map(lines.record, lines.hits)
            return (Judged(record, self._judge(Item(record), now)) for record in records)
        return self._each_line(lines, now) if each or len(lines.hits) == 1 else self._lines(lines, now)

    def _each_line(self, lines: Lines, now: float) -> Iterator[Judged]:
        for hit in lines.hits:
            yield self._line(lines, hit, now)

    def _line(self, lines: Lines, hit: Hit, now: float) -> Judged:
        record = lines.record(hit)
        return Judged(record, self._judge(Item(record, None, hit.rules, hit.certain), now))

    def held_back(self, lines: Lines, now: float) -> list[Judged] | None:
        """Return what becomes of lines that are all certain to be held back; None, and nothing is noted, of others.

        Takes some microseconds, and asks no regexp.
        """
        if not self._is_ours(lines) or own_requests.expected():
            return None
        runs, other = self._gather(iter(lines.hits), lines.stream, (), now, settle=False)
        return list(self._finished(runs, lines, now)) if other is None else None

    def _is_ours(self, lines: Lines) -> bool:
        return lines.rule_set in (None, self._engine.prefilter.rule_set)

    def _lines(self, lines: Lines, now: float) -> Iterator[Judged]:
        own = own_requests.expected()
        if len(own) > _MAX_OWN:
            yield from self._each_line(lines, now)
            return
        hits = iter(lines.hits)
        while True:
            runs, other = self._gather(hits, lines.stream, own, now, settle=True)
            yield from self._finished(runs, lines, now)
            if other is None:
                return
            yield self._line(lines, other, now)

    def _gather(
        self, hits: Iterator[Hit], stream: str, own: Sequence[bytes], now: float, *, settle: bool
    ) -> tuple[dict[tuple[int, ...] | None, _Run | None], Hit | None]:
        """Take the next lines that gates decide, and return them with the first that none does."""
        runs: dict[tuple[int, ...] | None, _Run | None] = {}
        for hit in hits:
            _, line, found, certain = hit
            rules: tuple[int, ...] | None = found
            if certain != found:
                rules = self._settled(hit) if settle else None
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

    def _settled(self, hit: Hit) -> tuple[int, ...] | None:
        """Return the rules that match; None where the line has to be looked at by itself."""
        try:
            # One that was cut is no line yet.
            return self._engine.settled(hit.rules, hit.certain, hit.line) if len(hit.line) < MAX_LINE else None
        except Exception:  # noqa: BLE001  # `_judge` will meet it again, and say so
            return None

    def _run(self, rules: tuple[int, ...], stream: str, now: float) -> _Run | None:
        found = self._engine.gate(rules, stream, now)
        return None if found is None else _Run(*found)

    def _finished(self, runs: dict[tuple[int, ...] | None, _Run | None], lines: Lines, now: float) -> Iterator[Judged]:
        for run in runs.values():
            if run is not None and run.first is not None:
                first = lines.record(run.first)
                self._engine.hold(run.gate, first, run.last, run.n, now)
                yield Judged(first, run.verdict, run.n)

    # Records

    def _judge(self, item: Item, now: float) -> Verdict:
        try:
            return self._verdict(item, now)
        except Exception as error:  # one line must not end all alarms
            if self._is_replaceable and isinstance(error, OSError):
                raise  # such as too many open files: the next master finds the record again
            log.exception("a record could not be judged")
            return Verdict(skipped=Reason.UNJUDGED)

    def _verdict(self, item: Item, now: float) -> Verdict:
        if item.alarm is not None:
            return self._fire(item.alarm, item.record, now)
        if own_requests.takes(item.record):
            return Verdict(skipped=Reason.ALARM_ORIGIN)
        verdict = self._engine.evaluate(item.record, now, item.candidates, item.certain)
        for index in verdict.cut_off:
            self._warn_cut_off(index)
        return verdict

    def _fire(self, alarm: str, record: Record, now: float) -> Verdict:
        verdict = self._engine.fire(alarm, record, now)
        is_news = alarm not in self._unknown and len(self._unknown) < MAX_UNKNOWN
        if verdict.skipped is Reason.UNKNOWN_ALARM and is_news:
            self._unknown.add(alarm)
            log.warning("alarm() was called for %r, which is not configured", alarm)
        return verdict

    def _warn_cut_off(self, index: int) -> None:
        rule = self._engine.rule(index)
        end = "; the rule is switched off" if self._engine.is_switched_off(index) else ""
        log.warning("%s: the regexp %r was cut off at its time limit%s", rule.where, rule.pattern, end)
