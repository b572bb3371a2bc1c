"""What an application's process lets the master know of what it does not send."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from alarm_mw.app import client, current_master
from alarm_mw.model.types import Reason
from alarm_mw.transports.remote import RemoteClient
from alarm_mw.transports.shared import Region
from alarm_mw.transports.wire import Counts


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as opened:
        opened.bind(str(tmp_path / "alarm.sock"))
        opened.listen()
        opened.settimeout(10.0)
        yield opened


def counted(listener: socket.socket) -> Counts:
    """Return what the process has counted whose connection waits."""
    connection, _ = listener.accept()
    with connection:
        _, (descriptor,), _, _ = socket.recv_fds(connection, 100, 1)
        region = Region(descriptor, 0)
        os.close(descriptor)
    counts: Counts = {}
    region.collect(counts, 1)
    region.close()
    return counts


def test_a_line_is_counted_together_with_what_became_of_it(
    listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However rarely a process counts, what the master sees balances at any moment."""
    way = RemoteClient(str(tmp_path / "alarm.sock"))
    monkeypatch.setattr(current_master, "current", lambda: way)
    client.skip("wsgi", Reason.ALARM_ORIGIN)
    way.shutdown(1.0)
    assert counted(listener) == {"wsgi": {"lines": 1, "skipped:alarm_origin": 1}}


@pytest.mark.usefixtures("reconnects_at_once")
def test_what_could_not_be_sent_is_counted(listener: socket.socket, tmp_path: Path) -> None:
    """A record that found no master is in the next one's ledger."""
    path = tmp_path / "alarm.sock"
    path.rename(tmp_path / "away")
    way = RemoteClient(str(path))
    assert not way.submit(current_master.this.records.make(b"x", source="logging"))
    (tmp_path / "away").rename(path)
    way.shutdown(1.0)
    assert counted(listener) == {"logging": {"lines": 1, "skipped:no_master": 1}}
