"""The reader: every line is seen, every byte comes out, whatever happens to whom."""

from __future__ import annotations

import os
import pty
import queue
import re
import select
import socket
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from example_counts import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from waiting import LIMIT

from alarm_mw.master.streams.lines import MAX_LINE, Chunk
from alarm_mw.master.streams.reader import LOOK_EVERY, QUIET, StreamReader
from alarm_mw.master.streams.state import STATE_SIZE, StreamState, state_size
from alarm_mw.model.types import Context
from alarm_mw.patterns.prefilter import Hit, Hits

ROOT = Path(__file__).parents[3]
READER = Path(__file__).with_name("reader_process.py")


class RegexpScreen:
    """Hits are the lines in which a regexp is found."""

    rule_set = None
    contexts: ClassVar[dict[int, Context]] = {}

    def __init__(self, regexp: bytes, rule: int = 0) -> None:
        self.regexp, self.rule = re.compile(regexp), rule

    def scan(self, data: bytes, base: int = 0) -> Hits:
        lines = re.finditer(rb"[^\n]*\n|[^\n]+", data)
        return Hits(Hit(base + line.start(), line[0], (self.rule,)) for line in lines if self.regexp.search(line[0]))

    def candidates(self, message: bytes) -> tuple[int, ...]:
        return (self.rule,) if self.regexp.search(message) else ()


class FailingScreen(RegexpScreen):
    """Fails so many times."""

    def __init__(self, times: int = 100) -> None:
        super().__init__(b"ALARM")
        self.times = times

    def scan(self, data: bytes, base: int = 0) -> Hits:
        if self.times:
            self.times -= 1
            raise RuntimeError("no scratch left")
        return super().scan(data, base)


@dataclass
class Stream:
    """A reader in a thread, the writer's end of its source and the reading end of its sink."""

    reader: StreamReader
    write: int
    read: int
    source: int
    sink: int
    chunks: queue.SimpleQueue[Chunk]
    ended: threading.Event
    broken: queue.SimpleQueue[OSError]
    thread: threading.Thread = field(init=False)
    closed: set[int] = field(default_factory=set)

    def start(self) -> Stream:
        self.thread = threading.Thread(target=self.reader.run)
        self.thread.start()
        return self

    def send(self, data: bytes, before: bytes = b"") -> None:
        """Write all of `data` and wait until what was written `before` and it have come out the same."""
        writer = threading.Thread(target=write_all, args=(self.write, data))
        writer.start()
        assert read_exactly(self.read, len(before + data)) == before + data
        writer.join(LIMIT)

    def end(self) -> list[Chunk]:
        """Close the writer's end, wait for the reader and return all that it handed over."""
        self.close(self.write)
        self.thread.join(LIMIT)
        assert not self.thread.is_alive()
        return self.told()

    def told(self) -> list[Chunk]:
        return [self.chunks.get() for _ in range(self.chunks.qsize())]

    def close(self, *descriptors: int) -> None:
        for descriptor in set(descriptors) - self.closed:
            os.close(descriptor)
            self.closed.add(descriptor)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def read_exactly(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = read_soon(descriptor, size - len(data))
        if not part:
            break
        data += part
    return data


def read_soon(descriptor: int, size: int = 65_536) -> bytes:
    assert select.select([descriptor], [], [], LIMIT)[0], f"nothing came within {LIMIT} seconds"
    return os.read(descriptor, size)


def hits_of(chunks: list[Chunk]) -> list[tuple[int, bytes]]:
    return [(hit.start, hit.line) for chunk in chunks for hit in chunk.hits]


def lines_of(chunks: list[Chunk]) -> int:
    return sum(chunk.lines for chunk in chunks)


Open = Callable[..., Stream]


def open_stream(
    regexp: bytes = b"ALARM",
    state: StreamState | None = None,
    sink: int | None = None,
    longest: int = MAX_LINE,
    hand_over: Callable[[Chunk], None] | None = None,
) -> Stream:
    source, write = os.pipe()
    read, end = os.pipe()
    chunks: queue.SimpleQueue[Chunk] = queue.SimpleQueue()
    broken: queue.SimpleQueue[OSError] = queue.SimpleQueue()
    ended = threading.Event()
    reader = StreamReader(
        "stdout",
        source,
        end if sink is None else sink,
        prefilter=RegexpScreen(regexp),
        hand_over=hand_over or chunks.put,
        state=state,
        longest=longest,
        on_end=lambda _: ended.set(),
        on_broken=lambda _, error: broken.put(error),
    )
    return Stream(reader, write, read, source, end, chunks, ended, broken)


def close_stream(stream: Stream) -> None:
    stream.reader.stop()
    stream.thread.join(LIMIT)
    stream.close(stream.write, stream.read, stream.source, stream.sink)


@pytest.fixture
def stream_of() -> Iterator[Open]:
    before = len(os.listdir("/proc/self/fd"))
    streams = []

    def make(*args: Any, **options: Any) -> Stream:
        streams.append(open_stream(*args, **options).start())
        return streams[-1]

    yield make
    for stream in streams:
        close_stream(stream)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_line_is_handed_over_and_comes_out(stream_of: Open) -> None:
    """A hit is told with its place in the stream, its bytes and its rules, and the output stays as it was."""
    stream = stream_of()
    stream.send(b"all is well\nTERRIBLE ALARM\nall is well again\n")
    assert stream.chunks.get(timeout=LIMIT) == Chunk("stdout", 3, (Hit(12, b"TERRIBLE ALARM\n", (0,)),))
    assert stream.end() == []
    assert stream.ended.is_set()


def test_a_hit_is_handed_over_before_its_bytes_go_out() -> None:
    """Whoever sees a line in the output can rely on its alarm having been taken."""
    release = threading.Event()
    handed: queue.SimpleQueue[Chunk] = queue.SimpleQueue()

    def hand_over(chunk: Chunk) -> None:
        handed.put(chunk)
        release.wait(LIMIT)

    stream = open_stream(hand_over=hand_over)
    stream.start()
    os.write(stream.write, b"ALARM\n")
    handed.get(timeout=LIMIT)
    assert not select.select([stream.read], [], [], 0)[0]
    release.set()
    assert read_exactly(stream.read, 6) == b"ALARM\n"
    close_stream(stream)


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from([b"ALARM", b"\n", b"x", b"\0\r\xff", b"ALARM\n\n", b"z" * 70_000]), max_size=30),
    st.data(),
)
def test_any_stream_in_any_portions(stream_of: Open, parts: list[bytes], data: st.DataObject) -> None:
    """Bytes and hits do not depend on the portions in which the application writes."""
    text = b"".join(parts)
    stream = stream_of()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True):
        stream.send(text[start:stop])
    chunks = stream.end()
    lines = re.findall(rb"[^\n]*\n|[^\n]+", text)
    offsets = [sum(map(len, lines[:number])) for number in range(len(lines))]
    expected = [(at, line[:MAX_LINE]) for at, line in zip(offsets, lines, strict=True) if b"ALARM" in line[:MAX_LINE]]
    assert hits_of(chunks) == expected
    assert lines_of(chunks) == len(lines)
    assert sum(chunk.oversized for chunk in chunks) == sum(len(line) > MAX_LINE for line in lines)


def test_a_line_in_two_halves_is_one_line(stream_of: Open) -> None:
    """A prompt without a newline comes out at once, and is judged when the line is complete."""
    stream = stream_of(b"TERRIBLE ALARM$")
    stream.send(b"TERRIBLE ")
    stream.send(b"ALARM")
    assert stream.told() == []
    stream.send(b"\n")
    assert stream.chunks.get(timeout=LIMIT).hits == (Hit(0, b"TERRIBLE ALARM\n", (0,)),)


def test_an_unterminated_line_is_judged_when_the_stream_is_quiet(stream_of: Open) -> None:
    """What is written without a newline is judged once, after a while; the rest of it is a line of its own."""
    stream = stream_of()
    stream.send(b"well\nTERRIBLE ALARM")
    assert lines_of([stream.chunks.get(timeout=LIMIT)]) == 1
    assert stream.chunks.get(timeout=LIMIT).hits == (Hit(5, b"TERRIBLE ALARM", (0,)),)
    stream.send(b" goes on\nALARM\n")
    assert hits_of(stream.end()) == [(28, b"ALARM\n")]


def test_the_next_reader_does_not_judge_an_unterminated_line_again(stream_of: Open) -> None:
    """A master that takes over goes on behind it."""
    state = StreamState()
    stream = stream_of(state=state)
    stream.send(b"ALARM")
    stream.chunks.get(timeout=LIMIT)
    position = state.load()
    assert (position.line, position.out) == (5, 5)
    stream.end()


def test_a_long_unterminated_line_is_judged_once(stream_of: Open) -> None:
    """The rest of a line that was judged by its first part is not judged when the stream is quiet."""
    stream = stream_of()
    stream.send(b"ALARM" * MAX_LINE)
    assert len(stream.chunks.get(timeout=LIMIT).hits) == 1
    with pytest.raises(queue.Empty):
        stream.chunks.get(timeout=2 * QUIET)
    assert hits_of(stream.end()) == []


def test_the_last_line_needs_no_newline(stream_of: Open) -> None:
    """What a server says before it dies is judged, even in the middle of a line."""
    stream = stream_of()
    stream.send(b"well\nALARM")
    assert hits_of(stream.end()) == [(5, b"ALARM")]


def test_counts_are_told_of_a_quiet_stream_too(stream_of: Open) -> None:
    """Lines without a hit are counted within half a second, without another line having to come."""
    stream = stream_of()
    stream.send(b"well\nwell\n")
    assert stream.chunks.get(timeout=LIMIT) == Chunk("stdout", 2)


def test_an_endless_line_needs_no_memory(stream_of: Open) -> None:
    """Ten megabytes of zeros without a newline pass, are judged by their beginning and take no room."""
    stream = stream_of(b"^ALARM")
    text = memoryview(b"ALARM" + bytes(10_000_000) + b"\nALARM\n")
    into = bytearray(65_536)
    tracemalloc.start()
    writer = threading.Thread(target=write_all, args=(stream.write, text))
    writer.start()
    came = 0
    while came < len(text):
        came += os.readv(stream.read, [into])
    writer.join(LIMIT)
    chunks = stream.end()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(offset, len(line)) for offset, line in hits_of(chunks)] == [(0, MAX_LINE), (10_000_006, 6)]
    assert sum(chunk.oversized for chunk in chunks) == 1
    assert lines_of(chunks) == 2
    assert peak < 1_000_000


def test_longer_lines_can_be_judged(stream_of: Open) -> None:
    """With room for them, in whatever portions they come."""
    longest = 3 * MAX_LINE
    line = b"x" * (longest - 6) + b"ALARM\n"
    stream = stream_of(state=StreamState(bytearray(state_size(longest))), longest=longest)
    for _ in range(3):
        stream.send(line)
    stream.send(b"ALARM" + line)
    chunks = stream.end()
    assert hits_of(chunks) == [*((at * longest, line) for at in range(3)), (3 * longest, b"ALARM" + line[:-5])][:4]
    assert [size for chunk in chunks for size in chunk.sizes.values()] == [longest + 5]


def test_new_rules_apply_to_a_running_stream(stream_of: Open) -> None:
    """Replacing the screen changes what is found from the next line on."""
    stream = stream_of(b"old")
    stream.reader.prefilter = RegexpScreen(b"new", 7)
    stream.send(b"old\nnew\n")
    assert stream.chunks.get(timeout=LIMIT).hits == (Hit(4, b"new\n", (7,)),)


def test_a_failing_screen_does_not_stop_the_output(stream_of: Open) -> None:
    """When the rules fail, the output passes, and the lines that nobody judged are counted."""
    stream = stream_of()
    stream.reader.prefilter = FailingScreen()
    stream.send(b"one\ntwo\n")
    assert stream.chunks.get(timeout=LIMIT) == Chunk("stdout", 2, unjudged=2)
    stream.reader.prefilter = RegexpScreen(b"ALARM")
    stream.send(b"ALARM\n")
    assert stream.chunks.get(timeout=LIMIT).hits == (Hit(8, b"ALARM\n", (0,)),)


def test_what_cannot_be_handed_over_waits_for_the_next_reader() -> None:
    """Whatever is raised while hits are handed over, no line is passed on unjudged."""

    def refuse(chunk: Chunk) -> None:
        raise RuntimeError("no worker")

    stream = open_stream(hand_over=refuse)
    os.write(stream.write, b"ALARM\n")
    with pytest.raises(RuntimeError, match="no worker"):
        stream.reader.run()
    assert not select.select([stream.read], [], [], 0)[0]
    assert select.select([stream.source], [], [], 0)[0]
    stream.close(stream.write, stream.read, stream.source, stream.sink)


def test_a_prefilter_that_fails_once_is_asked_again(stream_of: Open) -> None:
    """What is not wrong with the lines themselves leaves none unjudged."""
    stream = stream_of()
    stream.reader.prefilter = FailingScreen(times=1)
    stream.send(b"ALARM\n")
    assert stream.chunks.get(timeout=LIMIT).hits == (Hit(0, b"ALARM\n", (0,)),)


def test_a_sink_without_a_reader_is_told(stream_of: Open) -> None:
    """When nobody reads the output any more the reader says so and ends."""
    stream = stream_of()
    stream.close(stream.read)
    os.write(stream.write, b"a line\n")
    assert isinstance(stream.broken.get(timeout=LIMIT), BrokenPipeError)
    stream.thread.join(LIMIT)
    assert not stream.ended.is_set()


def test_a_full_disk_loses_output_and_counts_it() -> None:
    """A sink that has no room loses bytes, which are counted, and never holds the application."""
    full = os.open("/dev/full", os.O_WRONLY)
    stream = open_stream(sink=full).start()
    os.write(stream.write, b"ALARM\n")
    os.close(stream.write)
    stream.closed.add(stream.write)
    stream.thread.join(LIMIT)
    chunks = stream.told()
    assert hits_of(chunks) == [(0, b"ALARM\n")]
    assert sum(chunk.lost for chunk in chunks) == 6
    close_stream(stream)
    os.close(full)


def test_a_file_for_append_gets_every_line(tmp_path: Path) -> None:
    """``>> server.log`` holds what was written before and everything that the server prints."""
    log = tmp_path / "server.log"
    log.write_bytes(b"before\n")
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    stream = open_stream(sink=descriptor).start()
    write_all(stream.write, b"a line\nALARM\n" * 20_000)
    assert len(hits_of(stream.end())) == 20_000
    assert log.read_bytes() == b"before\n" + b"a line\nALARM\n" * 20_000
    close_stream(stream)
    os.close(descriptor)


def test_a_sink_made_non_blocking_loses_nothing(stream_of: Open) -> None:
    """A child that shares our standard output may make it non-blocking; every byte still comes out."""
    stream = stream_of()
    os.set_blocking(stream.sink, False)
    stream.send(b"ALARM\n" * 100_000)
    assert len(hits_of(stream.end())) == 100_000


def test_a_terminal_as_source_is_read_to_its_end() -> None:
    """A server that runs on a pseudo-terminal is read like one that runs on a pipe."""
    controller, terminal = pty.openpty()
    read, write = os.pipe()
    chunks: list[Chunk] = []
    reader = StreamReader("stdout", controller, write, prefilter=RegexpScreen(b"ALARM"), hand_over=chunks.append)
    thread = threading.Thread(target=reader.run)
    thread.start()
    os.write(terminal, b"well\nALARM\n")
    assert read_exactly(read, 13) == b"well\r\nALARM\r\n"
    os.close(terminal)
    thread.join(LIMIT)
    assert hits_of(chunks) == [(6, b"ALARM\r\n")]
    for descriptor in (controller, read, write):
        os.close(descriptor)


def test_stop_does_not_wait_for_a_full_sink(stream_of: Open) -> None:
    """A reader whose output nobody takes can be stopped, and leaves the rest where the next one finds it."""
    state = StreamState()
    stream = stream_of(state=state)
    text = b"".join(b"line %d ALARM\n" % number for number in range(9_000))
    writer = threading.Thread(target=write_all, args=(stream.write, text))
    writer.start()
    stream.chunks.get(timeout=LIMIT)
    stream.reader.stop()
    stream.thread.join(LIMIT)
    assert not stream.thread.is_alive()
    told: queue.SimpleQueue[Chunk] = queue.SimpleQueue()
    following = StreamReader(
        "stdout", stream.source, stream.sink, prefilter=RegexpScreen(b"ALARM"), hand_over=told.put, state=state
    )
    thread = threading.Thread(target=following.run)
    thread.start()
    assert read_exactly(stream.read, len(text)) == text
    writer.join(LIMIT)
    stream.close(stream.write)
    thread.join(LIMIT)
    hits = hits_of([told.get() for _ in range(told.qsize())])
    assert hits[-1] == (len(text) - len(b"line 8999 ALARM\n"), b"line 8999 ALARM\n")
    assert all(text[offset:].startswith(line) for offset, line in hits)


FILLING = b"-" * 65_536


def stuck(stream_of: Open, state: StreamState) -> Stream:
    """Return a stream whose sink is full, and whose reader waits to pass its first line on."""
    stream = stream_of(state=state)
    os.write(stream.sink, FILLING)
    os.write(stream.write, b"ALARM 1\n")
    assert stream.chunks.get(timeout=LIMIT).hits == (Hit(0, b"ALARM 1\n", (0,)),)
    return stream


def test_a_line_behind_a_full_sink_is_looked_at(stream_of: Open) -> None:
    """An alarm gets out though nobody reads the output, and once; the output waits as it was."""
    stream = stuck(stream_of, StreamState())
    os.write(stream.write, b"ALARM 2\n")
    assert stream.chunks.get(timeout=LIMIT).hits == (Hit(8, b"ALARM 2\n", (0,)),)
    stream.send(b"ALARM 3\n", before=FILLING + b"ALARM 1\nALARM 2\n")
    assert stream.chunks.get(timeout=LIMIT).hits == (Hit(16, b"ALARM 3\n", (0,)),)
    assert stream.end() == []


def test_a_source_that_somebody_else_empties_does_not_end_the_reader(stream_of: Open) -> None:
    """What is gone is gone; what comes next is looked at and passed on."""
    stream = stuck(stream_of, StreamState())
    assert os.read(stream.source, 100) == b"ALARM 1\n"
    stream.thread.join(2 * LOOK_EVERY)
    assert stream.thread.is_alive()
    stream.send(b"-------\nALARM 3\n", before=FILLING)
    assert stream.chunks.get(timeout=LIMIT).hits[0].line == b"ALARM 3\n"


def test_what_was_looked_at_behind_a_full_sink_stays_in_the_source(stream_of: Open) -> None:
    """When such a reader is replaced, the next one passes on what the first had only looked at."""
    state = StreamState()
    stream = stuck(stream_of, state)
    os.write(stream.write, b"ALARM 2\nhalf an ")
    stream.chunks.get(timeout=LIMIT)
    stream.reader.stop()
    stream.thread.join(LIMIT)
    told: queue.SimpleQueue[Chunk] = queue.SimpleQueue()
    following = StreamReader(
        "stdout", stream.source, stream.sink, prefilter=RegexpScreen(b"half an ALARM"), hand_over=told.put, state=state
    )
    thread = threading.Thread(target=following.run)
    thread.start()
    stream.send(b"ALARM\n", before=FILLING + b"ALARM 1\nALARM 2\nhalf an ")
    assert told.get(timeout=LIMIT).hits == (Hit(16, b"half an ALARM\n", (0,)),)
    stream.close(stream.write)
    thread.join(LIMIT)


def test_stop_before_the_start_ends_at_once(stream_of: Open) -> None:
    """A reader that is stopped before its thread runs returns without waiting for output."""
    stream = open_stream()
    stream.reader.stop()
    stream.start()
    stream.thread.join(LIMIT)
    assert not stream.thread.is_alive()
    close_stream(stream)


def test_a_copy_is_only_looked_at() -> None:
    """Without a sink the reader judges a copy of the output and writes nowhere."""
    source, write = os.pipe()
    chunks: list[Chunk] = []
    reader = StreamReader("stderr", source, None, prefilter=RegexpScreen(b"ALARM"), hand_over=chunks.append)
    thread = threading.Thread(target=reader.run)
    thread.start()
    write_all(write, b"well\nALARM\n" * 50_000)
    os.close(write)
    thread.join(LIMIT)
    assert lines_of(chunks) == 100_000
    assert len(hits_of(chunks)) == 50_000
    os.close(source)


def test_the_next_reader_judges_the_line_that_was_half_out(stream_of: Open) -> None:
    """A line whose first half had gone out when its reader ended is judged whole, at its place."""
    state = StreamState()
    first = stream_of(b"^TERRIBLE ALARM$", state=state)
    first.send(b"well\nTERRIBLE ")
    first.reader.stop()
    first.thread.join(LIMIT)
    second = stream_of(b"^TERRIBLE ALARM$", state=state)
    second.send(b"ALARM\n")
    assert hits_of(second.end()) == [(5, b"TERRIBLE ALARM\n")]


class Masters:
    """Reader processes, one after the other, on pipes that the test holds open."""

    def __init__(self, sink: int) -> None:
        self.source, self.write = os.pipe()
        self.transit = os.pipe()
        self.state = os.memfd_create("state")
        os.truncate(self.state, STATE_SIZE)
        self.hits, self.tell = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.hits.settimeout(LIMIT)
        self.sink = sink
        self.seen: dict[int, bytes] = {}
        self.lines = 0

    def start(self) -> subprocess.Popen[bytes]:
        descriptors = (self.source, self.sink, self.state, self.tell.fileno(), *self.transit)
        return subprocess.Popen(
            [sys.executable, str(READER), *map(str, descriptors)],
            pass_fds=descriptors,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def hear(self) -> None:
        lines, _, hits = self.hits.recv(1 << 20).partition(b" ")
        self.lines += int(lines)
        for hit in hits.splitlines(keepends=True):
            offset, _, line = hit.partition(b" ")
            assert self.seen.setdefault(int(offset), line) == line

    def close(self) -> None:
        for descriptor in (self.source, self.state, *self.transit):
            os.close(descriptor)
        self.hits.close()
        self.tell.close()


KILLS = 20
WRITER = "import sys\nfor n in range(200000): print(f'{n:06d}', 'x' * (n % 37))"


def run_through_kills(masters: Masters) -> int:
    """Let a program print 200,000 lines, kill its master twenty times on the way, return the last one's status."""
    with subprocess.Popen([sys.executable, "-c", WRITER], stdout=masters.write) as writer:
        os.close(masters.write)
        try:
            for _ in range(KILLS):
                run_master(masters, 9_000)
            return run_master(masters, None)
        finally:
            writer.kill()


def run_master(masters: Masters, lines: int | None) -> int:
    """Run a master until it has told of so many new lines, then kill it; None: until the stream ends."""
    wanted = None if lines is None else len(masters.seen) + lines
    with masters.start() as master:
        try:
            while master.poll() is None or select.select([masters.hits], [], [], 0)[0]:
                if select.select([masters.hits], [], [], 0.01)[0]:
                    masters.hear()
                if wanted is not None and len(masters.seen) >= wanted:
                    master.kill()
        finally:
            master.kill()
    return master.returncode


PRINTED = b"".join(b"%06d %b\n" % (n, b"x" * (n % 37)) for n in range(200_000))


def check_hits(seen: dict[int, bytes]) -> None:
    """Every line was told, whole, at its place, and nothing else was."""
    offset = 0
    for line in PRINTED.splitlines(keepends=True):
        assert seen.pop(offset, None) == line, (offset, line)
        offset += len(line)
    assert not seen


@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_killed_masters_lose_and_repeat_nothing(tmp_path: Path, kind: str) -> None:
    """Twenty masters killed while 200,000 lines pass: all come out, in order, none twice, and each one is a hit."""
    log = tmp_path / "log"
    came: list[bytes] = []
    with log.open("wb") as file:
        read, write = os.pipe()
        masters = Masters(file.fileno() if kind == "file" else write)

        def collect() -> None:
            while part := os.read(read, 65_536):
                came.append(part)

        collector = threading.Thread(target=collect)
        collector.start()
        try:
            status = run_through_kills(masters)
        finally:
            os.close(write)
            collector.join(LIMIT)
        os.close(read)
    masters.close()
    assert status == 0
    assert (log.read_bytes() if kind == "file" else b"".join(came)) == PRINTED
    check_hits(masters.seen)
    # A kill between the handing over and its note counts a chunk's lines twice.
    assert masters.lines >= 200_000
