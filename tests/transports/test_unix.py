"""Sending to a master over its socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from alarm_mw.sockets import reachable
from alarm_mw.transports.unix import UnixTransport
from alarm_mw.types import Reason


def listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with reachable(str(path)) as address:
        listener.bind(address)
    listener.listen()
    listener.settimeout(5.0)
    return listener


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "alarm.sock"


@pytest.fixture
def transport(path: Path) -> Iterator[UnixTransport]:
    opened = UnixTransport(str(path))
    yield opened
    opened.close()


def test_packets_arrive_whole_and_in_order(path: Path, transport: UnixTransport) -> None:
    """Each packet sent is one packet received."""
    with listen(path) as listener:
        assert transport.send(b"one") is None
        assert transport.send(b"two" * 1000) is None
        connection, _ = listener.accept()
        with connection:
            assert [connection.recv(10_000), connection.recv(10_000)] == [b"one", b"two" * 1000]


def test_without_a_master_a_packet_is_refused_at_once(transport: UnixTransport) -> None:
    """Where nobody listens, sending says so and raises nothing."""
    assert transport.send(b"x") is Reason.NO_MASTER
    assert transport.send(b"x") is Reason.NO_MASTER


def test_a_full_queue_refuses_and_does_not_block(path: Path, transport: UnixTransport) -> None:
    """A master that does not read costs records, never the application's time."""
    with listen(path):
        reasons = {transport.send(b"x" * 10_000) for _ in range(2000)}
    assert reasons == {None, Reason.QUEUE_FULL}


def test_a_new_master_is_found_again(path: Path, transport: UnixTransport) -> None:
    """When the connection broke, the next packet opens another one."""
    with listen(path) as listener:
        transport.send(b"one")
        listener.accept()[0].close()
        assert transport.send(b"two") is None
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(10) == b"two"


def test_paths_longer_than_an_address_work(tmp_path: Path) -> None:
    """A state directory may lie deep: the kernel's limit of 107 bytes is not the user's business."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    transport = UnixTransport(str(deep / "alarm.sock"))
    with listen(deep / "alarm.sock") as listener:
        assert transport.send(b"x") is None
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(10) == b"x"
    transport.close()


def test_two_threads_that_send_first_are_both_heard(path: Path, transport: UnixTransport) -> None:
    """While one thread is connecting, and gets no processor for a while, the other one waits for it."""
    with listen(path), ThreadPoolExecutor(1) as pool:
        with transport._connecting:
            other = pool.submit(transport.send, b"x")
            wait([other], timeout=0.05)
        assert other.result(5) is None


class Held:
    """A lock that somebody has; tells how long it was waited for."""

    def __init__(self) -> None:
        self.waited: list[float] = []

    def acquire(self, *, timeout: float) -> bool:
        self.waited.append(timeout)
        return False


def test_a_signal_within_connecting_waits_for_nobody(transport: UnixTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that it has interrupted cannot go on before: what the handler sends is refused at once."""
    held = Held()
    monkeypatch.setattr(transport, "_connecting", held)
    transport._connector = threading.get_ident()
    assert transport.send(b"x") is Reason.NO_MASTER
    assert held.waited == [0.0]
