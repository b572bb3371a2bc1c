"""From an output stream to the worker."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from alarm_mw.master.streams import intake as streams
from alarm_mw.master.streams.intake import StreamIntake
from alarm_mw.master.streams.late import WAITING
from alarm_mw.master.streams.lines import MAX_LINE, Chunk
from alarm_mw.master.worker.batch import Batch
from alarm_mw.patterns.prefilter import Hit


class Worker:
    """What an intake needs of a worker, given as functions."""

    def __init__(
        self,
        submit: Callable[[Batch], None],
        hold_back: Callable[[Batch], bool] = lambda _: False,
        is_evaluating: Callable[[], bool] = lambda: False,
        expects_records: Callable[[], bool] = lambda: False,
    ) -> None:
        self.submit = submit
        self.expects_records = expects_records
        self.hold_back = hold_back
        self._is_evaluating = is_evaluating

    @property
    def is_evaluating(self) -> bool:
        return self._is_evaluating()


def test_lines_of_alarm_code_are_counted_and_not_judged() -> None:
    """What our own logging printed is no line of the application's, and is in the ledger all the same."""
    batches: list[Batch] = []
    intake = StreamIntake("run", Worker(batches.append), lambda line: line.startswith(b"alarm"))
    chunk = Chunk("stdout", 3, (Hit(0, b"alarm a: failed\n", (0,)),))
    intake(chunk)
    (batch,) = batches
    assert batch.lines is None
    assert batch.counts["stdout"] == {
        "lines": 3,
        "screened_out": 2,
        "skipped:alarm_origin": 1,
        "skipped:unjudged": 0,
        "oversized": 0,
        "lost_bytes": 0,
    }


def test_a_line_that_was_cut_off_is_a_line() -> None:
    """The part of an overlong line that is judged ends as a line does, so that nothing is glued to it."""
    batches: list[Batch] = []

    def submit(batch: Batch) -> None:
        batches.append(batch)
        assert batch.done is not None
        batch.done()

    hits = (Hit(0, b"x" * MAX_LINE, (0,)), Hit(MAX_LINE + 5, b"y\n", (0,)))
    StreamIntake("run", Worker(submit))(Chunk("stdout", 1, hits, sizes={0: MAX_LINE + 5}))
    lines = batches[0].lines
    assert lines is not None
    long, short = map(lines.record, lines.hits)
    assert (long.message, long.size) == (b"x" * MAX_LINE + b"\n", MAX_LINE + 5)
    assert (short.message, short.size) == (b"y\n", 0)


def test_a_worker_that_does_not_keep_up_is_not_flooded(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk hangs, output passes, memory is bounded, and what nobody judged is counted."""
    monkeypatch.setattr(streams, "PATIENCE", 0.0)
    batches: list[Batch] = []
    intake = StreamIntake("run", Worker(batches.append))
    chunk = Chunk("stdout", 1, (Hit(0, b"ALARM\n", (0,)),))
    for _ in range(WAITING + 1):
        intake(chunk)
    assert batches[-1].lines is None
    assert (batches[-1].counts["stdout"]["lines"], batches[-1].counts["stdout"]["skipped:queue_full"]) == (1, 1)
    intake(Chunk("stderr", 1, chunk.hits))
    assert batches[-1].lines is not None
    assert batches[0].done is not None
    batches[0].done()
    intake(chunk)
    assert batches[-1].lines is not None


def test_what_is_held_back_at_once_is_not_submitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk that needs no thread waits for none; but it does not go before an earlier one of its stream."""
    monkeypatch.setattr(streams, "PATIENCE", 0.0)
    monkeypatch.setattr(streams, "FLOOD", math.inf)
    batches: list[Batch] = []
    held: list[Batch] = []
    answers = [True, False, True]

    def hold_back(batch: Batch) -> bool:
        held.append(batch)
        return answers.pop(0)

    intake = StreamIntake("run", Worker(batches.append, hold_back=hold_back))
    chunk = Chunk("stdout", 1, (Hit(0, b"ALARM\n", (0,)),))
    intake(chunk)
    assert (len(held), len(batches)) == (1, 0)
    intake(chunk)
    intake(chunk)
    assert (len(held), len(batches)) == (2, 2)
    for batch in batches:
        assert batch.done is not None
        batch.done()
    intake(chunk)
    assert (len(held), len(batches)) == (3, 2)


def test_counts_of_unevaluated_lines_are_not_held_back_at_once() -> None:
    """They are written down before the output passes, which the reader's thread does not do."""
    batches: list[Batch] = []

    def submit(batch: Batch) -> None:
        batches.append(batch)
        assert batch.done is not None
        batch.done()

    intake = StreamIntake("run", Worker(submit, hold_back=lambda _: pytest.fail("they are")))
    chunk = Chunk("stdout", 2, (Hit(0, b"ALARM\n", (0,)),), unjudged=1)
    for _ in range(1000):  # one of which comes fast on any machine
        intake(chunk)
    assert len(batches) == 1000


def test_a_single_line_goes_to_the_worker_at_once() -> None:
    """Whether lines are held back is asked only where they come one close after the other."""
    batches: list[Batch] = []
    held: list[Batch] = []

    def submit(batch: Batch) -> None:
        batches.append(batch)
        assert batch.done is not None
        batch.done()

    def hold_back(batch: Batch) -> bool:
        held.append(batch)
        return True

    intake = StreamIntake("run", Worker(submit, hold_back=hold_back))
    chunk = Chunk("stdout", 1, (Hit(0, b"ALARM\n", (0,)),))
    intake(chunk)
    assert (len(batches), len(held)) == (1, 0)
    for _ in range(1000):  # one of which is fast enough on any machine
        intake(chunk)
    assert held


def test_output_does_not_wait_for_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that may be echoes wait for their records, a bounded number of them; the output waits for none of them."""
    batches: list[Batch] = []
    is_source = [True]
    intake = StreamIntake("run", Worker(batches.append, expects_records=lambda: is_source[0]))
    chunk = Chunk("stdout", 1, (Hit(0, b"ALARM\n", (0,)),))
    for _ in range(streams.MOST_ECHOES):
        intake(chunk)
    assert [batch.may_be_echo for batch in batches] == [True] * streams.MOST_ECHOES
    monkeypatch.setattr(streams, "PATIENCE", 0.0)
    intake(chunk)
    assert not batches[-1].may_be_echo
    for batch in batches:
        assert batch.done is not None
        batch.done()
    intake(chunk)
    assert batches[-1].may_be_echo
    is_source[0] = False
    intake(chunk)
    assert not batches[-1].may_be_echo


def test_output_does_not_wait_for_slow_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output that waits for the disk an hour waits for rules a moment, and not again while these are not done."""
    monkeypatch.setattr(streams, "PATIENCE", 3600.0)
    asked: list[bool] = []

    def is_evaluating() -> bool:
        asked.append(True)
        return True

    batches: list[Batch] = []
    intake = StreamIntake("run", Worker(batches.append, is_evaluating=is_evaluating))
    chunk = Chunk("stdout", 1, (Hit(0, b"ALARM\n", (0,)),))
    intake(chunk)
    before = len(asked)
    intake(chunk)
    assert len(asked) == before + 1
    assert len(batches) == 2


def test_output_waits_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not the rules that take long, a chunk is not passed on before its alarms are written down."""
    monkeypatch.setattr(streams, "PATIENCE", 3600.0)
    batches: list[Batch] = []
    left = [1, 2, 3, 4, 5, 6, 7]

    def is_evaluating() -> bool:
        left.pop()
        if not left:
            assert batches[0].done is not None
            batches[0].done()
        return False

    StreamIntake("run", Worker(batches.append, is_evaluating=is_evaluating))(
        Chunk("stdout", 1, (Hit(0, b"ALARM\n", (0,)),))
    )
    assert not left
