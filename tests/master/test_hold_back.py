"""Lines that are all held back are worked off at once, without the worker's thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from waiting import LIMIT

from alarm_mw import signals
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.engine.engine import Engine
from alarm_mw.engine.flood_control.limits import Limits
from alarm_mw.engine.ledger import imbalances
from alarm_mw.engine.rules import compile_rule
from alarm_mw.master.worker import evaluator
from alarm_mw.master.worker.batch import Batch, Lines
from alarm_mw.master.worker.worker import Worker
from alarm_mw.model.types import Reason, Record, Rule
from alarm_mw.patterns.prefilter import Hit, Prefilter
from alarm_mw.transports.own_requests import OwnRequests


def record_of(hit: Hit) -> Record:
    return Record(hit.line, "stdout", 1.0, f"k{hit.start}")


class Stage:
    """A worker whose alarm has fired, and may not again for `seconds`."""

    def __init__(self, path: Path, seconds: str) -> None:
        self.outbox = Outbox(path)
        rules = [compile_rule(Rule("ERR", ("a",))), compile_rule(Rule(r"BAD (?!but)(?:\w+)+$", ("a",)))]
        self.prefilter = Prefilter(rules)
        limits = {"a": Limits(rate=f"1/{seconds}")}
        self.engine = Engine(rules, self.prefilter, ["a"], alarm_freq=0.0, alarm_msg_size=8192, limits=limits)
        self.has_taken = threading.Semaphore(0)
        self.worker = Worker(self.engine, self.outbox, lambda _: self.has_taken.release())
        self.worker.start()
        self.worker.submit(self.batch(b"ERR 1\n"))
        assert self.has_taken.acquire(timeout=LIMIT)

    def batch(self, *lines: bytes) -> Batch:
        hits = self.prefilter.scan(b"".join(lines))
        return Batch(
            (),
            {"stdout": {"lines": len(lines) - len(hits), "screened_out": len(lines) - len(hits)}},
            lines=Lines("stdout", hits, record_of, self.prefilter.rule_set),
        )

    def hold_back(self, *lines: bytes) -> None:
        """Have lines held back, as soon as the thread is at rest."""
        deadline = time.monotonic() + LIMIT
        while not self.worker.hold_back(self.batch(*lines)):
            assert time.monotonic() < deadline, "they were not held back"

    def close(self) -> None:
        assert self.worker.stop(LIMIT)
        self.outbox.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    opened = Stage(tmp_path / "outbox.db", "1h")
    yield opened
    opened.close()


def test_what_is_held_back_is_counted_at_once(stage: Stage) -> None:
    """When the call returns, the ledger knows every line, and balances."""
    stage.hold_back(b"fine\n", b"ERR 2\n", b"ERR 3\n")
    books = stage.outbox.ledger.books()
    assert books["alarms"]["a"]["held_back"] == {Reason.RATE: 2}
    assert (books["sources"]["stdout"]["lines"], books["sources"]["stdout"]["matched"]) == (4, 3)
    assert imbalances(books, stage.outbox.count_waiting()) == []


def test_a_digest_of_it_comes_without_another_line(tmp_path: Path) -> None:
    """The thread, which was asleep, wakes up when there is something to tell."""
    opened = Stage(tmp_path / "outbox.db", "1s")
    opened.hold_back(b"ERR 2\n")
    assert opened.has_taken.acquire(timeout=LIMIT)
    assert opened.outbox.ledger.books()["alarms"]["a"]["digests"] == 1
    opened.close()


@contextmanager
def somebody_listens(_stage: Stage) -> Iterator[None]:
    """Listen to what is held back, each line by itself."""
    with signals.held_back.connected_to(lambda _alarm, **_facts: None):
        yield


@contextmanager
def disk_is_slow(stage: Stage) -> Iterator[None]:
    """Hold a transaction open in another thread."""
    begun, end = threading.Event(), threading.Event()

    def write() -> None:
        with stage.outbox.still():
            begun.set()
            end.wait(LIMIT)

    thread = threading.Thread(target=write)
    thread.start()
    assert begun.wait(LIMIT)
    yield
    end.set()
    thread.join(LIMIT)


@contextmanager
def worker_is_busy(stage: Stage) -> Iterator[None]:
    """Have its thread in the middle of a batch."""
    begun, end = threading.Event(), threading.Event()

    def slow_record(hit: Hit) -> Record:
        begun.set()
        end.wait(LIMIT)
        return record_of(hit)

    lines = stage.batch(b"ERR slow\n").lines
    assert lines
    stage.worker.submit(Batch(lines=Lines(lines.stream, lines.hits, slow_record, lines.rule_set)))
    assert begun.wait(LIMIT)
    yield
    end.set()


@contextmanager
def others_wait(stage: Stage) -> Iterator[None]:
    """Submit a batch before."""
    with worker_is_busy(stage):
        stage.worker.submit(Batch())
        yield


@contextmanager
def other_rules_come(stage: Stage) -> Iterator[None]:
    """Have an engine wait to take over."""
    with worker_is_busy(stage):
        assert not stage.worker.exchange(stage.engine, 0.0)
        yield


@contextmanager
def own_request_is_expected(_stage: Stage) -> Iterator[None]:
    """Expect a line of the server's about a request that an alarm has made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluator, "own_requests", expected := OwnRequests())
        expected.add("POST", "/hook")
        yield


Hindrance = Callable[[Stage], AbstractContextManager[None]]


@pytest.mark.parametrize(
    "hindrance",
    [somebody_listens, disk_is_slow, worker_is_busy, others_wait, other_rules_come, own_request_is_expected],
)
def test_nothing_is_done_and_nobody_waits_where_it_cannot_be(stage: Stage, hindrance: Hindrance) -> None:
    """Then the batch is left to the thread, as if nobody had asked."""
    before = stage.outbox.ledger.books()
    with hindrance(stage):
        assert not stage.worker.hold_back(stage.batch(b"ERR 2\n"))
        assert stage.outbox.ledger.books() == before
    stage.hold_back(b"ERR 2\n")


@pytest.mark.parametrize("line", [b"BAD x\n", b"[uwsgi-alarm] ERR\n"], ids=["regexp", "mark"])
def test_a_line_that_has_to_be_looked_at_is_left_to_the_thread(stage: Stage, line: bytes) -> None:
    """Neither a regexp nor a mark is judged in the reader's thread, and the lines before it have not been counted."""
    assert not stage.worker.hold_back(stage.batch(b"ERR 2\n", line))
    assert stage.outbox.ledger.books()["alarms"]["a"]["held_back"] == {}


def test_lines_of_another_screen_and_no_lines_are_left_to_the_thread(stage: Stage) -> None:
    """The numbers of other rules say nothing here."""
    lines = stage.batch(b"ERR 2\n").lines
    assert lines
    other = Lines(lines.stream, lines.hits, lines.record, object())
    assert not stage.worker.hold_back(Batch(lines=other))
    assert not stage.worker.hold_back(Batch())


def test_after_its_end_a_worker_holds_nothing_back(tmp_path: Path) -> None:
    """What comes then is left where it was."""
    opened = Stage(tmp_path / "outbox.db", "1h")
    assert opened.worker.stop(LIMIT)
    assert not opened.worker.hold_back(opened.batch(b"ERR 2\n"))
    opened.outbox.close()
