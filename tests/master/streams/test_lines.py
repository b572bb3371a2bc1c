"""The cutter: the same lines, however the stream arrives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.master.streams.lines import MAX_LINE, MOST_LINE, LineCutter, count_lines, longest_line

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
