"""The relay, which stands in while no master can work."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from alarm_mw.supervisor.carriers.relay import Relay
from alarm_mw.supervisor.streams import Stream

MakeStream = Callable[..., Stream]


@pytest.fixture
def control() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.settimeout(10)
        yield ours, theirs


@pytest.fixture
def make_stream() -> Iterator[MakeStream]:
    """Give a maker of streams whose output has ended."""
    made: list[Stream] = []

    def make(output: bytes, sink: int, transit: tuple[int, int] | None = None) -> Stream:
        source, writing = os.pipe()
        os.write(writing, output)
        os.close(writing)
        state = os.memfd_create("state")
        os.write(state, b"half a li")
        made.append(Stream("stdout", source, sink, state, terminal=False, transit=transit))
        return made[-1]

    yield make
    for stream in made:
        for fd in stream.descriptors:
            with suppress(OSError):
                os.close(fd)


Control = tuple[socket.socket, socket.socket]


def test_append(make_stream: MakeStream, control: Control, tmp_path: Path) -> None:
    """A log file is appended to."""
    log = tmp_path / "log"
    log.write_bytes(b"old ")
    Relay([make_stream(b"x" * 50_000, os.open(log, os.O_WRONLY | os.O_APPEND))], control[1]).run()
    assert log.read_bytes() == b"old " + b"x" * 50_000
    assert control[0].recv(100) == b"eof stdout"


def test_transit(make_stream: MakeStream, control: Control, tmp_path: Path) -> None:
    """What a master that was killed had on its way into a file comes before what it had not."""
    readable, writable = os.pipe()
    os.write(writable, b"first " * 1000)
    with (tmp_path / "log").open("wb") as log:
        Relay([make_stream(b"then\n", os.dup(log.fileno()), (readable, writable))], control[1]).run()
    assert (tmp_path / "log").read_bytes() == b"first " * 1000 + b"then\n"
    assert [control[0].recv(100) for _ in range(2)] == [b"eof stdout", b"unjudged stdout 1"]


def test_full_disk(make_stream: MakeStream, control: Control) -> None:
    """A full disk loses output but does not stop the server."""
    Relay([make_stream(b"x" * 50_000, os.open("/dev/full", os.O_WRONLY))], control[1]).run()
    assert control[0].recv(100) == b"eof stdout"


def test_state(make_stream: MakeStream, control: Control) -> None:
    """The next master does not join the half line it finds to output that it has not seen."""
    stream = make_stream(b"x", os.open(os.devnull, os.O_WRONLY))
    state = os.dup(stream.state)
    Relay([stream], control[1]).run()
    assert os.fstat(state).st_size == 0
    os.close(state)


def test_reader_is_gone(make_stream: MakeStream, control: Control) -> None:
    """Output that nobody reads is given up at once."""
    reading, writing = os.pipe()
    os.close(reading)
    Relay([make_stream(b"x", writing)], control[1]).run()
    assert control[0].recv(100) == b"broken stdout"


def test_supervisor_is_gone(make_stream: MakeStream, control: Control, tmp_path: Path) -> None:
    """A supervisor that was killed, deaf to what it was told, does not keep output from passing."""
    log = tmp_path / "log"
    control[1].send(b"unheard")
    control[0].close()
    Relay([make_stream(b"last words", os.open(log, os.O_WRONLY | os.O_CREAT))], control[1]).run()
    assert log.read_bytes() == b"last words"


def test_stop(control: Control, make_stream: MakeStream) -> None:
    """A relay that is told to stop takes nothing that it cannot hand on."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    control[0].send(b"stop")
    stream = make_stream(b"later", writing)
    Relay([stream], control[1]).run()
    assert os.read(stream.source, 100) == b"later"
    os.close(reading)
