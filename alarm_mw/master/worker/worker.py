"""The worker thread: takes batches, applies the rules, writes firings and the engine's memory into the outbox."""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from alarm_mw import signals
from alarm_mw.delivery.outbox.entries import Taken
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.engine.engine import Engine
from alarm_mw.engine.memory import Memory
from alarm_mw.master.runtime.threads import start_thread
from alarm_mw.master.worker.batch import Batch
from alarm_mw.master.worker.evaluator import Evaluated, Evaluator
from alarm_mw.master.worker.metrics import Metrics
from alarm_mw.model.types import Firing, Reason

if TYPE_CHECKING:  # few configurations have incidents
    from alarm_mw.master.worker.incident_keeper import IncidentKeeper

log = logging.getLogger(__name__)

#: Of the worker's time, so much may go into writing a large memory with every firing; at least every second it is
#: written in any case.
SHARE = 0.05
LONGEST = 1.0


class MemoryWriter:
    """Makes the bytes that an outbox takes with firings and counts; for the worker's thread."""

    def __init__(self, memory: Memory, *, is_durable: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._memory = memory
        self._is_durable = is_durable
        self._clock = clock
        self._next = 0.0

    def due(self) -> bytes | None:
        """Return the memory as bytes, where it has to be written with the transaction that begins now."""
        begin = self._clock()
        if not self.is_unwritten or begin < self._next:
            return None
        saved = self._memory.dumps(begin, time.time())
        end = self._clock()
        self._next = end + min((end - begin) / SHARE, LONGEST)
        return saved

    @property
    def is_unwritten(self) -> bool:
        """Whether the memory has changed since it was written, and will be asked for after a restart."""
        return self._is_durable and self._memory.is_changed

    def hurry(self) -> None:
        """Let the next `due` not wait: it is the last."""
        self._next = 0.0

    def failed(self) -> None:
        """Note that what was returned last could not be written."""
        self._memory.is_changed = True
        self._next = 0.0


def read_memory(outbox: Outbox) -> Memory:
    """Return what the last engine remembered, or a new memory where that is unreadable, which is logged."""
    saved = outbox.memory()
    if saved is None:
        return Memory()
    try:
        return Memory.loads(saved, time.monotonic(), time.time())
    except ValueError as error:
        log.error("what was held back before the start is forgotten: %s", error)
        return Memory()


#: How many batches are put into one transaction at most.
MAX_BATCHES = 256

#: Seconds after which counts without firings are written down.
FLUSH_EVERY = 1.0

#: How often, and at what distance in seconds, a transaction is tried before its firings are counted as lost.
WRITE_ATTEMPTS = 10
WRITE_PAUSE = 0.2

#: Seconds that printed lines wait for the record that they may be echoes of: the alarm then says what the record does.
ECHO_WAIT = 0.1

#: Why lines and records were not evaluated. Such counts are written at once, for nothing else reports these lines.
UNEVALUATED = frozenset({Reason.UNJUDGED, Reason.QUEUE_FULL, Reason.RULE_TIMEOUT})
_LOSSES = frozenset(f"skipped:{reason}" for reason in UNEVALUATED)

NOTHING = Taken([], 0)


class Worker:
    """Owns the thread that runs the engine. `submit` may be called from anywhere, signal handlers included."""

    def __init__(
        self,
        engine: Engine,
        outbox: Outbox,
        offer: Callable[[Taken], None],
        metrics: Metrics | None = None,
        on_loss: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        #: Writes the incidents of engines down; None as long as none has had any.
        self.incidents: IncidentKeeper | None = None
        self._outbox = outbox
        #: Given what the outbox has taken.
        self._offer = offer
        #: Called with the number of lost firings when the outbox can be written again.
        self._on_loss = on_loss
        self._lost = 0
        #: The application's metrics.
        self.metrics = metrics or Metrics()
        self._inbox: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        #: Whether some process makes records, of which printed lines may be echoes. From any thread.
        self.expects_records: Callable[[], bool] = lambda: False
        #: Printed lines that wait for such records, and until when.
        self._possible_echoes: deque[tuple[float, Batch]] = deque()
        #: What takes the engine's place before the next batch.
        self._next_engine: Engine | None = None
        #: Its holder may use the engine: the thread, or a reader in `hold_back`.
        self._turn = threading.Lock()
        #: When the thread wakes up by itself.
        self._wakes_at: float | None = None
        self._thread: threading.Thread | None = None
        self._has_finished = False
        #: Since when the ledger has counts that are not written down.
        self._unwritten_since = self._since_when_away()
        self._evaluator = Evaluator(engine, is_replaceable=outbox.has_file)
        #: Whether it is evaluating records or lines at this moment. From any thread.
        self.is_evaluating = False
        self._memory = MemoryWriter(engine.memory, is_durable=outbox.has_file)
        self._looping: set[str] = set()
        #: To be called when the counts that were booked are written down.
        self._unwritten: list[Callable[[], object]] = []

    def start(self) -> None:
        """Start the thread."""
        self._engine.forget_others()
        self._evaluator.log_switched_off()
        self._thread = start_thread("worker", self._run)

    def submit(self, batch: Batch) -> None:
        """Give it a batch; returns at once."""
        self._inbox.put(batch)

    def hold_back(self, batch: Batch) -> bool:
        """Evaluate at once, in the reader's thread, a batch of lines that are all held back.

        Returns False, having done nothing, where they are not, or where another batch was first. Never waits. The
        output stands still while a batch is evaluated, and a change of threads takes longer than that: at one hit in
        10,000 lines, written 64 KB at a time, this doubles the throughput (11.6 million lines per second instead of
        5.8) and saves a quarter of the processor's time.
        """
        if not self._inbox.empty() or signals.held_back.receivers or not self._turn.acquire(blocking=False):
            return False
        try:
            with self._outbox.still(timeout=0):
                return self._has_held_back(batch, time.monotonic())
        except TimeoutError:
            return False
        finally:
            self._turn.release()

    def _has_held_back(self, batch: Batch, now: float) -> bool:
        if self._has_finished or self._next_engine is not None or batch.lines is None:
            return False
        evaluated = self._evaluator.evaluate_held_back(batch.lines, now)
        if evaluated is None:
            return False
        self._book([batch], evaluated, now)
        self._announce_held(evaluated)
        due = self._due()
        if due is not None and (self._wakes_at is None or due < self._wakes_at):
            self.submit(Batch())
        return True

    def exchange(self, engine: Engine, timeout: float) -> bool:
        """Put another engine in the place of the present one, between two batches.

        Each record is judged by the one or by the other. Returns whether that was done within `timeout` seconds; else
        it is done as soon as the present batch is.
        """
        done = threading.Event()
        self._next_engine = engine
        self.submit(Batch(done=done.set))
        return done.wait(timeout)

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
        if self._engine.incidents is not None:
            with self._turn:
                self._process([], firings=self._adopt_incidents())
        while running:
            batches, running = self._next_batches()
            engine = self._next_engine
            batches = self._behind_records(batches, time.monotonic(), wait=running and engine is None)
            with self._turn:
                self._process(batches, engine=engine)
            for batch in batches:
                if batch.done is not None:
                    batch.done()
        if self._memory.is_unwritten or (not self._outbox.is_durable and self._engine.due() is not None):
            self._memory.hurry()
            with self._turn:
                self._process([], at_end=True)
        self._has_finished = True

    def _next_batches(self) -> tuple[list[Batch], bool]:
        """Wait for a batch, take what else is there; the second is False at the end."""
        batches: list[Batch] = []
        try:
            batch = self._inbox.get(timeout=self._patience())
        except queue.Empty:
            return batches, True
        while batch is not None:
            batches.append(batch)
            if len(batches) == MAX_BATCHES or self._inbox.empty():
                break
            batch = self._inbox.get_nowait()
        return batches, batch is not None

    def _behind_records(self, batches: Sequence[Batch], now: float, *, wait: bool) -> list[Batch]:
        """Return the batches to process now: printed lines that may be echoes wait, and records pass them.

        Other lines do not pass them, and neither does what somebody asks and waits for.
        """
        ready: list[Batch] = []
        waiting = self._possible_echoes
        for batch in batches:
            if batch.may_be_echo:
                waiting.append((now + ECHO_WAIT, batch))
                continue
            is_asked = batch.done is not None and not (batch.items or batch.counts or batch.metrics or batch.positions)
            if batch.lines is not None or is_asked:
                ready += [each for _, each in waiting]
                waiting.clear()
            ready.append(batch)
        while waiting and (not wait or waiting[0][0] <= now):
            ready.append(waiting.popleft()[1])
        return ready

    def _patience(self) -> float | None:
        with self._turn:
            self._wakes_at = self._due()
            return None if self._wakes_at is None else max(self._wakes_at - time.monotonic(), 0.0)

    def _due(self) -> float | None:
        """Return when counts must be written, a digest is due or lines have waited; None when there is neither."""
        echoes = self._possible_echoes[0][0] if self._possible_echoes else None
        flush = None if self._unwritten_since is None else self._unwritten_since + FLUSH_EVERY
        incidents = None if self.incidents is None else self.incidents.due()
        return min((due for due in (flush, echoes, self._engine.due(), incidents) if due is not None), default=None)

    def _is_flush_due(self, now: float) -> bool:
        return self._unwritten_since is not None and self._unwritten_since + FLUSH_EVERY <= now

    def _has_moved(self, batches: Sequence[Batch]) -> bool:
        """Return whether followed lines have changed the memory: it is written with their positions, and not later."""
        return self._memory.is_unwritten and any(batch.positions for batch in batches)

    def _adopt_incidents(self) -> list[Firing]:
        """Go on with the incidents of the engine before this one; return the messages that follow."""
        assert self.incidents is not None
        return [] if self._engine.incidents is None else self.incidents.adopt(self._engine.incidents)

    def _process(
        self,
        batches: Sequence[Batch],
        *,
        at_end: bool = False,
        firings: Sequence[Firing] = (),
        engine: Engine | None = None,
    ) -> None:
        """Work batches off; `firings` come before what they bring.

        `engine` takes the present one's place, but for lines that have waited for their records: a former master may
        have judged these by the present one already.
        """
        before = list(firings)
        each = bool(signals.held_back.receivers)
        early: list[Evaluated] = []
        if engine is not None:
            now = time.monotonic()
            for batch in batches:
                early += self._evaluator.evaluate(batch, now, each=each) if batch.may_be_echo else ()
            if self._next_engine is engine:
                self._next_engine = None
            self._engine = engine
            self._engine.forget_others()
            self._evaluator = Evaluator(self._engine, is_replaceable=self._outbox.has_file)
            self._evaluator.log_switched_off()
            if self._engine.incidents is not None:
                before += self._adopt_incidents()
        now = time.monotonic()
        is_silence = self._silence(batches, now)
        if self.incidents is not None:
            before += self._of_incidents(batches)
        digests = self._engine.tick(now, time.time(), at_end=at_end and not self._outbox.is_durable)
        later = batches if engine is None else [batch for batch in batches if not batch.may_be_echo]
        self.is_evaluating = True
        evaluated = [*early, *(found for batch in later for found in self._evaluator.evaluate(batch, now, each=each))]
        self.is_evaluating = False
        self._report_evaluated(batches)
        firings = [*before, *digests, *(firing for found in evaluated for firing in found.verdict.firings)]
        booked: dict[str, bool] = {}
        with self._outbox.still():
            # A reader of the books sees them before or after this, and balanced.
            for batch in batches:
                self.metrics.change(batch.metrics)
            self._book(batches, evaluated, now)
            is_urgent = self.incidents is not None and self.incidents.collect()
            is_urgent = is_urgent or is_silence or self._has_moved(batches)
            is_due = firings or at_end or is_urgent or self._is_flush_due(now)
            new = self._take(firings, booked) if is_due else NOTHING
        if new is None:
            # At the end, who closes the outbox writes the counts.
            new = self._take_later(firings, booked) if firings or not at_end else NOTHING
        if new.entries:
            self._offer(new)
        for entry in new.entries:
            signals.send(signals.fired, entry.firing.alarm, firing=entry.firing)
        self._announce_held(evaluated)

    def _report_evaluated(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            if batch.evaluated is not None:
                batch.evaluated()

    def _of_incidents(self, batches: Sequence[Batch]) -> list[Firing]:
        """Return the messages of incidents that are due, or that people have caused."""
        assert self.incidents is not None
        firings = self.incidents.tick()
        if self._engine.incidents is not None:
            for batch in batches:
                if batch.order is not None:
                    firings += batch.order(self._engine.incidents)
            if any(batch.silence is not None for batch in batches):
                firings += self._engine.incidents.look_at_held()
        return firings

    def _silence(self, batches: Sequence[Batch], now: float) -> bool:
        """Change silences, and return whether any were: that must outlive the process from now on."""
        changes = [batch.silence for batch in batches if batch.silence is not None]
        for change in changes:
            change(self._engine, now)
            self._memory.hurry()
        return bool(changes)

    def _book(self, batches: Sequence[Batch], evaluated: Sequence[Evaluated], now: float) -> None:
        for batch in batches:
            self._book_counts(batch)
        for found in evaluated:
            self._book_record(found)
        if self._unwritten_since is None:
            self._unwritten_since = now

    def _book_counts(self, batch: Batch) -> None:
        for source, columns in batch.counts.items():
            self._outbox.ledger.book("source", source, columns)
            if any(columns.get(column) for column in _LOSSES):
                self._unwritten_since = 0.0
        if batch.positions:
            self._outbox.positions().update(batch.positions)
        if batch.written is not None:
            self._outbox.ledger.note_collection()
            self._unwritten.append(batch.written)

    def _book_record(self, found: Evaluated) -> None:
        record, verdict, n = found
        ledger = self._outbox.ledger
        if verdict.matched or verdict.is_resolve:
            column = "matched"
        else:
            column = f"skipped:{verdict.skipped}" if verdict.skipped else "screened_out"
        ledger.book("source", record.source, {"lines": n, column: n})
        if verdict.skipped in UNEVALUATED:
            self._unwritten_since = 0.0
        for held in verdict.held:
            ledger.book("alarm", held.alarm, {"matched": n, f"held_back:{held.reason}": n})

    def _book_firing(self, firing: Firing, *, is_new: bool) -> None:
        column = "digests" if firing.is_digest else "matched"
        if firing.trigger is not None and firing.trigger.incident is not None:
            column = firing.trigger.incident.column
        outcome = "fired" if is_new else f"held_back:{Reason.DUPLICATE}"
        self._outbox.ledger.book("alarm", firing.alarm, {column: 1, outcome: 1})

    def _take(self, firings: Sequence[Firing], booked: dict[str, bool]) -> Taken | None:
        """Write firings down and return the new ones, None where that failed; `booked` is what the ledger knows."""

        def book(firing: Firing, is_new: bool) -> None:  # noqa: FBT001  # the outbox's callback
            if firing.id not in booked:
                booked[firing.id] = is_new
                self._book_firing(firing, is_new=is_new)

        try:
            also = None if self.incidents is None else self.incidents.write
            new = self._outbox.take(firings, book, self._memory.due(), also)
        except sqlite3.Error as error:
            log.error("the outbox cannot be written: %s", error)
            self._memory.failed()
            return None
        self._unwritten_since = self._since_when_away()
        if self.incidents is not None:
            self.incidents.written()
        written, self._unwritten = self._unwritten, []
        for call in written:
            call()
        if self._lost:
            lost, self._lost = self._lost, 0
            self._on_loss(lost)
        return new

    def _since_when_away(self) -> float | None:
        """Return the present time while memory replaces the file, which is tried again though nothing comes."""
        return time.monotonic() if self._outbox.has_file and not self._outbox.is_durable else None

    def _take_later(self, firings: Sequence[Firing], booked: dict[str, bool]) -> Taken:
        for _ in range(WRITE_ATTEMPTS - 1):
            time.sleep(WRITE_PAUSE)
            if (new := self._take(firings, booked)) is not None:
                return new
        self._lose(firings, booked)
        return NOTHING

    def _lose(self, firings: Sequence[Firing], booked: Mapping[str, bool]) -> None:
        for firing in firings:
            if firing.id not in booked:
                self._book_firing(firing, is_new=True)
            if booked.get(firing.id, True):
                self._lost += 1
                self._outbox.ledger.alarm(firing.alarm, "dropped", reason=Reason.OUTBOX_FAILED)
        if self.incidents is not None:
            self.incidents.refuse(firing for firing in firings if booked.get(firing.id, True))
            self.incidents.accept()

    def _announce_held(self, evaluated: Sequence[Evaluated]) -> None:
        for record, verdict, _ in evaluated:
            for held in verdict.held:
                if held.reason is Reason.LOOP and held.alarm not in self._looping:
                    self._looping.add(held.alarm)
                    log.warning("alarm %s: its own text keeps coming back, and is held back", held.alarm)
                signals.send(signals.held_back, held.alarm, record=record, reason=held.reason)
