"""The tally: what is told at once, what may wait, and that nothing is told twice."""

from __future__ import annotations

from alarm_mw.master.streams.chunk import REPORT_AFTER, Chunk, Tally
from alarm_mw.patterns.prefilter import Hit


def test_nothing_is_told_of_nothing() -> None:
    """A stream without lines makes no chunks and no timer."""
    tally = Tally("stdout")
    assert tally.wait() is None
    assert tally.take() is None


def test_a_count_may_wait_half_a_second() -> None:
    """Lines without a hit are told within the time that is promised, counted from the first of them."""
    tally = Tally("stdout")
    tally.lines += 1
    first = tally.wait()
    tally.lines += 1
    second = tally.wait()
    assert first is not None
    assert second is not None
    assert second <= first <= REPORT_AFTER
    assert not tally.urgent


def test_a_hit_is_told_with_all_counts() -> None:
    """A hit does not wait, and takes with it whatever was counted before."""
    tally = Tally("stderr")
    hit = Hit(5, b"ALARM\n", (0,))
    tally.lines, tally.lost = 3, 7
    tally.hits.append(hit)
    assert tally.urgent
    assert tally.take() == Chunk("stderr", 3, (hit,), lost=7)
    assert tally.take() is None


def test_lines_that_come_again_are_not_told_again() -> None:
    """After a kill, lines that were told of before it are made up for when they come again."""
    tally = Tally("stdout")
    tally.lines = -2
    assert tally.wait() is None
    tally.lines += 1
    assert tally.take() is None
    tally.lines += 4
    assert tally.take() == Chunk("stdout", 3)
