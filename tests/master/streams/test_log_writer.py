"""Log lines stand between the lines of the output, where both go to one file."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from waiting import wait_until

from alarm_mw.engine.rules import compile_rule
from alarm_mw.master.streams.log_writer import LogWriter
from alarm_mw.master.streams.reader import StreamReader
from alarm_mw.model.types import Rule
from alarm_mw.patterns.prefilter import Prefilter


class Output:
    """A reader between two pipes, and a log writer into the second one."""

    def __init__(self) -> None:
        source, self.server = os.pipe()
        self.terminal, sink = os.pipe()
        self.seen = b""
        prefilter = Prefilter([compile_rule(Rule("never", ("a",)))])
        self.reader = StreamReader("stdout", source, sink, prefilter=prefilter, hand_over=lambda _: None)
        self.log = LogWriter(sink)
        self.log.watch(self.reader, sink)
        self.thread = threading.Thread(target=self.reader.run)
        self.thread.start()
        self.descriptors = source, self.server, self.terminal, sink

    def show(self, data: bytes) -> None:
        """Print something, and return when it has come out."""
        os.write(self.server, data)
        self.read(len(data))

    def read(self, size: int) -> None:
        self.seen += os.read(self.terminal, size)

    def close(self) -> None:
        self.reader.stop()
        self.thread.join()
        for descriptor in self.descriptors:
            os.close(descriptor)


@contextmanager
def started() -> Iterator[Output]:
    output = Output()
    try:
        yield output
    finally:
        output.close()


@pytest.fixture
def output() -> Iterator[Output]:
    with started() as made:
        yield made


def test_a_half_written_line_is_waited_for(output: Output) -> None:
    """A log line comes after the line whose first half has gone out, and not into it."""
    output.show(b"first half, ")
    wait_until(lambda: output.reader.is_within_line)
    assert not output.log.write_at_once(b"ALARM\n")
    writing = threading.Thread(target=output.log.write, args=(b"ALARM\n",))
    writing.start()
    os.write(output.server, b"second half\n")
    writing.join()
    output.read(100)
    while b"ALARM" not in output.seen:
        output.read(100)
    assert output.seen == b"first half, second half\nALARM\n"


def test_between_lines_nothing_waits(output: Output) -> None:
    """Where the output stands at a line's end, a log line is written at once."""
    output.show(b"a line\n")
    wait_until(lambda: not output.reader.is_within_line)
    assert output.log.write_at_once(b"ALARM\n")
    output.read(100)
    assert output.seen == b"a line\nALARM\n"


def test_a_line_that_stays_unterminated_holds_no_log_line_back_for_ever(output: Output) -> None:
    """A prompt is no line to wait for: after a second of quiet it counts as one."""
    output.show(b"continue? ")
    output.log.write(b"ALARM\n")
    output.read(100)
    assert output.seen == b"continue? ALARM\n"


def test_an_event_loop_does_not_wait(output: Output) -> None:
    """What is written from an event loop holds nobody up."""
    output.show(b"half ")

    async def write() -> None:
        output.log.write(b"ALARM\n")

    wait_until(lambda: output.reader.is_within_line)
    asyncio.run(write())
    output.read(100)
    assert output.seen == b"half ALARM\n"


def test_output_that_goes_elsewhere_does_not_matter(output: Output) -> None:
    """A half line in another file holds no log line back."""
    with started() as other:
        other.log.watch(output.reader, output.descriptors[3])
        output.show(b"half ")
        wait_until(lambda: output.reader.is_within_line)
        assert other.log.write_at_once(b"ALARM\n")
