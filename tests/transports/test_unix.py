"""Sending to a master over its socket."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from alarm_mw.model.types import Reason
from alarm_mw.system.sockets import reachable
from alarm_mw.transports.shared import GREETING, KEPT, Region, SharedMemory
from alarm_mw.transports.unix import MAX_LEFT, UnixTransport


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
def lost() -> list[object]:
    return []


@pytest.fixture
def transport(path: Path, lost: list[object]) -> Iterator[UnixTransport]:
    shared = SharedMemory("token")
    opened = UnixTransport(str(path), lambda *packet: lost.append(packet), shared)
    yield opened
    opened.close()
    shared.close()


def accept(listener: socket.socket) -> socket.socket:
    """Return a connection on which the process has said who it is."""
    connection, _ = listener.accept()
    assert connection.recv(100) == GREETING + b"token"
    return connection


def test_packets_arrive_whole_and_in_order(path: Path, transport: UnixTransport) -> None:
    """Each packet sent is one packet received."""
    with listen(path) as listener:
        assert transport.send(b"one") is None
        assert transport.send(b"two" * 1000) is None
        with accept(listener) as connection:
            assert [connection.recv(10_000), connection.recv(10_000)] == [b"one", b"two" * 1000]


def test_without_a_master_a_packet_is_refused_at_once(transport: UnixTransport) -> None:
    """Where nobody listens, sending says so and raises nothing."""
    assert transport.send(b"x") is Reason.NO_MASTER
    assert transport.send(b"x") is Reason.NO_MASTER


def test_a_full_queue_refuses_and_does_not_block(path: Path, transport: UnixTransport) -> None:
    """A master that does not read costs records in the end, never the application's time."""
    with listen(path):
        reasons = {transport.send(b"x" * 10_000) for _ in range(2000)}
    assert reasons == {None, Reason.QUEUE_FULL}


def test_a_new_master_is_found_again(path: Path, transport: UnixTransport) -> None:
    """When the connection broke, the next packet opens another one."""
    with listen(path) as listener:
        transport.send(b"one")
        with accept(listener) as connection:
            connection.send(KEPT)
        assert transport.send(b"two") is None
        with accept(listener) as connection:
            assert connection.recv(10) == b"two"


def test_what_ends_with_a_master_that_has_not_kept_it_is_sent_again(path: Path, transport: UnixTransport) -> None:
    """A master that is killed right after it has accepted a connection takes no record along."""
    with listen(path) as listener:
        assert [transport.send(packet) for packet in (b"one", b"two")] == [None, None]
        listener.accept()[0].close()
        assert not transport.is_kept
        assert transport.send(b"three") is None
        with accept(listener) as connection:
            assert [connection.recv(10) for _ in range(3)] == [b"one", b"two", b"three"]
            connection.send(KEPT)
            assert transport.is_kept
            assert transport.send(b"four") is None
            assert connection.recv(10) == b"four"


def test_a_master_that_hears_nobody_is_not_sent_everything_again_and_again(
    path: Path, transport: UnixTransport
) -> None:
    """A process that may not send records sends each of them twice at most."""
    seen: list[bytes] = []
    with listen(path) as listener:
        for n in range(20):
            transport.send(b"%d" % n)
            with accept(listener) as connection:
                connection.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        seen.append(connection.recv(10))
    assert max(Counter(seen).values()) == 2


def test_a_child_sends_nothing_of_its_parents_again(path: Path, transport: UnixTransport) -> None:
    """What a master has not kept of a process is not sent by one that was forked from it."""
    with listen(path) as listener:
        transport.send(b"parent")
        listener.accept()[0].close()
        transport.close()
        transport.send(b"child")
        with accept(listener) as connection:
            assert connection.recv(10) == b"child"


def test_paths_longer_than_an_address_work(tmp_path: Path) -> None:
    """A state directory may lie deep: the kernel's limit of 107 bytes is not the user's business."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    shared = SharedMemory("token")
    transport = UnixTransport(str(deep / "alarm.sock"), lambda *_: None, shared)
    with listen(deep / "alarm.sock") as listener:
        assert transport.send(b"x") is None
        with accept(listener) as connection:
            assert connection.recv(10) == b"x"
    transport.close()
    shared.close()


class SlowMemory(SharedMemory):
    """Keeps a thread that connects from coming to its end."""

    def __init__(self) -> None:
        super().__init__("token")
        self.is_connecting, self.go_on = threading.Event(), threading.Event()

    def introduce(self, connection: socket.socket) -> None:
        self.is_connecting.set()
        assert self.go_on.wait(5)
        super().introduce(connection)


class Slow:
    """A transport with which another thread is connecting, to send ``0``."""

    def __init__(self, path: Path, lost: list[object]) -> None:
        self.path, self.listener = path, listen(path)
        self._shared = SlowMemory()
        self.transport = UnixTransport(str(path), lambda *packet: lost.append(packet), self._shared)
        self._pool = ThreadPoolExecutor(1)
        self._first = self._pool.submit(self.transport.send, b"0")
        assert self._shared.is_connecting.wait(5)

    def connect(self) -> None:
        """Let the other thread go on, and wait for it."""
        self._shared.go_on.set()
        self._first.result(5)

    def leave(self) -> None:
        """Be a master that has ended."""
        self.path.unlink()
        self.listener.close()

    def close(self) -> None:
        self._shared.go_on.set()
        self.listener.close()
        self._pool.shutdown()
        self.transport.close()
        self._shared.close()


@pytest.fixture
def slow(path: Path, lost: list[object]) -> Iterator[Slow]:
    opened = Slow(path, lost)
    yield opened
    opened.close()


def test_what_is_sent_while_another_thread_connects_is_left_to_it(slow: Slow) -> None:
    """Nobody waits for a thread that is connecting: it sends theirs as well, before it ends."""
    assert [slow.transport.send(packet) for packet in (b"1", b"2")] == [None, None]
    slow.connect()
    with accept(slow.listener) as connection:
        assert [connection.recv(10) for _ in range(3)] == [b"0", b"1", b"2"]


def test_what_was_left_and_cannot_be_sent_either_is_told(slow: Slow, lost: list[object]) -> None:
    """A packet that was taken is never lost in silence."""
    assert slow.transport.send(b"x") is None
    slow.leave()
    slow.connect()
    assert lost == [(b"x", Reason.NO_MASTER)]


def test_no_more_is_left_than_has_room(slow: Slow, lost: list[object]) -> None:
    """A thread that never ends connecting costs records, not memory."""
    reasons = [slow.transport.send(b"x") for _ in range(MAX_LEFT + 1)]
    assert reasons == [*[None] * MAX_LEFT, Reason.QUEUE_FULL]
    slow.leave()
    slow.connect()
    assert len(lost) == MAX_LEFT


def test_what_the_socket_has_no_room_for_waits_in_shared_memory(path: Path, transport: UnixTransport) -> None:
    """Whoever reads the socket to its end finds the rest behind it, in order."""
    with listen(path) as listener:
        sent = [b"%06d" % n * 200 for n in range(1400)]
        assert {transport.send(packet) for packet in sent} == {None}
        connection, _ = listener.accept()
        with connection:
            _, (descriptor,), _, _ = socket.recv_fds(connection, 100, 1)
            region = Region(descriptor, 0)
            os.close(descriptor)
            connection.setblocking(False)
            received = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    received.append(connection.recv(10_000))
            while region.has_spilled():
                packets, position = region.spilled()
                received += packets
                region.take_off(position)
            region.close()
    assert received == sent


@pytest.mark.parametrize("takes_the_number", [False, True])
def test_an_application_may_close_what_it_has_not_opened(
    path: Path, transport: UnixTransport, *, takes_the_number: bool
) -> None:
    """Nothing goes to whatever has our descriptor's number by then, nor is that closed; the record arrives anew."""
    with listen(path) as listener:
        transport.send(b"one")
        with accept(listener) as connection:
            assert connection.recv(10) == b"one"
        ours = [fd for fd in map(int, os.listdir("/proc/self/fd")) if is_ours(fd, listener)]
        mine, other = socket.socketpair()
        for fd in ours:
            os.dup2(mine.fileno(), fd) if takes_the_number else os.close(fd)
        with mine, other:
            assert transport.send(b"two") is None
            with accept(listener) as connection:
                assert connection.recv(10) == b"two"
            other.setblocking(False)
            with pytest.raises(BlockingIOError):
                other.recv(10)
            if takes_the_number:
                assert all(os.path.sameopenfile(fd, mine.fileno()) for fd in ours)
                for fd in ours:
                    os.close(fd)


def is_ours(fd: int, listener: socket.socket) -> bool:
    """Return whether a descriptor is the transport's: its connection, or the memory that it shares."""
    try:
        name = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return False
    if "memfd:alarm-mw" in name:
        return True
    if not name.startswith("socket:") or fd == listener.fileno():
        return False
    with socket.socket(fileno=os.dup(fd)) as found:
        return found.family == socket.AF_UNIX and found.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == SEQPACKET


SEQPACKET = int(socket.SOCK_SEQPACKET)
