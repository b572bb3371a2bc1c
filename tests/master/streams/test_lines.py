"""The cutter: the same lines, however the stream arrives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.master.streams.lines import (
    MAX_LINE,
    MOST_LINE,
    REPORT_AFTER,
    Chunk,
    LineCutter,
    Tally,
    count_lines,
    longest_line,
)
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
    assert not tally.is_urgent


def test_a_hit_is_told_with_all_counts() -> None:
    """A hit does not wait, and takes with it whatever was counted before."""
    tally = Tally("stderr")
    hit = Hit(5, b"ALARM\n", (0,))
    tally.lines, tally.lost = 3, 7
    tally.hits.append(hit)
    assert tally.is_urgent
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


texts = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.just(b"\n"),
        st.integers(MAX_LINE - 3, MAX_LINE + 3).map(lambda size: b"x" * size),
        st.integers(1, 3 * MAX_LINE).map(lambda size: b"y" * size),
    ),
    max_size=12,
).map(b"\n".join)


def judged(stream: bytes, cuts: list[int]) -> tuple[list[bytes], int]:
    """Return the lines that are judged when `stream` arrives in portions that end at `cuts`."""
    cutter = LineCutter()
    seen = []
    buffer = memoryview(stream)
    ends = sorted({*(cut for cut in cuts if cut < len(stream)), len(stream)})
    begin = 0
    for end in ends:
        while begin < end:
            stop = min(end, begin + MAX_LINE)
            seen += [stream[piece.start : piece.stop] for piece in cutter.cut(buffer, begin, stop)]
            begin = stop
    assert sum(map(count_lines, seen)) + cutter.oversized_ends == stream.count(b"\n")
    seen += [stream[piece.start : piece.stop] for piece in cutter.cut_rest(len(stream))]
    return [line for piece in seen for line in piece.splitlines(keepends=True) if line], cutter.oversized_lines


def expected(stream: bytes) -> tuple[list[bytes], int]:
    lines = [line + b"\n" for line in stream.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    long = sum(len(line) > MAX_LINE for line in lines)
    return [part for line in lines for part in line[:MAX_LINE].splitlines(keepends=True) if part], long


@given(texts, st.lists(st.integers(0, 400_000), max_size=8))
def test_every_line_is_judged_once_whatever_the_portions(stream: bytes, cuts: list[int]) -> None:
    """Each line is judged once, a long one by its first part, in whatever portions it arrives."""
    assert judged(stream, cuts) == expected(stream)


def test_a_line_that_arrives_byte_by_byte_is_cut_when_it_is_complete() -> None:
    """Nothing is judged before its newline has come."""
    cutter = LineCutter()
    line = b"TERRIBLE ALARM\n"
    pieces = [cutter.cut(memoryview(line), at, at + 1) for at in range(len(line))]
    assert pieces == [[]] * (len(line) - 1) + [[(0, len(line), 0)]]


@pytest.mark.parametrize("longest", [MAX_LINE, 2 * MAX_LINE])
def test_the_first_part_of_a_long_line_says_how_long_it_is(longest: int) -> None:
    """Where its end has come; else it is longer than what has."""
    line = b"x" * longest + b"yz\n"
    cutter = LineCutter(longest=longest)
    assert cutter.cut(memoryview(line), 0, len(line)) == [(0, longest, longest + 3)]
    cutter = LineCutter(longest=longest)
    assert cutter.cut(memoryview(line), 0, longest + 1) == [(0, longest, -longest - 1)]
    assert cutter.cut(memoryview(line), longest + 1, len(line)) == []


def test_with_longer_messages_longer_lines_are_judged() -> None:
    """Never less than without, and within bounds."""
    assert [longest_line(size) for size in (1, MAX_LINE + 1, MOST_LINE + 1)] == [MAX_LINE, MAX_LINE + 1, MOST_LINE]


@given(st.binary())
def test_newlines_are_counted(data: bytes) -> None:
    """The count is the number of newlines and of nothing else."""
    assert count_lines(data) == data.count(b"\n")
