"""The tap finds what tells of a crash, and changes nothing for anybody else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.master.crashes.tap import CrashTap, StreamLine
from alarm_mw.master.streams.lines import Chunk
from alarm_mw.model.types import Context
from alarm_mw.patterns.prefilter import Hit, Hits

HEADER = b"Fatal Python error: Segmentation fault\n"
DUMP = (
    HEADER + b"\n"
    b"Current thread 0x00007f01 (most recent call first):\n"
    b'  File "app.py", line 3 in app\n'
    b"Extension modules: a (total: 1)\n"
)


class Screen:
    """Finds lines with ERROR, as rule 0."""

    rule_set = None
    contexts: ClassVar[dict[int, Context]] = {}

    def scan(self, data: bytes, base: int = 0) -> Hits:
        return Hits(Hit(base + found.start(), found[0], (0,)) for found in re.finditer(rb"[^\n]*ERROR[^\n]*\n?", data))

    def candidates(self, message: bytes) -> tuple[int, ...]:
        return (0,)


class Ear:
    """Remembers what it heard."""

    def __init__(self) -> None:
        self.lines: list[StreamLine] = []
        self.killed: list[tuple[int, int]] = []

    def hear_lines(self, stream: str, lines: Sequence[StreamLine]) -> None:
        self.lines += lines

    def hear_killed(self, pid: int, number: int) -> None:
        self.killed.append((pid, number))


class Stream:
    """A reader of one stream that gives a tap whole lines."""

    def __init__(self) -> None:
        self.ear = Ear()
        self.chunks: list[Chunk] = []
        self.tap = CrashTap(Screen(), self.chunks.append, self.ear)
        self._offset = 0

    def read(self, data: bytes) -> None:
        self.tap(Chunk("stderr", data.count(b"\n"), tuple(self.tap.scan(data, self._offset))))
        self._offset += len(data)

    def texts(self) -> list[str]:
        return [line for _, line in self.ear.lines]


@pytest.fixture
def stream() -> Stream:
    return Stream()


EXPECTED = [line for line in DUMP.decode().splitlines() if line]


def test_a_dump_is_heard_line_by_line(stream: Stream) -> None:
    """With the place of each line in the stream."""
    stream.read(b"fine\n" + DUMP + b"fine\n")
    assert stream.texts() == EXPECTED
    assert stream.ear.lines[0].offset == 5
    assert stream.ear.lines[1].offset == 5 + len(HEADER) + 1


def test_a_dump_is_heard_in_any_portions(stream: Stream) -> None:
    """Python writes it in many small parts."""
    for line in DUMP.splitlines(keepends=True):
        stream.read(line)
    assert stream.texts() == EXPECTED


def test_rules_see_what_they_saw_before(stream: Stream) -> None:
    """Hits of rules are handed over, in order, those in a dump too; the dump's own lines are not."""
    data = b"ERROR 1\n" + HEADER + b'  File "ERROR.py", line 3 in app\nERROR 2\n'
    stream.read(data)
    (chunk,) = stream.chunks
    assert [hit.line for hit in chunk.hits] == [b"ERROR 1\n", b'  File "ERROR.py", line 3 in app\n', b"ERROR 2\n"]
    assert chunk.lines == 4
    assert len(stream.ear.lines) == 2


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"[x] [WARNING] Worker (pid:7216) was sent SIGSEGV!\n", (7216, 11)),
        (b"[x] [ERROR] Worker (pid:7) was sent SIGKILL! Perhaps out of memory?\n", (7, 9)),
        (b"[x] [WARNING] Worker with pid 88 was terminated due to signal 6\n", (88, 6)),
    ],
)
def test_the_words_of_a_parent_are_heard(stream: Stream, line: bytes, expected: tuple[int, int]) -> None:
    """Gunicorn says which of its workers was killed, and by which signal."""
    stream.read(b"fine\n" + line)
    assert stream.ear.killed == [expected]
    assert stream.ear.lines == []


@pytest.mark.parametrize("words", ["Worker (pid:%s) was sent SIGSEGV!\n", "Worker (pid:7) was sent %s!\n"])
def test_numbers_that_the_system_does_not_have_are_none(stream: Stream, words: str) -> None:
    """Who prints them does not end the reader of the output."""
    stream.read((words % ("9" * 5000)).encode())
    assert stream.ear.killed == []


def test_lines_that_look_like_a_dump_are_nothing_without_its_beginning(stream: Stream) -> None:
    """A traceback, or a dump on demand, is no crash."""
    stream.read(DUMP.removeprefix(HEADER))
    stream.read(b"Worker (pid:7) is fine\n")
    assert stream.ear.lines == []
    assert stream.ear.killed == []


def test_a_line_of_a_dump_without_a_newline_is_heard(stream: Stream) -> None:
    """At the end of the stream."""
    stream.read(HEADER + b'  File "app.py", line 3 in app')
    assert stream.texts() == [HEADER.decode().rstrip(), '  File "app.py", line 3 in app']


@given(st.lists(st.sampled_from([b"fine\n", b"ERROR\n", b"\n", b"\r\n", b"x\rERROR", *DUMP.splitlines(True)])))
def test_hits_of_rules_are_the_screens(lines: list[bytes]) -> None:
    """Whatever is printed, the rules are given what they are given without the tap, and the counts are the same."""
    data, stream = b"".join(lines), Stream()
    stream.read(data)
    assert [hit for chunk in stream.chunks for hit in chunk.hits] == Screen().scan(data)
    assert sum(chunk.lines for chunk in stream.chunks) == data.count(b"\n")
