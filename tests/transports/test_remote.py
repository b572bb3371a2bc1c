"""What an application's process tells the master of what it does not send."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from alarm_mw.app import client, current_master
from alarm_mw.model.types import Reason
from alarm_mw.transports import remote
from alarm_mw.transports.remote import RemoteClient
from alarm_mw.transports.wire import decode


def test_a_line_is_counted_in_the_packet_that_says_what_became_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However rarely a process counts, each of its packets balances by itself."""
    monkeypatch.setattr(remote, "COUNTS_EVERY", -1.0)  # counts are due at once, as after an idle second
    path = str(tmp_path / "alarm.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen()
        way = RemoteClient(path)
        monkeypatch.setattr(current_master, "current", lambda: way)
        client.skip("wsgi", Reason.ALARM_ORIGIN)
        connection, _ = listener.accept()
        with connection:
            packet = decode(connection.recv(10_000))
        way.shutdown(1.0)
    assert packet is not None
    assert packet.counts == {"wsgi": {"lines": 1, "skipped:alarm_origin": 1}}
