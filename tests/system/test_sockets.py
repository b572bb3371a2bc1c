"""What can be found out about a socket by its path."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from alarm_mw.system.sockets import is_abandoned, is_served, reachable


def listen(path: Path, kind: socket.SocketKind = socket.SOCK_SEQPACKET) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, kind)
    with reachable(str(path)) as address:
        listener.bind(address)
    listener.listen(0)
    return listener


@pytest.mark.parametrize("folder", ["", f"{'d' * 100}/{'e' * 100}"])
def test_a_socket_is_served_while_somebody_listens(tmp_path: Path, folder: str) -> None:
    """However long the path, and though the socket's file stays behind."""
    path = tmp_path / folder / "s"
    path.parent.mkdir(parents=True, exist_ok=True)
    with listen(path):
        assert (is_served(str(path)), is_abandoned(str(path))) == (True, False)
    assert (is_served(str(path)), is_abandoned(str(path))) == (False, True)


def test_a_listener_whose_queue_is_full_still_listens(tmp_path: Path) -> None:
    """A master that is slow to accept is there."""
    with listen(tmp_path / "s"), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as first:
        first.connect(str(tmp_path / "s"))
        assert is_served(str(tmp_path / "s"))


@pytest.mark.parametrize("name", ["s", "no-such-folder/s", "n" * 300])
def test_nobody_listens_where_nothing_is(tmp_path: Path, name: str) -> None:
    """A path without a socket is no error."""
    assert not is_served(str(tmp_path / name))


def test_another_kind_of_socket_is_somebody_elses(tmp_path: Path) -> None:
    """It is neither ours nor left behind."""
    with listen(tmp_path / "s", socket.SOCK_STREAM):
        assert (is_served(str(tmp_path / "s")), is_abandoned(str(tmp_path / "s"))) == (False, False)
