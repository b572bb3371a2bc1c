"""The passage: bytes are seen before they are moved, and come out the same."""

from __future__ import annotations

import fcntl
import os
import pty
import resource
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from alarm_mw.master.streams.pipes import BUSY_PIPE, CHUNK, Passage, tee


class Pipe:
    """Both ends of a pipe."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        self.open = [self.read, self.write]

    def close(self, *descriptors: int) -> None:
        for descriptor in descriptors or tuple(self.open):
            self.open.remove(descriptor)
            os.close(descriptor)


@pytest.fixture
def source() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture
def sink() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture
def transit() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture
def view() -> memoryview:
    return memoryview(bytearray(CHUNK))


def pass_all(passage: Passage, view: memoryview, size: int) -> bytes:
    """Copy and move `size` bytes; return what the copies showed."""
    seen = b""
    while len(seen) < size:
        copied = passage.copy(view)
        done = 0
        while done < copied:
            done += passage.move(view[done:copied])
        seen += view[:copied]
    return seen


def soon(attempt: Callable[[], int]) -> int:
    """Repeat `attempt` until it need not wait."""
    while True:
        with suppress(BlockingIOError):
            return attempt()


def test_tee_shows_and_leaves(source: Pipe, sink: Pipe) -> None:
    """What tee has shown is still there to be read."""
    os.write(source.write, b"a line\n")
    assert tee(source.read, sink.write, CHUNK) == 7
    assert os.read(sink.read, CHUNK) == b"a line\n"
    assert os.read(source.read, CHUNK) == b"a line\n"


def test_nothing_yet_is_not_the_end(source: Pipe, sink: Pipe, view: memoryview) -> None:
    """An empty pipe says that something may come; one without a writer says that nothing will."""
    passage = Passage(source.read, sink.write)
    with pytest.raises(BlockingIOError):
        passage.copy(view)
    source.close(source.write)
    assert passage.copy(view) == 0
    passage.close()


def test_a_copy_moves_nothing(source: Pipe, sink: Pipe, view: memoryview) -> None:
    """Until they are moved, the bytes are in the source: whoever comes after a kill finds them."""
    passage = Passage(source.read, sink.write)
    os.write(source.write, b"a line\n")
    assert passage.keeps
    assert passage.copy(view) == 7
    passage.close()
    assert os.read(source.read, CHUNK) == b"a line\n"


def test_a_part_may_be_moved(source: Pipe, sink: Pipe, view: memoryview) -> None:
    """The rest of what was copied stays in the source."""
    passage = Passage(source.read, sink.write)
    os.write(source.write, b"a line\n")
    passage.copy(view)
    assert passage.move(view[:2]) == 2
    assert passage.copy(view) == 5
    assert os.read(sink.read, CHUNK) == b"a "
    passage.close()


def test_a_full_sink_says_so(source: Pipe, sink: Pipe, view: memoryview) -> None:
    """A sink that takes nothing now does not hold the reader's thread."""
    os.set_blocking(sink.write, False)
    os.write(sink.write, bytes(CHUNK))
    os.set_blocking(sink.write, True)
    passage = Passage(source.read, sink.write)
    os.write(source.write, b"a line\n")
    size = passage.copy(view)
    with pytest.raises(BlockingIOError):
        passage.move(view[:size])
    os.read(sink.read, CHUNK)
    assert passage.move(view[:size]) == 7
    passage.close()


def test_a_sink_without_a_reader_says_so(source: Pipe, sink: Pipe, view: memoryview) -> None:
    """Output that nobody reads is an error of its own, not a full pipe."""
    passage = Passage(source.read, sink.write)
    sink.close(sink.read)
    os.write(source.write, b"a line\n")
    size = passage.copy(view)
    with pytest.raises(BrokenPipeError):
        passage.move(view[:size])
    passage.close()


@pytest.mark.parametrize("mode", [os.O_APPEND, 0], ids=["append", "plain"])
@pytest.mark.parametrize("has_transit", [True, False], ids=["in two steps", "in one step"])
def test_files_get_every_byte(
    source: Pipe, transit: Pipe, view: memoryview, tmp_path: Path, mode: int, *, has_transit: bool
) -> None:
    """A log file gets the same bytes whether it was opened for append, which refuses splice, or not."""
    log = tmp_path / "log"
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | mode, 0o600)
    passage = Passage(source.read, descriptor, (transit.read, transit.write) if has_transit else None)
    assert passage.resume() == 0
    data = os.urandom(30_000)
    for _ in range(3):
        os.write(source.write, data)
        assert pass_all(passage, view, len(data)) == data
    assert log.read_bytes() == data * 3
    passage.close()
    os.close(descriptor)


def test_a_file_that_is_set_to_append_gets_every_byte(
    source: Pipe, transit: Pipe, view: memoryview, tmp_path: Path
) -> None:
    """What is under way at that moment, and what comes later."""
    with (tmp_path / "log").open("wb") as log:
        passage = Passage(source.read, log.fileno(), (transit.read, transit.write))
        assert passage.resume() == 0
        fcntl.fcntl(log.fileno(), fcntl.F_SETFL, os.O_APPEND)
        for _ in range(2):
            os.write(source.write, b"a line\n")
            assert pass_all(passage, view, 7) == b"a line\n"
        passage.close()
    assert (tmp_path / "log").read_bytes() == b"a line\n" * 2


@contextmanager
def file_of_at_most(size: int, path: Path) -> Iterator[int]:
    """Open a file that takes so many bytes, as on a disk that is full afterwards."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with path.open("wb") as file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            yield file.fileno()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_what_was_in_transit_goes_first(source: Pipe, transit: Pipe, view: memoryview, tmp_path: Path) -> None:
    """What a killed master had on its way into a file is moved there by the next one, before anything else."""
    os.write(transit.write, b"first\n")
    os.write(source.write, b"then\n")
    with (tmp_path / "log").open("wb") as log:
        passage = Passage(source.read, log.fileno(), (transit.read, transit.write))
        assert passage.resume() == 0
        assert pass_all(passage, view, 5) == b"then\n"
        passage.close()
    assert (tmp_path / "log").read_bytes() == b"first\nthen\n"


def test_what_was_in_transit_reaches_a_file_that_is_set_to_append(source: Pipe, transit: Pipe, tmp_path: Path) -> None:
    """Though nothing can be moved there, what a killed master had on its way is not left behind."""
    os.write(transit.write, b"first\n")
    with (tmp_path / "log").open("ab") as log:
        passage = Passage(source.read, log.fileno(), (transit.read, transit.write))
        assert passage.resume() == 0
        passage.close()
    assert (tmp_path / "log").read_bytes() == b"first\n"


def test_where_nothing_is_in_transit_nobody_waits(source: Pipe, transit: Pipe, tmp_path: Path) -> None:
    """Not even for a file that cannot be written."""
    (tmp_path / "log").touch()
    with (tmp_path / "log").open("rb") as log:
        passage = Passage(source.read, log.fileno(), (transit.read, transit.write))
        assert passage.resume() == 0
        passage.close()


def test_what_was_in_transit_to_a_full_disk_is_told(source: Pipe, transit: Pipe, tmp_path: Path) -> None:
    """How many bytes the disk refused is known, and they do not come again."""
    os.write(transit.write, b"first\n")
    with file_of_at_most(2, tmp_path / "log") as log:
        passage = Passage(source.read, log, (transit.read, transit.write))
        assert passage.resume() == 4
        assert passage.resume() == 0
        passage.close()
    assert (tmp_path / "log").read_bytes() == b"fi"


def test_what_a_full_disk_refuses_can_be_dropped(source: Pipe, transit: Pipe, view: memoryview, tmp_path: Path) -> None:
    """It is gone from wherever it is, and what comes later is seen as it is."""
    os.write(source.write, b"lost\n")
    with file_of_at_most(2, tmp_path / "log") as log:
        passage = Passage(source.read, log, (transit.read, transit.write))
        size = passage.copy(view)
        assert passage.move(view[:size]) == 2
        with pytest.raises(OSError, match="File too large"):
            passage.move(view[2:size])
        os.write(source.write, b"too\nkept\n")
        passage.drop(7)
        assert passage.copy(view) == 5
        assert bytes(view[:5]) == b"kept\n"
        passage.close()


def test_the_server_goes_on_while_its_file_is_slow(source: Pipe, transit: Pipe, sink: Pipe, view: memoryview) -> None:
    """There is room in the source as soon as its bytes are under way, whenever they arrive."""
    os.write(sink.write, bytes(65_536))  # it takes nothing, as a file on a disk that does not answer
    os.write(source.write, b"x" * 65_536)
    passage = Passage(source.read, sink.write, (transit.read, transit.write))
    size = passage.copy(view)
    moving = threading.Thread(target=passage.move, args=(view[:size],))
    moving.start()
    assert select.select([], [source.write], [], 10)[1]
    os.write(source.write, b"y" * 65_536)
    assert moving.is_alive()
    os.read(sink.read, 65_536)
    moving.join(10)
    assert os.read(sink.read, 65_536) == b"x" * 65_536
    passage.close()


def test_sockets_get_every_byte(source: Pipe, view: memoryview) -> None:
    """Output may be a socket, as under inetd or a journal."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        passage = Passage(source.read, ours.fileno())
        os.write(source.write, b"a line\n")
        assert pass_all(passage, view, 7) == b"a line\n"
        assert theirs.recv(CHUNK) == b"a line\n"
        passage.close()


def test_a_terminal_as_source_is_read_to_its_end(sink: Pipe, view: memoryview) -> None:
    """A pseudo-terminal cannot be teed and ends with an error; its bytes and its end are seen all the same."""
    controller, terminal = pty.openpty()
    passage = Passage(controller, sink.write)
    assert not passage.keeps
    os.write(terminal, b"a line\n")
    assert pass_all(passage, view, 8) == b"a line\r\n"
    assert os.read(sink.read, CHUNK) == b"a line\r\n"
    os.close(terminal)
    assert passage.copy(view) == 0
    passage.close()
    os.close(controller)


def test_a_terminal_as_sink_gets_every_byte(source: Pipe, view: memoryview) -> None:
    """At a terminal the output looks as if the program wrote it itself."""
    controller, terminal = pty.openpty()
    passage = Passage(source.read, terminal)
    os.write(source.write, b"a line\n")
    pass_all(passage, view, 7)
    assert os.read(controller, CHUNK) == b"a line\r\n"
    passage.close()
    os.close(controller)
    os.close(terminal)


def test_without_a_sink_bytes_are_only_seen(source: Pipe, view: memoryview) -> None:
    """A copy of the output is read and goes nowhere."""
    passage = Passage(source.read, None)
    os.write(source.write, b"a line\n")
    assert pass_all(passage, view, 7) == b"a line\n"
    with pytest.raises(BlockingIOError):
        passage.copy(view)
    passage.close()


def test_dropped_bytes_are_gone(source: Pipe, sink: Pipe, view: memoryview) -> None:
    """What a full disk refused does not come again."""
    passage = Passage(source.read, sink.write)
    os.write(source.write, b"lost\nkept\n")
    passage.copy(view)
    passage.drop(5)
    assert passage.copy(view) == 5
    assert bytes(view[:5]) == b"kept\n"
    passage.close()


def test_the_pipes_of_a_busy_stream_are_made_wider(source: Pipe, sink: Pipe) -> None:
    """They hold more, and a pipe that its owner made wider still is left alone."""
    fcntl.fcntl(source.read, fcntl.F_SETPIPE_SZ, 2 * BUSY_PIPE)
    passage = Passage(source.read, sink.write)
    passage.widen()
    assert fcntl.fcntl(sink.read, fcntl.F_GETPIPE_SZ) == BUSY_PIPE
    assert fcntl.fcntl(source.write, fcntl.F_GETPIPE_SZ) == 2 * BUSY_PIPE
    passage.close()


def test_what_is_no_pipe_cannot_be_made_wider(source: Pipe, view: memoryview, tmp_path: Path) -> None:
    """A busy stream into a file passes as before."""
    with (tmp_path / "log").open("wb") as log:
        passage = Passage(source.read, log.fileno())
        passage.widen()
        os.write(source.write, bytes(BUSY_PIPE))
        assert pass_all(passage, view, BUSY_PIPE) == bytes(BUSY_PIPE)
        passage.close()


def test_a_closed_passage_leaves_no_descriptor(source: Pipe, sink: Pipe) -> None:
    """Closing gives back all that was opened, and may be done twice."""
    before = os.listdir("/proc/self/fd")
    passage = Passage(source.read, sink.write)
    passage.close()
    passage.close()
    assert os.listdir("/proc/self/fd") == before


def test_much_passes_in_order(source: Pipe, sink: Pipe, view: memoryview) -> None:
    """More than the pipes hold comes out as it went in."""
    data = os.urandom(1_000_000)
    came: list[bytes] = []

    def write() -> None:
        for start in range(0, len(data), 10_000):
            assert os.write(source.write, data[start : start + 10_000]) == 10_000
        source.close(source.write)

    def read() -> None:
        while part := os.read(sink.read, CHUNK):
            came.append(part)

    threads = [threading.Thread(target=work) for work in (write, read)]
    for thread in threads:
        thread.start()
    passage = Passage(source.read, sink.write)
    seen = b""
    while copied := soon(lambda: passage.copy(view)):
        seen += view[:copied]
        done = 0
        while done < copied:
            done += soon(partial(passage.move, view[done:copied]))
    sink.close(sink.write)
    for thread in threads:
        thread.join(20)
    assert seen == b"".join(came) == data
    passage.close()
