"""The worker thread: takes batches, applies the rules, writes firings into the outbox, wakes the dispatcher."""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from alarm_mw import signals
from alarm_mw.delivery.outbox import Outbox
from alarm_mw.engine.engine import Engine
from alarm_mw.master.batch import Batch, Item
from alarm_mw.master.metrics import Metrics
from alarm_mw.master.threads import start_thread
from alarm_mw.transports.own_requests import own_requests
from alarm_mw.types import Firing, Reason, Record, Verdict

log = logging.getLogger(__name__)

#: How many batches are put into one transaction at most.
MAX_BATCHES = 256

#: Seconds after which counts without firings are written down.
FLUSH_EVERY = 1.0

#: How often, and at what distance in seconds, a transaction is tried before its firings are counted as lost.
WRITE_ATTEMPTS = 10
WRITE_PAUSE = 0.2


#: How many unknown alarms are named in the log, each once.
MAX_UNKNOWN = 100


class Worker:
    """Owns the thread that runs the engine. `submit` may be called from anywhere, signal handlers included."""

    def __init__(
        self,
        engine: Engine,
        outbox: Outbox,
        wake: Callable[[Iterable[str]], None],
        metrics: Metrics | None = None,
    ) -> None:
        self._engine = engine
        self._outbox = outbox
        self._wake = wake
        #: The application's metrics.
        self.metrics = metrics or Metrics()
        self._inbox: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._has_finished = False
        #: Since when the ledger has counts that are not written down.
        self._unwritten_since: float | None = None
        self._unknown: set[str] = set()
        self._looping: set[str] = set()

    def start(self) -> None:
        """Start the thread."""
        self._thread = start_thread("worker", self._run)

    def submit(self, batch: Batch) -> None:
        """Give it a batch; returns at once."""
        self._inbox.put(batch)

    def backlog(self) -> int:
        """Return about how many batches wait."""
        return self._inbox.qsize()

    def stop(self, timeout: float) -> bool:
        """Work off what was submitted, for at most `timeout` seconds; return whether it was."""
        self._inbox.put(None)
        if self._thread is not None:
            self._thread.join(timeout)
        return self._has_finished

    def _run(self) -> None:
        running = True
        while running:
            batches, running = self._next_batches()
            self._process(batches)
            for batch in batches:
                if batch.done is not None:
                    batch.done.set()
        self._has_finished = True

    def _next_batches(self) -> tuple[list[Batch], bool]:
        """Wait for a batch, take what else is there; the second is False at the end."""
        batches: list[Batch] = []
        try:
            batch = self._inbox.get(timeout=self._patience())
            while batch is not None and len(batches) < MAX_BATCHES:
                batches.append(batch)
                batch = self._inbox.get_nowait()
        except queue.Empty:
            return batches, True
        if batch is not None:
            batches.append(batch)
        return batches, batch is not None

    def _patience(self) -> float | None:
        """Return the seconds until counts must be written down; None when there are none."""
        if self._unwritten_since is None:
            return None
        return max(self._unwritten_since + FLUSH_EVERY - time.monotonic(), 0.0)

    def _process(self, batches: Sequence[Batch]) -> None:
        now = time.monotonic()
        verdicts = [(item.record, self._judge(item, now)) for batch in batches for item in batch.items]
        firings = [firing for _, verdict in verdicts for firing in verdict.firings]
        booked: dict[str, bool] = {}
        with self._outbox.still():
            # Whoever looks at the books meanwhile sees them before or after, and balanced.
            for batch in batches:
                self._book_counts(batch)
                self.metrics.change(batch.metrics)
            for record, verdict in verdicts:
                self._book_record(record, verdict)
            if self._unwritten_since is None:
                self._unwritten_since = now
            new = self._take(firings, booked) if firings or self._patience() == 0.0 else []
        if new is None:
            new = self._take_later(firings, booked)
        self._announce_fired(new)
        self._announce_held(verdicts)

    def _judge(self, item: Item, now: float) -> Verdict:
        try:
            return self._verdict(item, now)
        except Exception:  # one line must not end all alarms
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
        if verdict.skipped is Reason.UNKNOWN_ALARM and len(self._unknown) < MAX_UNKNOWN:
            if alarm not in self._unknown:
                log.warning("alarm() was called for %r, which is not configured", alarm)
            self._unknown.add(alarm)
        return verdict

    def _warn_cut_off(self, index: int) -> None:
        rule = self._engine.rule(index)
        end = "; the rule is switched off" if self._engine.is_switched_off(index) else ""
        log.warning("%s: the regexp %r was cut off at its time limit%s", rule.where, rule.pattern, end)

    def _book_counts(self, batch: Batch) -> None:
        for source, columns in batch.counts.items():
            for column, n in columns.items():
                self._outbox.ledger.source(source, column, n)

    def _book_record(self, record: Record, verdict: Verdict) -> None:
        ledger = self._outbox.ledger
        ledger.source(record.source, "lines")
        if verdict.matched:
            ledger.source(record.source, "matched")
        elif verdict.skipped:
            ledger.source(record.source, "skipped", reason=verdict.skipped)
        else:
            ledger.source(record.source, "screened_out")
        for held in verdict.held:
            ledger.alarm(held.alarm, "matched")
            ledger.alarm(held.alarm, "held_back", reason=held.reason)

    def _book_firing(self, firing: Firing, *, is_new: bool) -> None:
        ledger = self._outbox.ledger
        ledger.alarm(firing.alarm, "matched")
        if is_new:
            ledger.alarm(firing.alarm, "fired")
        else:
            ledger.alarm(firing.alarm, "held_back", reason=Reason.DUPLICATE)

    def _take(self, firings: Sequence[Firing], booked: dict[str, bool]) -> list[Firing] | None:
        """Write firings down and return the new ones, None where that failed; `booked` is what the ledger knows."""

        def book(firing: Firing, is_new: bool) -> None:  # noqa: FBT001  # the outbox's callback
            if firing.id not in booked:
                booked[firing.id] = is_new
                self._book_firing(firing, is_new=is_new)

        try:
            new = self._outbox.take(firings, book)
        except sqlite3.Error as error:
            log.error("the outbox cannot be written: %s", error)
            return None
        self._unwritten_since = None
        return new

    def _take_later(self, firings: Sequence[Firing], booked: dict[str, bool]) -> list[Firing]:
        for _ in range(WRITE_ATTEMPTS - 1):
            time.sleep(WRITE_PAUSE)
            if (new := self._take(firings, booked)) is not None:
                return new
        self._lose(firings, booked)
        return []

    def _lose(self, firings: Sequence[Firing], booked: Mapping[str, bool]) -> None:
        for firing in firings:
            if firing.id not in booked:
                self._book_firing(firing, is_new=True)
            if booked.get(firing.id, True):
                self._outbox.ledger.alarm(firing.alarm, "dropped", reason=Reason.OUTBOX_FAILED)

    def _announce_fired(self, firings: Sequence[Firing]) -> None:
        if firings:
            self._wake({firing.alarm for firing in firings})
        for firing in firings:
            signals.send(signals.fired, firing.alarm, firing=firing)

    def _announce_held(self, verdicts: Sequence[tuple[Record, Verdict]]) -> None:
        for record, verdict in verdicts:
            for held in verdict.held:
                if held.reason is Reason.LOOP and held.alarm not in self._looping:
                    self._looping.add(held.alarm)
                    log.warning("alarm %s: its own text keeps coming back, and is held back", held.alarm)
                signals.send(signals.held_back, held.alarm, record=record, reason=held.reason)
