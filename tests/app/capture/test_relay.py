"""The relay's copy: whole lines, as many as there is room for."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alarm_mw.app.capture.relay import LIMIT, LONGEST, Copy, Report


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def copy_to(writer: int) -> tuple[Copy, Report]:
    report = Report(mmap.mmap(-1, mmap.PAGESIZE), 0)
    return Copy(writer, report), report


def drained(copy: Copy, reader: int) -> bytes:
    """Return all that the copy lets out."""
    data = b""
    copy.flush()
    while copy.waits:
        data += os.read(reader, 1 << 20)
        copy.flush()
    os.set_blocking(reader, False)
    try:
        while part := os.read(reader, 1 << 20):
            data += part
    except BlockingIOError:
        return data
    return data


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.binary(max_size=60), st.just(b"line\n"), st.just(b"\n"))))
def test_the_copy_is_what_was_offered(pipe: tuple[int, int], parts: list[bytes]) -> None:
    """In whatever portions the output comes, the copy is the same when its reader keeps up."""
    copy, report = copy_to(pipe[1])
    for part in parts:
        copy.offer(part)
    copy.end()
    assert drained(copy, pipe[0]) == b"".join(parts)
    assert report.dropped == 0


def test_only_whole_lines_are_dropped(pipe: tuple[int, int]) -> None:
    """What does not fit is missing by lines, never a half one, and is counted."""
    copy, report = copy_to(pipe[1])
    lines = [b"%09d\n" % number for number in range(LIMIT // 10 + 1000)]
    for number in range(0, len(lines), 999):
        copy.offer(b"".join(lines[number : number + 999]))
    copy.offer(b"half a line")
    copy.end()
    assert drained(copy, pipe[0]).splitlines(keepends=True) == lines[: LIMIT // 10]
    assert report.dropped == len(lines) - LIMIT // 10 + 1


def test_an_endless_line_is_bounded(pipe: tuple[int, int]) -> None:
    """Of a line without an end only the beginning is kept, and the next line is whole."""
    copy, report = copy_to(pipe[1])
    for _ in range(1000):
        copy.offer(bytes(10_000))
    copy.offer(b"\nnext\n")
    assert drained(copy, pipe[0]) == bytes(LONGEST) + b"\nnext\n"
    assert report.dropped == 0


def test_a_reader_that_is_gone_is_no_error() -> None:
    """When the captured process has ended, nothing is kept for it."""
    reader, writer = os.pipe()
    os.close(reader)
    copy, _ = copy_to(writer)
    copy.offer(b"a line\n")
    copy.flush()
    copy.offer(b"another\n")
    assert not copy.waits
    os.close(writer)
