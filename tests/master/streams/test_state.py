"""The state of a stream: what a new master goes on from."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.master.streams.lines import MAX_LINE
from alarm_mw.master.streams.state import STATE_SIZE, Position, StreamState, gone_out, settle, state_size


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = os.memfd_create("state")
    os.truncate(descriptor, STATE_SIZE)
    yield descriptor
    os.close(descriptor)


def test_new_memory_stands_at_the_beginning(memory: int) -> None:
    """A stream that nobody has read yet is read from its first byte."""
    state = StreamState.from_fd(memory)
    assert state.load() == Position()
    state.close()


def test_the_next_master_finds_position_and_bytes(memory: int) -> None:
    """What one master saved, the next one loads from the same file."""
    former = StreamState.from_fd(memory)
    former.buffer[7:11] = b"half"
    former.save(2**40, 7, 11, 11, -3, oversized=True)
    former.close()
    state = StreamState.from_fd(memory)
    assert state.load() == Position(2**40, 7, 11, 11, -3, oversized=True)
    assert bytes(state.buffer[7:11]) == b"half"
    state.close()


def test_the_memory_of_another_layout_is_not_believed(memory: int) -> None:
    """A master of another version leaves nothing that this one could misread."""
    os.pwrite(memory, b"amw9" + b"\xff" * 100, 0)
    state = StreamState.from_fd(memory)
    assert state.load() == Position()
    state.close()


def test_a_save_that_was_cut_short_leaves_the_former_position(memory: int) -> None:
    """After a SIGKILL in the middle of a save the position before it is found whole."""
    state = StreamState.from_fd(memory)
    state.save(100, 0, 50, 50, 2, oversized=False)
    with mmap.mmap(memory, STATE_SIZE) as raw:
        index = raw[4]
        state.save(200, 50, 90, 90, 3, oversized=False)
        # The index is what is written last.
        raw[4] = index
        assert state.load() == Position(100, 0, 50, 50, 2, oversized=False)
    state.close()


def test_the_buffer_holds_the_longest_half_line_and_two_chunks() -> None:
    """There is always a place for the line under way that does not overlap its former one."""
    for longest in (MAX_LINE, 3 * MAX_LINE):
        state = StreamState(bytearray(state_size(longest)))
        assert len(state.buffer) - longest - longest >= MAX_LINE
        state.close()


@given(st.binary(min_size=1), st.binary(), st.data())
def test_what_was_left_in_the_source_is_recognised(pending: bytes, later: bytes, data: st.DataObject) -> None:
    """Whatever part of a chunk had gone out, the rest of it at the head of the source tells how much."""
    unique = b"%d." * 20 % tuple(range(20)) + pending
    out = data.draw(st.integers(0, len(unique) - 16))
    # A pending chunk in which its own end repeats can be told apart only by luck.
    if unique.find(unique[out:][:16]) == out:
        assert gone_out(unique, unique[out:] + later) == out


def test_an_empty_source_means_that_all_went_out() -> None:
    """Nothing left in the source: nothing is judged again."""
    assert gone_out(b"0123456789abcdef\n", b"") == 17


def test_a_short_likeness_is_taken_for_chance() -> None:
    """What begins like the end of the chunk is still something new."""
    assert gone_out(b"no more tea", b"ark\n") == 11


def test_a_short_chunk_that_is_still_there_did_not_go_out() -> None:
    """A chunk that the source begins with was not passed on, however short."""
    assert gone_out(b".", b"..\n") == 0


def position_of(before: bytes, pending: bytes, buffer: memoryview, lines: int) -> Position:
    buffer[: len(before) + len(pending)] = before + pending
    return Position(1000, 0, len(before), len(before) + len(pending), lines)


def test_a_half_line_that_went_out_is_kept() -> None:
    """The line that was half out when the master was killed is judged whole by the next one."""
    state = StreamState()
    position = position_of(b"half", b" of it\nand the first half of another", state.buffer, 1)
    settled = settle(position, state.buffer, b"", MAX_LINE)
    assert settled == Position(1036, 11, 40, 40, 1)
    assert bytes(state.buffer[settled.line : settled.out]) == b"and the first half of another"
    state.close()


def test_lines_that_come_again_are_counted_once() -> None:
    """A line that was told of before the kill and comes again after it is one line."""
    state = StreamState()
    position = position_of(b"", b"one line of some length\none more of them\n", state.buffer, 0)
    settled = settle(position, state.buffer, b"one more of them\n", MAX_LINE)
    assert settled == Position(1024, 24, 24, 24, -1)
    state.close()


def test_a_long_line_stays_a_long_line() -> None:
    """The rest of a line that was judged by its first part is not judged by the next master."""
    state = StreamState()
    position = position_of(b"x" * MAX_LINE, b"y" * 100, state.buffer, 0)
    settled = settle(position, state.buffer, b"", MAX_LINE)
    assert settled == Position(1100, MAX_LINE + 100, MAX_LINE + 100, MAX_LINE + 100, 0, oversized=True)
    state.close()
