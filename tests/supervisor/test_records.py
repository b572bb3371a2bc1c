"""The socket where workers hand in their records."""

from __future__ import annotations

import errno
import socket
import stat
from pathlib import Path

import pytest

from alarm_mw.supervisor.records import BACKLOG, RecordsSocket
from alarm_mw.system.permissions import socket_mode


def worker() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def test_bind(tmp_path: Path) -> None:
    """Workers can connect and send before any master listens: all of the same user's, of root's whoever they became."""
    path = tmp_path / "records"
    records = RecordsSocket.bind(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == socket_mode()
    with worker() as one:
        one.connect(str(path))
        one.send(b"record")
        accepted, _ = records.listening.accept()
        with accepted:
            assert accepted.recv(100) == b"record"
    records.close()
    assert not path.exists()


def test_long_path(tmp_path: Path) -> None:
    """The path may be longer than a socket's address."""
    folder = tmp_path / ("x" * 200)
    folder.mkdir()
    path = folder / "records"
    records = RecordsSocket.bind(str(path))
    assert path.is_socket()
    records.close()
    assert not path.exists()


def test_stale(tmp_path: Path) -> None:
    """A socket that a killed supervisor has left is replaced."""
    path = tmp_path / "records"
    with worker() as left:
        left.bind(str(path))
    records = RecordsSocket.bind(str(path))
    with worker() as one:
        one.connect(str(path))
    records.close()


def test_in_use(tmp_path: Path) -> None:
    """A socket that somebody listens to is left alone."""
    path = tmp_path / "records"
    records = RecordsSocket.bind(str(path))
    with pytest.raises(OSError, match="in use") as caught:
        RecordsSocket.bind(str(path))
    assert caught.value.errno == errno.EADDRINUSE
    records.close()


def test_queue_is_full(tmp_path: Path) -> None:
    """A socket whose queue is full is in use, too."""
    path = tmp_path / "records"
    with worker() as busy, worker() as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        with pytest.raises(OSError, match="in use"):
            RecordsSocket.bind(str(path))


def test_backlog(tmp_path: Path) -> None:
    """Hundreds of workers can connect while there is no master."""
    records = RecordsSocket.bind(str(tmp_path / "records"))
    workers = [worker() for _ in range(300)]
    for one in workers:
        one.settimeout(0)
        one.connect(str(tmp_path / "records"))
        one.close()
    assert len(workers) < BACKLOG
    records.close()


def test_other_file(tmp_path: Path) -> None:
    """A file that is no socket is not replaced."""
    path = tmp_path / "records"
    path.write_text("precious")
    with pytest.raises(OSError, match="in use"):
        RecordsSocket.bind(str(path))
    assert path.read_text() == "precious"


def test_replaced(tmp_path: Path) -> None:
    """A socket that another supervisor has put in the place of ours is not removed."""
    path = tmp_path / "records"
    first = RecordsSocket.bind(str(path))
    path.unlink()
    second = RecordsSocket.bind(str(path))
    first.close()
    assert path.exists()
    second.close()
    second.close()
