"""What the supervisor finds out about its descriptors."""

from __future__ import annotations

import fcntl
import os
import select
from pathlib import Path

from alarm_mw.descriptors import lead_to_one_place
from alarm_mw.supervisor.descriptors import ready_for


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
