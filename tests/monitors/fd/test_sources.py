"""Reading without ever waiting, from everything that can be watched."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

import pytest

from alarm_mw.monitors.fd.sources import open_number, open_path


def test_a_pipe() -> None:
    """Nothing there is None, a part is what there is, and the end is empty."""
    reading, writing = os.pipe()
    source = open_number(reading)
    assert source.read(10) is None
    os.write(writing, b"abc")
    assert (source.read(2), source.read(10), source.read(10)) == (b"ab", b"c", None)
    os.close(writing)
    assert source.read(1) == b""
    source.close()
    os.close(reading)


def test_the_flags_of_an_inherited_pipe_stay_as_they_are() -> None:
    """Who shares the descriptor does not find it non-blocking afterwards."""
    reading, writing = os.pipe()
    before = fcntl.fcntl(reading, fcntl.F_GETFL)
    source = open_number(reading)
    assert source.read(1) is None
    assert fcntl.fcntl(reading, fcntl.F_GETFL) == before
    source.close()
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("flags", [0, os.EFD_SEMAPHORE])
def test_an_eventfd(flags: int) -> None:
    """An eventfd is read by its eight bytes, whatever size is asked for, and never waited for."""
    counter = os.eventfd(0, flags)
    source = open_number(counter)
    assert source.size == 8
    assert source.read(1) is None
    os.eventfd_write(counter, 1)
    assert source.read(1) == (1).to_bytes(8, "little")
    assert source.read(8) is None
    source.close()
    os.close(counter)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
def test_a_socket(kind: socket.SocketKind) -> None:
    """Sockets of all kinds are read; what has an end comes to it."""
    one, other = socket.socketpair(socket.AF_UNIX, kind)
    source = open_number(one.fileno())
    assert source.read(1) is None
    other.send(b"abc")
    assert source.read(1) == b"a"
    source.read(10)
    other.close()
    if kind != socket.SOCK_DGRAM:
        assert source.read(1) == b""
    source.close()
    one.close()


def test_an_empty_datagram_is_no_end() -> None:
    """A datagram without bytes is something that came."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    source = open_number(one.fileno())
    other.send(b"")
    assert source.read(1)
    for each in (source, one, other):
        each.close()


def test_a_fifo_goes_on_when_its_writers_leave(tmp_path: Path) -> None:
    """A FIFO by its path has no end."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    source = open_path(str(path))
    for word in (b"one", b"two"):
        path.write_bytes(word)
        assert source.read(10) == word
    assert source.read(10) is None
    source.close()


@pytest.mark.parametrize("by_number", [False, True])
def test_a_file_is_readable_when_it_has_grown(by_number: bool, tmp_path: Path) -> None:
    """What was in the file before does not count, and growing by much is one time; a file cut short begins anew."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    number = os.open(path, os.O_RDWR | os.O_APPEND)
    if by_number:
        os.read(number, 100)
    source = open_number(number) if by_number else open_path(str(path))
    assert source.descriptor is None
    assert source.read(1) is None
    os.write(number, b"new and long")
    assert (source.read(1), source.read(1)) == (b"n", None)
    os.ftruncate(number, 0)
    assert source.read(1) is None
    os.write(number, b"again")
    assert source.read(1) == b"a"
    source.close()
    os.close(number)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_a_socket_by_its_path(kind: socket.SocketKind, tmp_path: Path) -> None:
    """A path that is a socket's is connected to."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, kind) as server:
        server.bind(path)
        server.listen()
        source = open_path(path)
        peer, _ = server.accept()
        with peer:
            peer.send(b"x")
            assert source.read(10) == b"x"
        assert source.read(10) == b""
        source.close()


def test_the_writing_end_is_not_read() -> None:
    """What is open for writing only is refused, and what others have written there stays there."""
    reading, writing = os.pipe()
    os.write(writing, b"x")
    with pytest.raises(OSError, match="writing only"):
        open_number(writing)
    assert os.read(reading, 1) == b"x"
    os.close(reading)
    os.close(writing)


def test_what_is_not_there(tmp_path: Path) -> None:
    """A closed number, a missing path, and a socket that nobody listens at are errors, and leave nothing open."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
    with pytest.raises(OSError, match="Bad file descriptor"):
        open_number(999)
    with pytest.raises(OSError, match="No such file"):
        open_path(str(tmp_path / "no"))
    with pytest.raises(OSError, match="refused"):
        open_path(path)
