"""Tests of what makes one hit of a record's lines."""

from __future__ import annotations

import pytest

from alarm_mw.config.settings import StreamRecords
from alarm_mw.engine.rules import compile_rule
from alarm_mw.engine.tracebacks import BEGINNINGS
from alarm_mw.master.streams.blocks import MEMORY_SIZE, BlockAssembler, BlockMemory
from alarm_mw.model.types import Rule
from alarm_mw.patterns.prefilter import Hit, Prefilter

TRACEBACK = (
    b"Traceback (most recent call last):\n"
    b'  File "/app/shop.py", line 3, in pay\n'
    b"    charge(order)\n"
    b"KeyError: 'order 42'\n"
)
JAVA = b"2026-11-29 ERROR payment failed\njava.lang.Error: no\n\tat Shop.pay(Shop.java:3)\n"


def prefilter_of(*patterns: str, exclude: str = "") -> Prefilter:
    rules = [Rule(pattern, ("a",)) for pattern in patterns]
    rules = [Rule(exclude, (), excludes=True), *rules] if exclude else rules
    return Prefilter([compile_rule(rule) for rule in rules], beginnings=BEGINNINGS)


class Stream:
    """Lines as a reader gives them to an assembler."""

    def __init__(
        self, prefilter: Prefilter, options: StreamRecords | None = None, memory: bytearray | None = None
    ) -> None:
        self.prefilter = prefilter
        kept = None if memory is None else BlockMemory(memory)
        self.blocks = BlockAssembler(options or StreamRecords(), kept)
        self.at = 0
        self.lines = 0

    def print(self, data: bytes, now: float = 0.0) -> list[Hit]:
        hits = self.prefilter.scan(data, self.at)
        found = self.blocks.assemble(data, self.at, hits, self.prefilter, now)
        self.at += len(data)
        self.lines += data.count(b"\n") + self.blocks.line_change()
        return list(found)

    def due(self, now: float, *, at_end: bool = False) -> list[Hit]:
        found = self.blocks.due(self.prefilter, now, at_end=at_end)
        self.lines += self.blocks.line_change()
        return found


def test_traceback_is_one_hit() -> None:
    """A traceback is one hit, with the rules that its lines concern, when no more has come for a while."""
    stream = Stream(prefilter_of("KeyError", "charge", "nothing"))
    assert stream.print(b"KeyError here\n" + TRACEBACK) == [Hit(0, b"KeyError here\n", (0,), (0,))]
    assert stream.lines == 4  # the fifth waits for its record
    assert stream.blocks.wait(0.0) == pytest.approx(0.2)
    assert stream.due(0.1) == []
    assert stream.due(0.3) == [Hit(14, TRACEBACK, (0, 1))]
    assert (stream.lines, stream.blocks.wait(0.3)) == (5, None)


def test_traceback_of_no_rule_is_no_hit() -> None:
    """A traceback that concerns no rule is counted, and nothing else."""
    stream = Stream(prefilter_of("nothing"))
    assert stream.print(TRACEBACK) == []
    assert stream.due(0.3) == []
    assert stream.lines == 4


def test_traceback_in_pieces_is_one_hit() -> None:
    """It does not matter in which portions the lines of a traceback arrive."""
    stream = Stream(prefilter_of("KeyError"))
    assert [stream.print(line) for line in TRACEBACK.splitlines(keepends=True)] == [[]] * 4
    assert stream.due(1.0, at_end=True) == [Hit(0, TRACEBACK, (0,))]


def test_excluded_line_begins_a_traceback() -> None:
    """A rule that excludes a header leaves the lines below it in their record, and judges that."""
    stream = Stream(prefilter_of("KeyError", exclude="Traceback"))
    assert stream.print(TRACEBACK) == []
    assert stream.due(1.0) == [Hit(0, TRACEBACK, (0, 1))]


def test_lines_beside_a_beginning_are_as_they_were() -> None:
    """A line that only holds the words of a header is a hit of its rules, or none."""
    stream = Stream(prefilter_of("KeyError"))
    line = b"he said Traceback (most recent call last): KeyError\n"
    assert stream.print(line) == [Hit(0, line, (0,), (0,))]
    assert stream.print(b"he said Traceback (most recent call last): and left\n") == []


@pytest.mark.parametrize("killed_after", range(1, 5))
def test_next_master_goes_on_with_a_block(killed_after: int) -> None:
    """A block that was half seen when its master was killed is whole in the next one, and counted once."""
    lines = TRACEBACK.splitlines(keepends=True)
    memory = bytearray(MEMORY_SIZE)
    first = Stream(prefilter_of("KeyError"), memory=memory)
    for line in lines[:killed_after]:
        first.print(line)
    second = Stream(prefilter_of("KeyError"), memory=memory)
    second.at, second.lines = first.at, first.lines
    second.blocks.resume(second.at, 0.0)
    for line in lines[killed_after:]:
        second.print(line)
    assert second.due(1.0) == [Hit(0, TRACEBACK, (0,))]
    assert second.lines == 4


def test_lines_that_come_again_are_not_doubled() -> None:
    """What had been seen and not passed on when a master was killed comes again, and is in the block once."""
    memory = bytearray(MEMORY_SIZE)
    first = Stream(prefilter_of("KeyError"), memory=memory)
    first.print(TRACEBACK)
    second = Stream(prefilter_of("KeyError"), memory=memory)
    second.at = len(TRACEBACK.splitlines(keepends=True)[0])
    second.blocks.resume(second.at, 0.0)
    second.print(TRACEBACK[second.at :])
    assert second.due(1.0) == [Hit(0, TRACEBACK, (0,))]
    third = Stream(prefilter_of("KeyError"), memory=memory)
    third.blocks.resume(0, 0.0)  # all of it comes again, the handed over block too
    assert third.due(1.0) == []


def test_block_that_was_handed_over_is_kept_until_it_has_passed() -> None:
    """A master that is killed while it hands a block over leaves it to the next one."""
    memory = bytearray(MEMORY_SIZE)
    first = Stream(prefilter_of("KeyError"), memory=memory)
    first.print(TRACEBACK)
    first.due(1.0)
    second = Stream(prefilter_of("KeyError"), memory=memory)
    second.blocks.resume(first.at, 0.0)
    assert second.due(1.0) == [Hit(0, TRACEBACK, (0,))]
    assert second.due(2.0) == []


def test_too_many_bytes_end_the_oldest_block() -> None:
    """A block that has more bytes than are kept is judged as it is."""
    stream = Stream(prefilter_of("KeyError"))
    stream.print(TRACEBACK)
    (hit,) = stream.print(b"\t" + b"x" * 400_000 + b"\n")
    assert hit.line.startswith(TRACEBACK)


@pytest.mark.parametrize(
    "options",
    [
        StreamRecords(start=r"^\d{4}-"),
        StreamRecords(continues=r"^(java|\s)"),
        StreamRecords(start=r"^\d", continues=r"^(java|\s)"),
    ],
)
def test_records_are_what_the_configuration_says(options: StreamRecords) -> None:
    """Regexps for the beginnings of records, or for the lines that go on with them, make records of any language."""
    stream = Stream(prefilter_of("java.lang.Error"), options)
    assert stream.print(b"2026-11-29 INFO fine\n" + JAVA) == []
    assert stream.print(b"2026-11-29 INFO fine\n") == [Hit(21, JAVA, (0,))]
    assert stream.blocks.wait(0.0) == pytest.approx(0.2)
    assert stream.due(1.0) == []
    assert stream.lines == 5


def test_configured_record_is_bounded() -> None:
    """A record has at most `max_lines` lines, and the next master goes on with it."""
    memory = bytearray(MEMORY_SIZE)
    options = StreamRecords(continues="^ ", max_lines=3)
    first = Stream(prefilter_of("b"), options, memory)
    first.print(b"a\n b\n")
    second = Stream(prefilter_of("b"), options, memory)
    second.at, second.lines = first.at, first.lines
    second.blocks.resume(first.at, 0.0)
    assert second.print(b" b\n b\n") == [Hit(0, b"a\n b\n b\n", (0,))]
    assert second.due(1.0, at_end=True) == [Hit(8, b" b\n", (0,))]
    assert second.lines == 4


def test_many_bytes_end_a_configured_record() -> None:
    """A record that has more bytes than are kept is judged as it is."""
    stream = Stream(prefilter_of("b"), StreamRecords(start="^a"))
    assert len(stream.print(b"a\n" + b"b" * 400_000 + b"\n")) == 1


def test_changed_options_end_what_is_open() -> None:
    """When the configuration changes, what is open is judged as it is, and the next lines by the new options."""
    stream = Stream(prefilter_of("KeyError", "java"))
    stream.print(TRACEBACK)
    stream.blocks.change(StreamRecords(start=r"^\d"))
    assert stream.print(JAVA) == [Hit(0, TRACEBACK, (0,))]
    stream.blocks.change(None)
    assert stream.print(b"java\n") == [
        Hit(len(TRACEBACK), JAVA, (1,)),
        Hit(len(TRACEBACK + JAVA), b"java\n", (1,), (1,)),
    ]
    assert stream.lines == 8
