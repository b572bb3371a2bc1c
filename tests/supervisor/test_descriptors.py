"""What the supervisor finds out about its descriptors."""

from __future__ import annotations

import fcntl
import os
import select
from pathlib import Path

from alarm_mw.supervisor.descriptors import ready_for
from alarm_mw.system.descriptors import lead_to_one_place, write_at_once


def close(*fds: int) -> None:
    for fd in fds:
        os.close(fd)


def test_pipes() -> None:
    """Two descriptors of one pipe lead to one place; two pipes do not."""
    reading, writing = os.pipe()
    other_reading, other_writing = os.pipe()
    again = os.open(f"/proc/self/fd/{writing}", os.O_WRONLY)
    assert lead_to_one_place(writing, again)
    assert not lead_to_one_place(writing, other_writing)
    close(reading, writing, other_reading, other_writing, again)


def test_files(tmp_path: Path) -> None:
    """A file's two descriptors lead to one place when they share a position or append."""
    path = tmp_path / "log"
    one = os.open(path, os.O_WRONLY | os.O_CREAT)
    copy = os.dup(one)
    apart = os.open(path, os.O_WRONLY)
    append, append_too = (os.open(path, os.O_WRONLY | os.O_APPEND) for _ in range(2))
    flags = fcntl.fcntl(one, fcntl.F_GETFL)
    assert lead_to_one_place(one, copy)
    assert not lead_to_one_place(one, apart)
    assert not lead_to_one_place(one, append)
    assert lead_to_one_place(append, append_too)
    assert fcntl.fcntl(one, fcntl.F_GETFL) == flags
    close(one, copy, apart, append, append_too)


def test_ready_for() -> None:
    """Readiness is told without waiting."""
    reading, writing = os.pipe()
    assert ready_for(reading, select.POLLIN) == 0
    assert ready_for(writing, select.POLLOUT) == select.POLLOUT
    os.close(writing)
    assert ready_for(reading, select.POLLIN) == select.POLLHUP
    os.close(reading)


def test_a_pipe_with_room_is_written_to_at_once() -> None:
    """The bytes are in it, whole; a full one, or one that nobody reads, takes nothing, and nobody waits."""
    reading, writing = os.pipe()
    assert write_at_once(writing, b"a line\n")
    assert os.read(reading, 100) == b"a line\n"
    assert not write_at_once(writing, b"x" * (select.PIPE_BUF + 1))
    while write_at_once(writing, b"x" * select.PIPE_BUF):
        pass
    assert os.get_blocking(writing)
    close(reading)
    assert not write_at_once(writing, b"a line\n")
    close(writing)


def test_what_may_have_to_wait_is_not_tried(tmp_path: Path) -> None:
    """A file on a disk, say."""
    with (tmp_path / "log").open("wb") as file:
        assert not write_at_once(file.fileno(), b"a line\n")
    assert not (tmp_path / "log").read_bytes()
