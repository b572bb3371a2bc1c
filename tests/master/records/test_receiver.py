"""The receiver, on real sockets."""

from __future__ import annotations

import resource
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from alarm_mw.master.records.receiver import MAX_BYTES, MAX_OF_PROCESS, Receiver
from alarm_mw.master.worker.batch import Batch
from alarm_mw.transports.records import RecordMaker
from alarm_mw.transports.unix import UnixTransport
from alarm_mw.transports.wire import MAX_PACKET, Packet, decode, encode


class Store:
    """Remembers which connections are kept, with descriptors of its own, as the supervisor does."""

    def __init__(self) -> None:
        self.kept: dict[str, socket.socket] = {}
        self.changed = threading.Condition()

    def keep(self, token: str, descriptor: int) -> None:
        with self.changed, socket.socket(fileno=descriptor) as original:
            self.kept[token] = original.dup()
            original.detach()
            self.changed.notify_all()

    def drop(self, token: str) -> None:
        with self.changed:
            self.kept.pop(token).close()
            self.changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.kept) == count, 10.0)


class Desk:
    """Takes batches and finishes them at once."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.arrived = threading.Condition()

    def submit(self, batch: Batch) -> None:
        with self.arrived:
            self.batches.append(batch)
            self.arrived.notify_all()
            if batch.done is not None:
                batch.done()

    def messages(self) -> list[bytes]:
        return [item.record.message for batch in self.batches for item in batch.items]

    def wait_for(self, count: int) -> list[bytes]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.messages()) >= count, 10.0)
            return self.messages()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as opened:
        opened.bind(str(tmp_path / "alarm.sock"))
        opened.listen(64)
        yield opened


def lose(packet: bytes, reason: object) -> None:
    raise AssertionError((packet, reason))


def send(path: Path, *messages: bytes) -> UnixTransport:
    transport, maker = UnixTransport(str(path / "alarm.sock"), lose), RecordMaker()
    for message in messages:
        assert transport.send(encode(Packet(maker.make(message, source="logging")))) is None
    return transport


def test_records_of_several_processes_arrive_in_order(listener: socket.socket, tmp_path: Path) -> None:
    """What a process sends arrives whole and in its order, and a closed connection is let go."""
    desk, store = Desk(), Store()
    receiver = Receiver(listener, desk.submit, store, {})
    receiver.start()
    first = send(tmp_path, *(b"a%d" % n for n in range(200)))
    second = send(tmp_path, *(b"b%d" % n for n in range(200)))
    messages = desk.wait_for(400)
    assert [message for message in messages if message.startswith(b"a")] == [b"a%d" % n for n in range(200)]
    assert [message for message in messages if message.startswith(b"b")] == [b"b%d" % n for n in range(200)]
    store.wait_for(2)
    first.close()
    second.close()
    store.wait_for(0)
    receiver.stop(10.0)


def test_stopping_reads_what_has_arrived(listener: socket.socket, tmp_path: Path) -> None:
    """Records that were sent before the end are not lost to it."""
    desk = Desk()
    transport = send(tmp_path, *(b"%d" % n for n in range(150)))
    receiver = Receiver(listener, desk.submit, Store(), {})
    receiver.start()
    receiver.stop(10.0)
    assert len(desk.messages()) == 150
    transport.close()


def test_foreign_packets_do_no_harm(listener: socket.socket, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Bytes that are no packet are told, once, and passed over."""
    desk = Desk()
    receiver = Receiver(listener, desk.submit, Store(), {})
    receiver.start()
    transport = UnixTransport(str(tmp_path / "alarm.sock"), lose)
    assert [transport.send(b"\xff nonsense") for _ in range(100)] == [None] * 100
    other = send(tmp_path, b"sense")
    assert desk.wait_for(1) == [b"sense"]
    transport.close()
    other.close()
    receiver.stop(10.0)
    assert caplog.text.count("none of ours") == 1
    foreign = [batch.counts["foreign"] for batch in desk.batches if "foreign" in batch.counts]
    assert sum(counts["lines"] for counts in foreign) == 100
    assert sum(counts["skipped:unreadable"] for counts in foreign) == 100


def test_a_process_has_few_connections(
    listener: socket.socket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Those beyond are closed, which is told once; when it has closed some, it gets others."""
    desk, store = Desk(), Store()
    receiver = Receiver(listener, desk.submit, store, {})
    receiver.start()
    first = [send(tmp_path, b"%d" % n) for n in range(MAX_OF_PROCESS)]
    store.wait_for(MAX_OF_PROCESS)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as refused:
        refused.settimeout(10.0)
        refused.connect(str(tmp_path / "alarm.sock"))
        assert refused.recv(1) == b""
    assert caplog.text.count("gets no more") == 1
    for transport in first:
        transport.close()
    store.wait_for(0)
    again = send(tmp_path, b"again")
    assert desk.wait_for(MAX_OF_PROCESS + 1)[-1] == b"again"
    again.close()
    receiver.stop(10.0)


def test_connections_leave_descriptors_for_others(
    listener: socket.socket, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond their share they wait, with what was sent on them, until others have ended."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (4, 4))
    desk, store = Desk(), Store()
    receiver = Receiver(listener, desk.submit, store, {})
    monkeypatch.undo()
    receiver.start()
    first = [send(tmp_path, b"first") for _ in range(2)]
    desk.wait_for(2)
    late = send(tmp_path, b"late")
    with desk.arrived:
        assert not desk.arrived.wait_for(lambda: b"late" in desk.messages(), 0.05)
    for transport in first:
        transport.close()
    assert desk.wait_for(3)[-1] == b"late"
    assert "there are 2 connections" in caplog.text
    late.close()
    receiver.stop(10.0)


def test_a_batch_has_a_bounded_size(listener: socket.socket, tmp_path: Path) -> None:
    """However many connections bring much at once, it is not all in memory together."""
    desk = Desk()
    one = MAX_PACKET // 2
    transports = [send(tmp_path, *[b"x" * one] * 5) for _ in range(MAX_OF_PROCESS)]
    receiver = Receiver(listener, desk.submit, Store(), {})
    receiver.start()
    assert len(desk.wait_for(5 * MAX_OF_PROCESS)) == 5 * MAX_OF_PROCESS
    sizes = [sum(len(item.record.message) for item in batch.items) for batch in desk.batches]
    assert max(sizes) <= MAX_BYTES + 5 * one
    for transport in transports:
        transport.close()
    receiver.stop(10.0)


def test_counts_are_added_up(listener: socket.socket, tmp_path: Path) -> None:
    """The counts of all packets of a batch reach the ledger."""
    desk = Desk()
    transport = UnixTransport(str(tmp_path / "alarm.sock"), lose)
    for n in (2, 3):
        transport.send(encode(Packet(counts={"logging": {"lines": n}})))
    receiver = Receiver(listener, desk.submit, Store(), {})
    receiver.start()
    receiver.stop(10.0)
    transport.close()
    assert sum(batch.counts["logging"]["lines"] for batch in desk.batches) == 5


def test_packets_stay_until_they_are_worked_off(listener: socket.socket, tmp_path: Path) -> None:
    """What a killed master had not written down yet is there for the next one, on the connection that was kept."""
    store, handed_over = Store(), threading.Event()
    receiver = Receiver(listener, lambda _: handed_over.set(), store, {})
    receiver.start()
    transport = send(tmp_path, b"one", b"two")
    assert handed_over.wait(10.0)
    (kept,) = store.kept.values()
    found = [decode(kept.recv(MAX_PACKET)) for _ in range(2)]
    assert [packet.record.message for packet in found if packet and packet.record] == [b"one", b"two"]
    receiver.stop(10.0)
    transport.close()


def test_an_end_does_not_wait_for_a_worker_that_is_gone(listener: socket.socket, tmp_path: Path) -> None:
    """When nobody works batches off any more, the receiver still ends, and leaves the packets where they are."""
    batches: list[Batch] = []
    receiver = Receiver(listener, batches.append, Store(), {})
    transport = send(tmp_path, b"one")
    receiver.start()
    receiver.stop(10.0)
    assert receiver._thread is not None
    assert not receiver._thread.is_alive()
    transport.close()


def test_too_many_open_files_are_a_pause(
    listener: socket.socket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a connection cannot be taken for want of descriptors, it is taken later, with what was sent on it."""
    desk, store = Desk(), Store()
    receiver = Receiver(listener, desk.submit, store, {})
    transport = send(tmp_path, b"one")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (transport._socket.fileno() + 1 if transport._socket else soft, hard))
    try:
        receiver.start()
        with caplog.at_level("ERROR"):
            for _ in range(1000):
                if caplog.records:
                    break
                threading.Event().wait(0.01)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "cannot be taken" in caplog.text
    assert desk.wait_for(1) == [b"one"]
    transport.close()
    receiver.stop(10.0)
