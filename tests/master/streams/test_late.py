"""Lines that were passed on before the worker was done with them, and a master that is killed meanwhile."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from waiting import LIMIT, wait_until

from alarm_mw.engine.rules import compile_rule
from alarm_mw.master.streams import intake as streams
from alarm_mw.master.streams.intake import StreamIntake
from alarm_mw.master.streams.late import MOST_TRIES, UNNEEDED, WAITING, LateChunks
from alarm_mw.master.streams.lines import MAX_LINE, Chunk
from alarm_mw.master.worker.batch import Batch
from alarm_mw.model.types import Record, Rule
from alarm_mw.patterns.prefilter import Hit, Hits, Prefilter

PREFILTER = Prefilter([compile_rule(Rule("ALARM", ("a",)))])


class Successors:
    """Masters that follow each other; what they leave behind is held as by the supervisor."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._held: int | None = None
        self.batches: list[Batch] = []
        self.expects_records = lambda: False
        self.is_own: Callable[[bytes], bool] = lambda _: False
        #: Whether the worker is done with a batch at once.
        self.finishes = False
        self.start()

    def start(self) -> None:
        """Let another master take over."""
        inherited = None if self._held is None else self._dup(self._held)
        self.late = LateChunks(inherited, self._hold)
        self.batches.clear()
        self.intake = StreamIntake("run", self, self.is_own, late={"stdout": self.late})

    is_evaluating = False

    def submit(self, batch: Batch) -> None:
        """Take a batch as the worker of the present master."""
        self.batches.append(batch)
        if self.finishes:
            finish(batch)

    def hold_back(self, _: Batch) -> bool:
        """Evaluate nothing in the reader's thread."""
        return False

    def _hold(self, descriptor: int) -> None:
        self._held = self._dup(descriptor)
        self._stack.callback(os.close, descriptor)

    def _dup(self, descriptor: int) -> int:
        copy = os.dup(descriptor)
        self._stack.callback(os.close, copy)
        return copy

    @property
    def size(self) -> int:
        """How long the file is that they leave to each other."""
        assert self._held is not None
        return os.fstat(self._held).st_size


@pytest.fixture
def masters(monkeypatch: pytest.MonkeyPatch) -> Iterator[Successors]:
    monkeypatch.setattr(streams, "PATIENCE", 0.0)
    with contextlib.ExitStack() as stack:
        yield Successors(stack)


def chunk_of(number: int, *more: bytes) -> Chunk:
    lines = [b"ALARM %d\n" % number, *more]
    hits = tuple(Hit(100 * number + n, line, (0,)) for n, line in enumerate(lines))
    return Chunk("stdout", len(hits) + 1, hits, lost=1)


def records(batches: Sequence[Batch]) -> list[Record]:
    return [batch.lines.record(hit) for batch in batches if batch.lines is not None for hit in batch.lines.hits]


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def file_size_limited(most: int) -> Iterator[None]:
    """Let this process write no file beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, former)


def finish(batch: Batch) -> None:
    assert batch.done is not None
    batch.done()


def test_the_next_master_judges_what_was_passed_on(masters: Successors) -> None:
    """What the worker was not done with has the same keys in the next master, and the same counts."""
    for number in range(3):
        masters.intake(chunk_of(number))
    finish(masters.batches[0])
    before = records(masters.batches[1:])
    counts = [batch.counts for batch in masters.batches[1:]]
    masters.start()
    masters.intake.resume(PREFILTER)
    again = records(masters.batches)
    assert [(record.key, record.message) for record in again] == [(one.key, one.message) for one in before]
    assert [batch.counts for batch in masters.batches] == counts


def test_what_is_done_is_forgotten(masters: Successors) -> None:
    """What the worker is done with is not left to the next master, be it that a former one has left it."""
    masters.intake(chunk_of(0))
    masters.start()
    masters.intake.resume(PREFILTER)
    masters.intake(chunk_of(1))
    assert masters.late
    for batch in masters.batches:
        finish(batch)
    assert not masters.late
    masters.start()
    masters.intake.resume(PREFILTER)
    assert masters.batches == []


def test_what_is_done_before_it_is_kept_is_forgotten(masters: Successors, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker may be quicker than the thread that keeps a chunk for the next master."""
    monkeypatch.setattr(masters, "expects_records", lambda: True)
    monkeypatch.setattr(masters, "submit", finish)
    masters.intake(chunk_of(0))
    assert not masters.late
    monkeypatch.undo()
    masters.start()
    masters.intake.resume(PREFILTER)
    assert masters.batches == []


def test_each_chunk_of_a_former_master_is_forgotten_when_it_is_done(masters: Successors) -> None:
    """A worker that is done with the first of them before it sees the second one leaves the second one to be judged."""
    masters.intake(chunk_of(0))
    masters.intake(chunk_of(1))
    masters.start()
    (_, _, first), *_ = masters.late.inherited()
    first()
    masters.start()
    masters.intake.resume(PREFILTER)
    assert [record.message for record in records(masters.batches)] == [b"ALARM 1\n"]


def test_the_rules_of_the_next_master_hold(masters: Successors) -> None:
    """A line that no rule of the next master may match is counted as screened out."""
    masters.intake(chunk_of(0, b"WARNING\n"))
    masters.start()
    masters.intake.resume(PREFILTER)
    (batch,) = masters.batches
    assert [record.message for record in records([batch])] == [b"ALARM 0\n"]
    assert (batch.counts["stdout"]["lines"], batch.counts["stdout"]["screened_out"]) == (2, 2)


def test_a_long_line_keeps_its_length(masters: Successors) -> None:
    """The length of a line of which only the first part is judged is known to the next master."""
    hits = (Hit(0, b"ALARM".ljust(MAX_LINE), (0,)),)
    masters.intake(Chunk("stdout", 1, hits, sizes={0: MAX_LINE + 5}))
    masters.start()
    masters.intake.resume(PREFILTER)
    (record,) = records(masters.batches)
    assert record.size == MAX_LINE + 5


def test_lines_that_end_each_master_are_given_up(masters: Successors, caplog: pytest.LogCaptureFixture) -> None:
    """After so many masters that were not done with them, the lines are counted as unjudged, and the log says so."""
    masters.intake(chunk_of(0))
    for _ in range(MOST_TRIES):
        masters.start()
        masters.intake.resume(PREFILTER)
        assert len(records(masters.batches)) == 1
    masters.start()
    masters.intake.resume(PREFILTER)
    (batch,) = masters.batches
    assert records([batch]) == []
    assert batch.counts["stdout"]["skipped:unjudged"] == 1
    assert "1 lines pass unjudged" in caplog.text


def test_masters_that_end_after_they_have_evaluated_lines_do_not_count(masters: Successors) -> None:
    """However often masters are killed while they wait for the disk, lines that they can evaluate are not given up."""
    masters.intake(chunk_of(0))
    masters.intake(chunk_of(1))
    for _ in range(2 * MOST_TRIES):
        masters.start()
        masters.intake.resume(PREFILTER)
        first, last = masters.batches
        assert (len(records([first])), len(records([last]))) == (1, 1)
        assert first.evaluated is None
        assert last.evaluated is not None
        last.evaluated()


def test_the_number_of_lines_that_nobody_evaluates_outlives_the_master(masters: Successors) -> None:
    """A master that is killed before it has written it down leaves it to the next one."""
    masters.intake(Chunk("stdout", 3, unjudged=2))
    counts = masters.batches[0].counts
    assert counts["stdout"]["skipped:unjudged"] == 2
    masters.start()
    masters.intake.resume(PREFILTER)
    (batch,) = masters.batches
    assert batch.counts == counts
    finish(batch)
    masters.start()
    masters.intake.resume(PREFILTER)
    assert masters.batches == []


def test_the_number_of_lines_without_room_outlives_the_master(masters: Successors) -> None:
    """What found the queue full is counted by the next master, which knows that nobody evaluated it."""
    for number in range(WAITING + 1):
        masters.intake(chunk_of(number))
    assert masters.batches[-1].counts["stdout"]["skipped:queue_full"] == 1
    masters.start()
    masters.intake.resume(PREFILTER)
    counts = [batch.counts["stdout"] for batch in masters.batches]
    assert [each["skipped:unjudged"] for each in counts] == [0] * WAITING + [1]
    assert len(records(masters.batches)) == WAITING


def test_output_waits_for_the_number_where_no_file_can_be_had(masters: Successors) -> None:
    """Without a descriptor to spare, the number is written down before the output passes."""
    with no_descriptors():
        masters.finishes = True
        masters.intake(Chunk("stdout", 2, unjudged=2))
    assert not masters.late


def test_lines_of_alarm_code_are_not_judged_by_the_next_master_either(masters: Successors) -> None:
    """A kill makes no alarm of what our own logging has printed."""
    masters.is_own = lambda line: line.startswith(b"ALARM of")
    masters.start()
    masters.intake(chunk_of(0, b"ALARM of alarm code\n"))
    counts = masters.batches[0].counts
    masters.start()
    masters.intake.resume(PREFILTER)
    (batch,) = masters.batches
    assert [record.message for record in records([batch])] == [b"ALARM 0\n"]
    assert batch.counts == counts


class BrokenPrefilter(Prefilter):
    """A prefilter that fails."""

    def scan(self, data: bytes, base: int = 0) -> Hits:
        raise RuntimeError("no")


def test_a_prefilter_that_fails_keeps_no_master_from_its_start(masters: Successors) -> None:
    """Lines on which the prefilter fails are counted as unjudged."""
    masters.intake(chunk_of(0))
    masters.start()
    masters.intake.resume(BrokenPrefilter([]))
    (batch,) = masters.batches
    assert batch.counts["stdout"]["skipped:unjudged"] == 1


def test_the_memory_is_bounded(masters: Successors) -> None:
    """A worker that is always late, and never done with everything, does not let the memory grow."""
    filler = b"ALARM".ljust(50_000) + b"\n"
    for number in range(100):
        masters.intake(chunk_of(number, filler))
        finish(masters.batches[-2] if number else Batch(done=int))
    assert masters.size < UNNEEDED + 4 * len(filler)
    masters.start()
    masters.intake.resume(PREFILTER)
    assert [record.message for record in records(masters.batches)] == [b"ALARM 99\n", filler]


def test_output_passes_where_nothing_can_be_kept(masters: Successors, caplog: pytest.LogCaptureFixture) -> None:
    """Without a descriptor for the memory, output passes and is judged as ever; the log says what a kill would cost."""
    with no_descriptors():
        masters.intake(chunk_of(0))
    assert len(records(masters.batches)) == 1
    assert "lines are lost should this process be killed now" in caplog.text


def test_lines_that_nothing_can_keep_do_not_wait_for_records(
    masters: Successors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a descriptor for the memory, their output waits in its place, where the next master finds it."""
    monkeypatch.setattr(masters, "expects_records", lambda: True)
    with no_descriptors():
        masters.intake(chunk_of(0))
    masters.intake(chunk_of(1))
    assert [batch.may_be_echo for batch in masters.batches] == [False, True]


def test_output_waits_where_a_write_fails(masters: Successors, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk that would have passed at once waits for the worker, should the memory take no more."""
    monkeypatch.setattr(streams, "PATIENCE", LIMIT)
    monkeypatch.setattr(masters, "expects_records", lambda: True)
    masters.intake(chunk_of(0))
    with file_size_limited(masters.size):
        writer = threading.Thread(target=masters.intake, args=(chunk_of(1),))
        writer.start()
        wait_until(lambda: len(masters.batches) == 2, LIMIT)
        assert writer.is_alive()
        finish(masters.batches[1])
        writer.join(LIMIT)
    assert not writer.is_alive()
    finish(masters.batches[0])
    assert not masters.late


def test_a_file_that_nobody_holds_keeps_nothing() -> None:
    """A memory that could not be handed to the supervisor is made again for the next lines."""
    given: list[int] = []

    def hand_over(descriptor: int) -> None:
        given.append(descriptor)
        if len(given) == 1:
            raise OSError(24, "Too many open files")

    late = LateChunks(None, hand_over)
    assert not late.keeps()
    assert late.keeps()
    os.close(given[-1])
    assert LateChunks().keeps()
