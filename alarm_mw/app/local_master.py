"""A master inside the application's own process: a worker thread and an event loop, an outbox in memory."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
import uuid
from collections.abc import Callable

from alarm_mw import actions
from alarm_mw.app.capture.stdio import OwnPrints, StdioCapture
from alarm_mw.app.capture.tee import Tees
from alarm_mw.config.processes import refuse_mules
from alarm_mw.config.settings import Settings
from alarm_mw.engine.request_rules import Decision
from alarm_mw.master.monitors import Monitors
from alarm_mw.master.runtime.runtime import FindAction, Runtime
from alarm_mw.master.runtime.threads import start_thread
from alarm_mw.master.streams.intake import StreamIntake
from alarm_mw.master.streams.lines import Chunk, longest_line
from alarm_mw.master.streams.reader import StreamReader
from alarm_mw.master.streams.state import StreamState, state_size
from alarm_mw.master.worker.batch import Batch, Item
from alarm_mw.model.errors import NotRunningError
from alarm_mw.model.origin import in_alarm_code
from alarm_mw.model.types import Reason, Record
from alarm_mw.patterns.record_prefilter import RecordPrefilter
from alarm_mw.system.descriptors import has_no_writer, unread, write_all, write_at_once
from alarm_mw.transports.client import Tally
from alarm_mw.transports.records import RecordMaker
from alarm_mw.transports.wire import MetricChange

log = logging.getLogger(__name__)

#: How many records may wait for the worker thread; what comes beyond is dropped and counted.
CAPACITY = 20_000

#: Seconds that the worker thread is waited for when somebody asks for metrics.
METRICS_TIMEOUT = 2.0

#: Seconds to wait for a reader whose stream has ended.
JOIN_TIMEOUT = 2.0

#: Seconds between two looks at what a reader has left.
_TICK = 0.002

#: Runtimes that forked children have inherited. To let them be collected there would undo, in the selectors that
#: parent and child share, what the parent has set up.
_inherited: list[Runtime] = []


class LocalClient:
    """A `Client` that is its own master."""

    def __init__(
        self,
        settings: Settings,
        *,
        find_action: FindAction = actions.find,
        wall: Callable[[], float] = time.time,
    ) -> None:
        refuse_mules(settings)
        if settings.web.listen:
            log.error(
                "no page is served at [web] listen = %r: that takes a master process; start this program by "
                "`alarm-mw run -- COMMAND`, or call alarm_mw.supervise()",
                settings.web.listen,
            )
        if settings.fleet is not None:
            log.warning(
                "this process is in no fleet, in spite of its table [fleet]: that takes a master process; start this "
                "program by `alarm-mw run -- COMMAND`, or call alarm_mw.supervise()"
            )
        self._stderr = 2
        self._alarm_msg_size = settings.alarm_msg_size
        self.tally = Tally()
        self._own_prints = OwnPrints()
        self._tees = Tees()
        self._prints = RecordMaker()
        self._is_over = False
        self._capture: StdioCapture | None = None
        self._readers: list[tuple[StreamReader, threading.Thread]] = []
        self._decision = Decision(rule.request for rule in settings.rules if rule.request is not None)
        self.runtime = Runtime(
            settings,
            write_log=self._write_log,
            write_log_at_once=lambda data: write_at_once(self._stderr, data),
            find_action=find_action,
            wall=wall,
        )
        self.runtime.start()
        self._monitors = Monitors(settings.monitors, self.runtime, write_log=self._write_log)
        self._monitors.start()

    def prefilter(self) -> RecordPrefilter:
        """Return the prefilter for records: it finds those that no rule can match."""
        return self.runtime.prefilter.records

    def decision(self) -> Decision:
        """Return which requests concern a rule."""
        return self._decision

    def submit(self, record: Record, alarm: str | None = None, *, may_be_echo: bool = False) -> bool:
        """Give a record to the worker thread."""
        if self._is_over:
            return False
        if self.runtime.worker.backlog() >= CAPACITY:
            self.tally.add(record.source, f"skipped:{Reason.QUEUE_FULL}")
            return False
        self.runtime.worker.submit(Batch((Item(record, alarm),), self.tally.take(), may_be_echo=may_be_echo))
        return True

    def count(self, source: str, outcome: str, n: int = 1) -> None:
        """Count lines; the worker learns of them with the next record."""
        self.tally.add(source, outcome, n)

    def change_metric(self, change: MetricChange) -> bool:
        """Give a change to the worker thread."""
        if self.runtime.worker.backlog() >= CAPACITY:
            return False
        self.runtime.worker.submit(Batch(metrics=(change,)))
        return True

    def metrics(self) -> dict[str, int]:
        """Return the metrics, with every change that was made before."""
        self.settle(METRICS_TIMEOUT)
        return self.runtime.worker.metrics.values()

    def settle(self, timeout: float) -> bool:
        """Wait until the worker is done with what was submitted before; return whether it was in `timeout` seconds."""
        done = threading.Event()
        self.runtime.worker.submit(Batch(done=done.set))
        return done.wait(timeout)

    def prints_are_read(self) -> bool:
        """Return whether `capture` has been called."""
        return self._capture is not None

    def shutdown(self, timeout: float) -> bool:
        """Give the output back, deliver what was submitted and printed, stop the threads."""
        self._tees.stop()
        self._is_over = True
        if self._capture is not None:
            self._end_capture(self._capture, timeout)
        with contextlib.suppress(TimeoutError):  # the event loop has failed; `stop` reports it
            self._monitors.stop()
        self.runtime.worker.submit(Batch(counts=self.tally.take()))
        delivered = self.runtime.stop(timeout)
        self._own_prints.stop()
        if self._capture is not None:
            # Not before the last action has written to its log.
            self._capture.close()
        return delivered

    def forget(self) -> None:
        """Keep the parent's runtime as it is, and out of reach."""
        self._is_over = True
        _inherited.append(self.runtime)

    def capture_stdio(self) -> None:
        """Read what this process prints."""
        capture = StdioCapture()
        capture.start()
        self._capture = capture
        self._stderr = capture.saved_stderr
        self._own_prints.start()
        self._tees.start(self._see_print)
        intake = StreamIntake(
            uuid.uuid4().hex[:12],
            self.runtime.worker,
            self._own_prints.takes,
        )
        longest = longest_line(self._alarm_msg_size)
        for name, copy in capture.copies.items():
            reader = StreamReader(
                name,
                copy,
                None,
                prefilter=self.runtime.prefilter,
                hand_over=functools.partial(self._hand_over, intake),
                state=StreamState(bytearray(state_size(longest))),
                longest=longest,
                on_end=capture.copy_ended,
            )
            self._readers.append((reader, start_thread(f"reader-{name}", reader.run)))

    def _hand_over(self, intake: StreamIntake, chunk: Chunk) -> None:
        """Let the output pass whatever becomes of the alarms: here no other master takes over."""
        try:
            intake(chunk)
        except Exception:
            log.exception("%s: %d lines pass unjudged", chunk.stream, chunk.lines)
            self.tally.add(chunk.stream, f"skipped:{Reason.UNJUDGED}", chunk.lines)

    def _see_print(self, stream: str, line: bytes) -> None:
        if self._is_over:
            return
        if in_alarm_code.get() or self._own_prints.takes(line):
            self.count(stream, f"skipped:{Reason.ALARM_ORIGIN}")
        else:
            may_be_echo = self.runtime.worker.expects_records()
            self.submit(self._prints.make(line, source=stream), may_be_echo=may_be_echo)

    def _end_capture(self, capture: StdioCapture, timeout: float) -> None:
        copies = [*capture.copies.values()]
        capture.stop(timeout)
        for copy, (reader, thread) in zip(copies, self._readers, strict=True):
            _let_read(copy, thread)
            # Where a child goes on printing, the copy has no end.
            reader.stop()
            thread.join(JOIN_TIMEOUT)
        self.tally.add("stdout", f"skipped:{Reason.QUEUE_FULL}", capture.dropped)

    def _write_log(self, data: bytes) -> None:
        write_all(self._stderr, data)


def _let_read(copy: int, thread: threading.Thread) -> None:
    """Wait until the reader of `copy` has what is in it; where nobody writes any more, until it has ended."""
    deadline = time.monotonic() + JOIN_TIMEOUT
    while thread.is_alive() and time.monotonic() < deadline and (unread(copy) or has_no_writer(copy)):
        thread.join(_TICK)


def capture(client: object, has_sources: Callable[[], bool]) -> None:
    """Begin to read what this process prints; `NotRunningError` where no configuration was given.

    `has_sources` says whether something in this process makes records, of which printed lines may be echoes.
    """
    if not isinstance(client, LocalClient):
        raise NotRunningError("capture_stdio() needs alarm_mw.init() before it")
    client.runtime.worker.expects_records = has_sources
    client.capture_stdio()
