"""The receiver, on real sockets."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import socket
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import wait_until

from alarm_mw.master.records.receiver import MAX_BYTES, MAX_OF_PROCESS, Receiver
from alarm_mw.master.records.regions import REGION, Regions
from alarm_mw.master.worker.batch import Batch
from alarm_mw.model.types import Record
from alarm_mw.system.peers import Peer
from alarm_mw.transports.records import RecordMaker
from alarm_mw.transports.shared import GREETING, Region, SharedMemory
from alarm_mw.transports.unix import UnixTransport
from alarm_mw.transports.wire import MAX_PACKET, Packet, decode, encode


class Store:
    """Remembers which connections and regions are kept, with descriptors of its own, as the supervisor does."""

    def __init__(self) -> None:
        self.kept: dict[str, socket.socket] = {}
        self.regions: dict[str, int] = {}
        self.changed = threading.Condition()

    def keep(self, token: str, descriptor: int) -> None:
        with self.changed:
            if token.startswith(REGION):
                self.regions[token] = os.dup(descriptor)
            else:
                self.kept[token] = socket.socket(fileno=os.dup(descriptor))
            self.changed.notify_all()

    def drop(self, token: str) -> None:
        with self.changed:
            if token.startswith(REGION):
                os.close(self.regions.pop(token))
            else:
                self.kept.pop(token).close()
            self.changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.kept) == count, 10.0)

    def wait_for_regions(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.regions) == count, 10.0)


class Desk:
    """Takes batches and finishes them at once."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.arrived = threading.Condition()

    def submit(self, batch: Batch) -> None:
        with self.arrived:
            self.batches.append(batch)
            self.arrived.notify_all()
            for call in (batch.done, batch.written):
                if call is not None:
                    call()

    def counts(self) -> Counter[str]:
        return sum((Counter(columns) for batch in self.batches for columns in batch.counts.values()), Counter())

    def wait_for_counts(self, **counts: int) -> None:
        with self.arrived:
            assert self.arrived.wait_for(lambda: self.counts() == counts, 10.0), self.counts()

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


class Sender(UnixTransport):
    """A process's way to the master, with the memory that it shares."""

    def __init__(self, path: Path) -> None:
        self.shared = SharedMemory()
        super().__init__(str(path / "alarm.sock"), lose, self.shared)

    def close(self) -> None:
        super().close()
        self.shared.close()


def send(path: Path, *messages: bytes) -> Sender:
    transport, maker = Sender(path), RecordMaker()
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
    transport = Sender(tmp_path)
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


def test_counts_of_several_processes_are_added_up(listener: socket.socket, tmp_path: Path) -> None:
    """What processes have counted reaches the ledger, once, also what they count later."""
    desk = Desk()
    receiver = Receiver(listener, desk.submit, Store(), {})
    receiver.start()
    transports = [send(tmp_path, b"x") for _ in range(2)]
    for transport, n in zip(transports, (2, 3), strict=True):
        transport.shared.tally.add("logging", "screened_out", n)
    desk.wait_for_counts(lines=5, screened_out=5)
    transports[0].shared.tally.add("logging", "skipped:queue_full")
    desk.wait_for_counts(lines=6, screened_out=5, **{"skipped:queue_full": 1})
    receiver.stop(10.0)
    for transport in transports:
        transport.close()


def test_packets_stay_until_they_are_worked_off(listener: socket.socket, tmp_path: Path) -> None:
    """What a killed master had not written down yet is there for the next one, on the connection that was kept."""
    store, handed_over = Store(), threading.Event()
    receiver = Receiver(listener, lambda _: handed_over.set(), store, {})
    transport = send(tmp_path, b"one", b"two")
    receiver.start()
    assert handed_over.wait(10.0)
    (kept,) = store.kept.values()
    found = [decode(kept.recv(MAX_PACKET)) for _ in range(3)]  # the first says whose they are
    assert [packet.record.message for packet in found if packet and packet.record] == [b"one", b"two"]
    receiver.stop(1.0)
    transport.close()


def test_an_end_does_not_wait_for_a_worker_that_is_gone(listener: socket.socket, tmp_path: Path) -> None:
    """When nobody works batches off any more, the receiver still ends, and leaves the packets where they are."""
    batches: list[Batch] = []
    receiver = Receiver(listener, batches.append, Store(), {})
    transport = send(tmp_path, b"one")
    receiver.start()
    receiver.stop(5.0)
    assert "alarm-mw-receiver" not in {thread.name for thread in threading.enumerate()}
    transport.close()


def test_too_many_open_files_are_a_pause(
    listener: socket.socket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a connection cannot be taken for want of descriptors, it is taken later, with what was sent on it."""
    desk, store = Desk(), Store()
    receiver = Receiver(listener, desk.submit, store, {})
    transport = send(tmp_path, b"one")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as next_one:
        lowest = next_one.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        receiver.start()
        with caplog.at_level("ERROR"):
            for _ in range(1000):
                if caplog.records:
                    break
                threading.Event().wait(0.01)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "cannot accept a connection" in caplog.text
    assert desk.wait_for(1) == [b"one"]
    transport.close()
    receiver.stop(10.0)


def test_what_a_process_leaves_behind_is_read(listener: socket.socket, tmp_path: Path) -> None:
    """Whatever ends a process: what it has counted, and the records that had no room, are read afterwards."""
    pid = os.fork()
    if pid == 0:
        way = send(tmp_path, b"first")
        way.shared.tally.add("logging", "screened_out", 7)
        assert way.shared.spill(encode(Packet(RecordMaker().make(b"last", source="logging"))))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    desk, store = Desk(), Store()
    receiver = Receiver(listener, desk.submit, store, {})
    receiver.start()
    assert desk.wait_for(2) == [b"first", b"last"]
    desk.wait_for_counts(lines=7, screened_out=7)
    store.wait_for_regions(0)
    receiver.stop(10.0)


def test_the_end_of_a_process_is_noticed_when_there_is_a_descriptor_again(
    listener: socket.socket, tmp_path: Path
) -> None:
    """Without one, a process that has closed its connection is not taken for ended: it may still count."""
    heard, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(told)
        way = send(tmp_path, b"first")
        os.read(heard, 1)
        way.close()
        os.read(heard, 1)
        os._exit(0)
    desk, store = Desk(), Store()
    receiver = Receiver(listener, desk.submit, store, {})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    receiver.start()
    store.wait_for_regions(1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        os.write(told, b"x")
        store.wait_for(0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    os.close(told)
    os.waitpid(pid, 0)
    store.wait_for_regions(0)
    os.close(heard)
    receiver.stop(10.0)


def test_what_a_process_counts_without_a_connection_is_read(listener: socket.socket, tmp_path: Path) -> None:
    """A process that has closed our descriptors goes on counting, and is read until it has ended."""
    heard, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(told)
        way = send(tmp_path, b"first")
        way.close()
        os.read(heard, 1)
        way.shared.tally.add("logging", "screened_out", 7)
        os._exit(0)
    desk, store = Desk(), Store()
    receiver = Receiver(listener, desk.submit, store, {})
    receiver.start()
    store.wait_for_regions(1)
    store.wait_for(0)
    os.close(told)
    os.waitpid(pid, 0)
    desk.wait_for_counts(lines=7, screened_out=7)
    store.wait_for_regions(0)
    os.close(heard)
    receiver.stop(10.0)


@pytest.mark.parametrize(("known", "counted"), [(0, 7), (1, 4)], ids=["not written", "written"])
def test_the_next_master_goes_on_counting(listener: socket.socket, tmp_path: Path, known: int, counted: int) -> None:
    """What a killed master had counted is counted again exactly where the outbox does not have it."""
    way = send(tmp_path, b"first")
    way.shared.tally.add("logging", "screened_out", 3)
    descriptor = next(fd for fd in map(int, os.listdir("/proc/self/fd")) if is_region(fd))
    killed = Region(descriptor, 0)
    assert killed.collect({}, 1)
    killed.close()
    way.shared.tally.add("logging", "screened_out", 4)
    desk, store = Desk(), Store()
    regions = Regions(store, lambda: known, {f"{REGION}{os.getpid()}-1": os.dup(descriptor)})
    receiver = Receiver(listener, desk.submit, store, {}, regions)
    store.regions[f"{REGION}{os.getpid()}-1"] = os.dup(descriptor)
    receiver.start()
    desk.wait_for_counts(lines=counted, screened_out=counted)
    way.close()
    receiver.stop(10.0)
    store.wait_for_regions(0)


class Exhausted(Regions):
    """Regions of a master without memory."""

    def take_in(self, descriptor: int, process: int) -> Region | None:
        super().take_in(descriptor, process)
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def test_what_an_exhausted_master_cannot_take_in_is_left_to_the_next(listener: socket.socket, tmp_path: Path) -> None:
    """A master without memory or descriptors ends; the next one finds the records, and the memory of their process."""
    way = send(tmp_path, b"first", b"second")
    assert way.shared.spill(encode(Packet(RecordMaker().make(b"last", source="logging"))))
    accepted, _ = listener.accept()
    desk, store = Desk(), Store()
    pid = os.fork()
    if pid == 0:
        threading.excepthook = lambda args: os._exit(isinstance(args.exc_value, OSError))
        Receiver(listener, desk.submit, store, {"first": accepted}, Exhausted(store, lambda: 0, {})).start()
        signal.pause()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    store.keep("first", accepted.fileno())
    receiver = Receiver(listener, desk.submit, store, {"first": accepted}, Regions(store, lambda: 0, {}))
    receiver.start()
    assert desk.wait_for(3) == [b"first", b"second", b"last"]
    way.close()
    receiver.stop(10.0)


def test_counts_are_numbered_as_the_outbox_numbers_them(listener: socket.socket, tmp_path: Path) -> None:
    """Also by the first master, so that the next one knows which of them are in the outbox."""
    desk, store = Desk(), Store()
    receiver = Receiver(listener, desk.submit, store, {}, Regions(store, lambda: 41, {}))
    receiver.start()
    way = send(tmp_path, b"first")
    way.shared.tally.add("logging", "screened_out", 3)
    desk.wait_for_counts(lines=3, screened_out=3)
    descriptor = next(fd for fd in map(int, os.listdir("/proc/self/fd")) if is_region(fd))
    killed_before_it_was_written = Region(descriptor, 41)
    assert killed_before_it_was_written.collect({}, 42)
    killed_before_it_was_written.close()
    way.close()
    receiver.stop(10.0)


def test_a_process_hears_that_its_connection_is_kept(listener: socket.socket, tmp_path: Path) -> None:
    """It has to send nothing again; and if it ends without having read that, what it has sent is read all the same."""
    desk, store = Desk(), Store()
    receiver = Receiver(listener, desk.submit, store, {})
    receiver.start()
    way = send(tmp_path, b"first")
    wait_until(lambda: way.is_kept)
    send(tmp_path, b"second").close()
    assert desk.wait_for(2) == [b"first", b"second"]
    way.close()
    receiver.stop(10.0)


def is_region(fd: int) -> bool:
    with contextlib.suppress(OSError):
        return "memfd:alarm-mw" in os.readlink(f"/proc/self/fd/{fd}")
    return False


@pytest.mark.parametrize("content", [b"", b"x" * 2000])
def test_a_file_that_is_no_region_is_not_read(
    listener: socket.socket, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    """Memory that its process could take away again would end the master; such a process is heard all the same."""
    desk = Desk()
    receiver = Receiver(listener, desk.submit, Store(), {})
    receiver.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as process, tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        process.connect(str(tmp_path / "alarm.sock"))
        socket.send_fds(process, [GREETING], [file.fileno()])
        process.send(encode(Packet(RecordMaker().make(b"heard", source="logging"))))
        assert desk.wait_for(1) == [b"heard"]
    receiver.stop(10.0)
    assert "cannot be read" in caplog.text


def test_what_is_left_at_the_end_is_counted(listener: socket.socket, tmp_path: Path) -> None:
    """Records for which a worker has no time are named in the ledger."""
    batches: list[Batch] = []
    receiver = Receiver(listener, batches.append, Store(), {})
    transport = send(tmp_path, b"handed over")
    receiver.start()
    for _ in range(1000):
        if batches:
            break
        threading.Event().wait(0.01)
    maker = RecordMaker()
    for message in (b"in the socket", b"in the ring"):
        packet = encode(Packet(maker.make(message, source="logging")))
        assert transport.send(packet) is None if message == b"in the socket" else transport.shared.spill(packet)
    receiver.stop(1.0)
    left = [batch.counts for batch in batches if "skipped:shutdown" in batch.counts.get("logging", {})]
    assert left == [{"logging": {"lines": 2, "skipped:shutdown": 2}}]
    transport.close()


def test_keys_and_calls_are_their_senders_own(listener: socket.socket, tmp_path: Path) -> None:
    """No process can send a record beforehand that makes another one's, or a line of the master's, a duplicate."""
    desk, store = Desk(), Store()
    receiver = Receiver(listener, desk.submit, store, {})
    receiver.start()
    packet = encode(Packet(Record(b"x", "logging", 1.0, "1-a-1", call="c")))
    pid = os.fork()
    if pid == 0:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
            other.connect(str(tmp_path / "alarm.sock"))
            other.send(packet)
            os._exit(0)
    os.waitpid(pid, 0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as own:
        own.connect(str(tmp_path / "alarm.sock"))
        own.send(packet)
        desk.wait_for(2)
    records = [item.record for batch in desk.batches for item in batch.items]
    assert {(record.key, record.call) for record in records} == {
        (f"{process}:1-a-1", f"{process}:c") for process in (pid, os.getpid())
    }
    receiver.stop(10.0)


def test_what_another_user_announces_is_borne_out(
    listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that gave root's rights up holds back no line that says something else; its pid is the kernel's word."""
    stranger = Peer(os.getpid(), os.geteuid() + 1)
    monkeypatch.setattr("alarm_mw.master.records.receiver.peer_of", lambda _: stranger)
    desk, store = Desk(), Store()
    receiver = Receiver(listener, desk.submit, store, {})
    receiver.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as worker:
        worker.connect(str(tmp_path / "alarm.sock"))
        worker.send(
            encode(Packet(Record(b"a\n", "logging", 1.0, "k", 1, echoes=(b"ERROR a", b"fire"), loose_echo=(b"b",))))
        )
        desk.wait_for(1)
    ((item,),) = [batch.items for batch in desk.batches]
    assert (item.record.echoes, item.record.loose_echo, item.record.pid) == ((b"ERROR a",), (), os.getpid())
    receiver.stop(10.0)


def test_connections_of_processes_that_have_ended_make_room(
    listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else may hold them open; what was sent on them is read before."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (4, 4))
    desk, store = Desk(), Store()
    receiver = Receiver(listener, desk.submit, store, {})
    monkeypatch.undo()
    receiver.start()
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            held = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            pid = os.fork()
            if pid == 0:
                held.connect(str(tmp_path / "alarm.sock"))
                held.send(encode(Packet(RecordMaker().make(b"held", source="logging"))))
                os._exit(0)
            os.waitpid(pid, 0)
        desk.wait_for(2)
        late = send(tmp_path, b"late")
        assert desk.wait_for(3) == [b"held", b"held", b"late"]
        late.close()
    receiver.stop(10.0)
