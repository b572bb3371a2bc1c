"""The lines around hits of rules with ``context``."""

from __future__ import annotations

import pytest

from alarm_mw.config.settings import StreamRecords
from alarm_mw.engine.rules import compile_rule
from alarm_mw.engine.tracebacks import BEGINNINGS
from alarm_mw.master.streams.blocks import MEMORY_SIZE, BlockAssembler, BlockMemory
from alarm_mw.master.streams.surroundings import LONGEST, MOST_BYTES, MOST_WAITING, PATIENCE, Around
from alarm_mw.model.types import Context, Rule
from alarm_mw.patterns.prefilter import Hit, Prefilter

TRACEBACK = b'Traceback (most recent call last):\n  File "a.py", line 3, in f\n    f()\nError: boom\n'


def prefilter_of(before: int, after: int) -> Prefilter:
    rules = [Rule("boom", ("a",), context=Context(before=before, after=after)), Rule("plain", ("a",))]
    return Prefilter([compile_rule(rule) for rule in rules], beginnings=BEGINNINGS)


class Stream:
    """Lines as a reader gives them to an assembler."""

    def __init__(self, before: int, after: int, memory: bytearray | None = None, *, keeps_lines: bool = True) -> None:
        self.prefilter = prefilter_of(before, after)
        kept = None if memory is None else BlockMemory(memory)
        self.blocks = BlockAssembler(StreamRecords(), kept, keeps_lines=keeps_lines)
        self.at = self.lines = 0
        self.around: Around = {}

    def print(self, data: bytes, now: float = 0.0) -> list[bytes]:
        hits = self.prefilter.scan(data, self.at)
        found = self.blocks.assemble(data, self.at, hits, self.prefilter, now)
        self.at += len(data)
        self.lines += data.count(b"\n")
        return self._noted(found)

    def due(self, now: float, *, at_end: bool = False) -> list[bytes]:
        return self._noted(self.blocks.due(self.prefilter, now, at_end=at_end))

    def _noted(self, found: list[Hit] | tuple[Hit, ...] | object) -> list[bytes]:
        assert isinstance(found, list)
        self.lines += self.blocks.line_change()
        self.around.update(self.blocks.take_around())
        return [hit.line for hit in found]


def test_lines_before_and_after_a_hit() -> None:
    """A hit is handed over with the lines before it when the lines after it have come, and is counted then."""
    stream = Stream(2, 2)
    assert stream.print(b"1\n2\n3\nboom\n4\n") == []
    assert (stream.lines, stream.blocks.wait(0.0)) == (4, PATIENCE)
    assert stream.print(b"5\n6\n") == [b"boom\n"]
    assert stream.around == {6: (b"2\n3\n", b"4\n5\n")}
    assert (stream.lines, stream.blocks.wait(0.0)) == (7, None)


def test_lines_come_in_any_portions() -> None:
    """It does not matter in which portions a stream arrives."""
    stream = Stream(2, 2)
    found = [stream.print(line) for line in (b"1\n", b"2\n", b"boom\n", b"3\n", b"4\n", b"5\n")]
    assert found == [[], [], [], [], [b"boom\n"], []]
    assert stream.around == {4: (b"1\n2\n", b"3\n4\n")}


def test_the_lines_after_are_waited_for_a_while() -> None:
    """If no more lines come, the hit is handed over with those that have; and at the end of the stream at once."""
    stream = Stream(1, 5)
    assert stream.print(b"boom 1\n2\n", 10.0) == []
    assert stream.due(10.0 + PATIENCE / 2) == []
    assert stream.due(10.0 + PATIENCE) == [b"boom 1\n"]
    assert stream.around == {0: (b"", b"2\n")}
    assert stream.print(b"boom 3\n", 12.0) == []
    assert stream.due(12.0, at_end=True) == [b"boom 3\n"]
    assert stream.lines == 3


def test_nothing_is_waited_for_if_no_rule_asks() -> None:
    """Lines before a hit delay nothing, and hits of rules without `context` have no lines around them."""
    stream = Stream(1, 0)
    assert stream.print(b"1\nplain\nboom\n") == [b"plain\n", b"boom\n"]
    assert stream.around == {8: (b"plain\n", b"")}


def test_hits_that_wait_are_lines_for_each_other() -> None:
    """Of hits in a row, each has the others around it."""
    stream = Stream(1, 1)
    assert stream.print(b"boom 1\nboom 2\nboom 3\n") == [b"boom 1\n", b"boom 2\n"]
    assert stream.due(PATIENCE) == [b"boom 3\n"]
    assert stream.around == {0: (b"", b"boom 2\n"), 7: (b"boom 1\n", b"boom 3\n"), 14: (b"boom 2\n", b"")}


def test_a_traceback_has_lines_around_it() -> None:
    """The lines around a record of several lines are those around all of it."""
    stream = Stream(1, 1)
    assert stream.print(b"1\n" + TRACEBACK + b"2026-01-01 2\n") == []
    assert stream.due(PATIENCE) == [TRACEBACK]
    assert stream.around == {2: (b"1\n", b"2026-01-01 2\n")}
    assert stream.lines == 6


def test_memory_and_lines_are_bounded() -> None:
    """However long lines are, and however many hits wait, a bounded part of the stream is kept."""
    stream = Stream(100, 100)
    assert stream.print(b"x" * 5000 + b"\nboom\n") == []
    for _ in range(MOST_BYTES // 4000):
        stream.print(b"y" * 5000 + b"\n")
    assert stream.due(PATIENCE) == [b"boom\n"]
    ((before, after),) = stream.around.values()
    assert len(before) < LONGEST + 10
    assert len(after) < 17 * (LONGEST + 10)
    assert stream.print(b"boom\n") == []
    stream.due(0.0, at_end=True)
    assert max(len(before) for before, _ in stream.around.values()) <= (MOST_BYTES / 5000 + 1) * (LONGEST + 10)
    found = stream.print(b"boom\n" * (MOST_WAITING + 300))
    assert len(found) > 200


@pytest.mark.parametrize("passed", [True, False])
def test_the_next_master_goes_on_with_hits_that_wait(*, passed: bool) -> None:
    """A hit that waits when its master is killed is handed over by the next one, once, whether its line comes again."""
    memory = bytearray(MEMORY_SIZE)
    first = Stream(1, 2, memory)
    assert first.print(b"1\nboom\n") == []
    second = Stream(1, 2, memory, keeps_lines=not passed)
    second.at = first.at if passed else 0
    second.lines = first.lines if passed else first.lines - 2
    second.blocks.resume(second.at, 0.0)
    if not passed:
        assert second.print(b"1\nboom\n") == []
    assert second.print(b"2\n3\n") == [b"boom\n"]
    assert second.around == {2: (b"1\n", b"2\n3\n")}
    assert second.lines == 4


def test_a_changed_configuration_asks_for_lines() -> None:
    """Rules may begin to ask for lines around their hits, and hits that wait stay."""
    stream = Stream(1, 1, keeps_lines=False)
    assert not stream.blocks.is_open
    stream.blocks.change(StreamRecords(), keeps_lines=True)
    stream.print(b"1\n")
    assert stream.print(b"2\nboom\n") == []
    stream.blocks.change(None)
    assert stream.print(b"3\n") == [b"boom\n"]
    assert stream.around == {4: (b"2\n", b"3\n")}


def test_long_lines_are_no_hits_with_lines_around() -> None:
    """A line that was cut is handed over at once, and shown before the next hits."""
    stream = Stream(1, 1)
    assert stream.blocks.single(b"boom" * 10, 0, [Hit(0, b"boom", (0,))]) == [Hit(0, b"boom", (0,))]
    stream.at = 40
    stream.print(b"boom\n1\n")
    assert stream.around == {40: (b"boom" * 10 + b"\n", b"1\n")}
