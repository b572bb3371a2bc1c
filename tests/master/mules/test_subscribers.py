"""The master's end of the connections to workers and mules, spoken to over its real socket."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import os
import socket
import stat
import threading
import tracemalloc
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from waiting import LIMIT

from alarm_mw.master.mules import subscribers
from alarm_mw.master.mules.subscribers import Subscribers
from alarm_mw.model.types import Firing, Record
from alarm_mw.system.peers import Peer, refusal
from alarm_mw.system.permissions import socket_mode
from alarm_mw.system.sockets import MAX_PATH
from alarm_mw.transports.subscription import (
    Ask,
    Connection,
    Done,
    FromProcess,
    Message,
    Nothing,
    Raised,
    Ran,
    Register,
    Taken,
    frame,
)

#: Of workers; no process has such a number.
pids = itertools.count(10_000_000)


def mule_number(pid: int) -> int:
    """Let the numbers below a hundred be those of mules."""
    return pid if pid < 100 else 0


class Hub:
    """Subscribers on a loop of their own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        #: Who the next ones to connect are: another worker each, where the test names nobody.
        self.callers: deque[Peer] = deque()
        self.subscribers = Subscribers(path, lambda: None, mule_number, self.identify)
        self.begin(self.subscribers.start()).result(LIMIT)

    def identify(self, _: socket.socket) -> Peer:
        return self.callers.popleft() if self.callers else Peer(next(pids), os.geteuid())

    def begin(self, coroutine: Coroutine[None, None, object]) -> Future[object]:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def raise_signal(self, number: int) -> Future[object]:
        return self.begin(self.subscribers.raise_signal(number))

    def send(self, mule: int, message: bytes) -> Future[object]:
        record = Record(message, "stdout", 1.0, "k")
        return self.begin(self.subscribers.send_to_mule(mule, Firing(f"id-{message[:9]!r}", "a", message, record, 1.0)))

    def stop(self) -> None:
        self.begin(self.subscribers.stop()).result(LIMIT)
        self.begin(_settle()).result(LIMIT)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


async def _turns(n: int) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def _settle() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    running = Hub(tmp_path / "subscribers")
    yield running
    running.stop()


@pytest.fixture
def connect(hub: Hub) -> Iterator[Callable[..., Connection]]:
    with contextlib.ExitStack() as stack:

        def make(*packets: FromProcess, mule: int = 0) -> Connection:
            if mule:
                hub.callers.append(Peer(mule, os.geteuid()))
            connection = stack.enter_context(Connection(str(hub.path)))
            for packet in packets:
                connection.send(packet)
            return connection

        yield make


def register(*targets: str, mule: int = 0) -> Register:
    return Register(mule, frozenset((17, target) for target in targets))


def test_only_its_owner_may_speak_to_it(hub: Hub) -> None:
    """The socket is closed to other users, or, where root's workers are such, asks them who they are."""
    assert stat.S_IMODE(hub.path.stat().st_mode) == socket_mode()


def test_its_path_may_be_longer_than_an_address(tmp_path: Path) -> None:
    """Whatever has become of the descriptor by which it was bound: here another file has its number."""
    folder = tmp_path / ("x" * MAX_PATH)
    folder.mkdir()
    with asyncio.Runner() as runner:
        runner.get_loop()
        served = Subscribers(folder / "subscribers", lambda: None, mule_number)
        with Path(os.devnull).open():
            runner.run(served.start())
        runner.run(served.stop())


def test_a_slow_handler_keeps_nobody_waiting(hub: Hub, connect: Callable[..., Connection]) -> None:
    """A signal is delivered when it was taken; the next one for one worker goes to a free one."""
    first = connect(register("worker"))
    raised = hub.raise_signal(17)
    signal = first.receive(LIMIT)
    assert signal == Raised(1, 17, "worker")
    assert not raised.done()
    first.send(Taken(1))
    assert raised.result(LIMIT) is True
    # The second one is known to be there when it has taken the signal that it alone has asked for.
    second = connect(Register(0, frozenset({(17, "worker"), (18, "worker")})))
    for number, signal_number in enumerate((18, 17), 2):
        other = hub.raise_signal(signal_number)
        assert second.receive(LIMIT) == Raised(number, signal_number, "worker")
        second.send(Taken(number))
        second.send(Ran(number))
        assert other.result(LIMIT) is True


def test_a_worker_that_ran_its_handler_is_free_again(hub: Hub, connect: Callable[..., Connection]) -> None:
    """Both signals go to the first worker when the handler had returned in between."""
    first = connect(register("worker"))
    connect(register("worker"))
    for number in (1, 2):
        raised = hub.raise_signal(17)
        assert first.receive(LIMIT) == Raised(number, 17, "worker")
        first.send(Taken(number))
        first.send(Ran(number))
        assert raised.result(LIMIT) is True


def test_a_signal_goes_on_to_another_when_its_worker_dies(hub: Hub, connect: Callable[..., Connection]) -> None:
    """A worker that was killed before it took the signal is replaced by one that lives."""
    first = connect(register("worker"))
    raised = hub.raise_signal(17)
    assert first.receive(LIMIT) == Raised(1, 17, "worker")
    second = connect(register("worker"))
    second.send(Register(0, frozenset({(17, "worker"), (18, "worker")})))
    taken = hub.raise_signal(18)
    assert second.receive(LIMIT) == Raised(2, 18, "worker")
    first.hang_up()
    assert second.receive(LIMIT) == Raised(3, 17, "worker")
    second.send(Taken(2))
    second.send(Taken(3))
    assert (raised.result(LIMIT), taken.result(LIMIT)) == (True, True)


def test_a_worker_may_leave_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a signal is on its way to it, too: then the signal was not taken, and that is all."""
    monkeypatch.setattr(subscribers, "JOIN_PATIENCE", 0.0)

    async def raise_for_one_that_leaves(turns: int) -> bool:
        hub = Subscribers(tmp_path / "subscribers", lambda: None, mule_number)
        await hub.start()
        with Connection(str(tmp_path / "subscribers")) as worker:
            worker.send(register("worker"))
            await hub.joined.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        try:
            return await hub.raise_signal(17)
        finally:
            await hub.stop()

    assert [asyncio.run(raise_for_one_that_leaves(turns)) for turns in range(6)] == [False] * 6


def test_a_signal_waits_a_moment_for_who_connects_again(hub: Hub, connect: Callable[..., Connection]) -> None:
    """After a master was replaced, its workers need a moment to find the new one."""
    raised = hub.raise_signal(17)
    worker = connect(register("workers"))
    assert worker.receive(LIMIT) == Raised(1, 17, "workers")
    worker.send(Taken(1))
    assert raised.result(LIMIT) is True


def test_a_signal_that_nobody_asked_for_is_not_taken(hub: Hub, connect: Callable[..., Connection]) -> None:
    """The answer says so, for the lane to try again or to give up."""
    connect(register("worker9"))
    assert hub.raise_signal(17).result(LIMIT) is False


def test_a_mule_that_waits_gets_a_message_and_is_done_with_it(hub: Hub, connect: Callable[..., Connection]) -> None:
    """The message is delivered with the next question, or with the word that there is none."""
    mule = connect(Ask(1), mule=1)
    first = hub.send(1, b"one")
    assert mule.receive(LIMIT) == Message("id-b'one'", b"one")
    second = hub.send(0, b"two")
    mule.send(Ask(1, "id-b'one'"))
    assert mule.receive(LIMIT) == Message("id-b'two'", b"two")
    assert first.result(LIMIT) is None
    mule.send(Done("id-b'two'"))
    assert second.result(LIMIT) is None


def test_a_long_message_arrives_whole(hub: Hub, connect: Callable[..., Connection]) -> None:
    """There is no limit to a message but `alarm-msg-size`."""
    mule = connect(Ask(1), mule=1)
    message = bytes(range(256)) * 20_000
    sent = hub.send(1, message)
    answer = mule.receive(LIMIT)
    assert isinstance(answer, Message)
    assert answer.message == message
    mule.send(Done(answer.id))
    assert sent.result(LIMIT) is None


def test_a_mule_is_told_when_its_time_is_over(hub: Hub, connect: Callable[..., Connection]) -> None:
    """And a message that comes later is for the next question."""
    mule = connect(Ask(1, timeout=0.01), mule=1)
    assert mule.receive(LIMIT) == Nothing()
    sent = hub.send(1, b"late")
    mule.send(Ask(1, timeout=LIMIT))
    assert mule.receive(LIMIT) == Message("id-b'late'", b"late")
    mule.send(Done("id-b'late'"))
    assert sent.result(LIMIT) is None


@pytest.mark.parametrize("garbage", [b"\x00\x00\x00\x02{}", b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x01\xc1"])
def test_strangers_are_sent_away(hub: Hub, garbage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """What is no packet of ours closes its connection, with a line in the log, and nothing else."""
    with socket.socket(socket.AF_UNIX) as stranger, caplog.at_level(logging.WARNING):
        stranger.settimeout(LIMIT)
        stranger.connect(str(hub.path))
        stranger.sendall(garbage)
        assert stranger.recv(1) == b""
    assert "none of ours" in caplog.text


def test_words_without_a_question_do_no_harm(hub: Hub, connect: Callable[..., Connection]) -> None:
    """A process that acknowledges what it never got is ignored."""
    worker = connect(Taken(5), Ran(5), Done("x"), register("worker"), Taken(7))
    raised = hub.raise_signal(17)
    signal = worker.receive(LIMIT)
    assert isinstance(signal, Raised)
    worker.send(Taken(signal.id))
    worker.send(Taken(signal.id))
    assert raised.result(LIMIT) is True


@pytest.mark.parametrize(
    ("mule", "packet"),
    [(0, Ask(1)), (0, Ask(0)), (2, Ask(1)), (0, register("mule1", mule=1)), (2, register("mule1", mule=1))],
)
def test_nobody_takes_what_is_for_a_mule(
    hub: Hub, connect: Callable[..., Connection], mule: int, packet: FromProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the process that the master has started as that mule, by what the kernel says of it, gets its messages."""
    sent = hub.send(1, b"for the mule")
    with pytest.raises(ConnectionResetError):
        connect(packet, mule=mule).receive(LIMIT)
    assert "none of ours" in caplog.text
    true = connect(Ask(1), mule=1)
    assert true.receive(LIMIT) == Message("id-b'for the m'", b"for the mule")
    true.send(Done("id-b'for the m'"))
    assert sent.result(LIMIT) is None


def test_who_asks_again_before_the_answer_is_sent_away(hub: Hub, connect: Callable[..., Connection]) -> None:
    """Each question would take memory, and a timer; with the connection both are gone."""
    mule = connect(Ask(1, timeout=LIMIT), Ask(1, timeout=LIMIT), mule=1)
    with pytest.raises(ConnectionResetError):
        mule.receive(LIMIT)


def test_asking_again_and_again_takes_no_memory(hub: Hub, connect: Callable[..., Connection]) -> None:
    """Neither a mule whose questions all end without a message, nor one that is sent away each time, adds anything."""

    def ask(n: int) -> None:
        patient = connect(mule=1)
        for _ in range(n):
            patient.send(Ask(1, timeout=0.0))
            assert patient.receive(LIMIT) == Nothing()
            with contextlib.suppress(OSError), connect(Ask(1, timeout=LIMIT), Ask(1, timeout=LIMIT), mule=2) as pushy:
                pushy.receive(LIMIT)

    ask(50)  # what is made once is made
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        ask(200)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 200_000


def test_who_reads_no_answer_is_not_read_either(hub: Hub, connect: Callable[..., Connection]) -> None:
    """The answers to a mule that only asks do not pile up in the master."""
    with socket.socket(socket.AF_UNIX) as mule:
        hub.callers.append(Peer(1, os.geteuid()))
        mule.connect(str(hub.path))
        mule.setblocking(False)

        def ask() -> None:
            for _ in range(20_000):
                mule.send(frame(Ask(1, timeout=0.0)))
                hub.begin(_turns(8)).result(LIMIT)  # it is answered before the next one

        with pytest.raises(BlockingIOError):
            ask()


def test_a_worker_that_lies_about_its_handlers_gets_no_more_than_others(
    hub: Hub, connect: Callable[..., Connection]
) -> None:
    """One that says again and again that they have returned does not become the one with the least to do."""
    honest = connect(register("worker"))
    raised = hub.raise_signal(17)
    assert honest.receive(LIMIT) == Raised(1, 17, "worker")
    honest.send(Taken(1))
    honest.send(Ran(1))
    assert raised.result(LIMIT) is True
    liar = connect(Register(0, frozenset({(17, "worker"), (18, "worker2")})), *[Ran(1)] * 100)
    known = hub.raise_signal(18)
    assert liar.receive(LIMIT) == Raised(2, 18, "worker2")
    liar.send(Taken(2))
    assert known.result(LIMIT) is True
    raised = hub.raise_signal(17)
    assert honest.receive(LIMIT) == Raised(3, 17, "worker")
    honest.send(Taken(3))
    assert raised.result(LIMIT) is True


def test_a_process_gets_few_connections_and_one_that_has_ended_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When room is short, a connection counts no longer whose process has ended, though another one holds it."""
    monkeypatch.setattr(subscribers, "share_of_descriptors", lambda _: subscribers.MAX_OF_PROCESS + 1)
    hub = Hub(tmp_path / "subscribers")

    def caller(peer: Peer) -> socket.socket:
        hub.callers.append(peer)
        made = stack.enter_context(socket.socket(socket.AF_UNIX))
        made.settimeout(LIMIT)
        made.connect(str(hub.path))
        return made

    me = Peer(os.getpid(), os.geteuid())
    with contextlib.ExitStack() as stack:
        for _ in range(subscribers.MAX_OF_PROCESS):
            caller(me)
        assert caller(me).recv(1) == b""
        assert f"a process has {subscribers.MAX_OF_PROCESS} connections" in caplog.text
        gone = caller(Peer(next(pids), me.user))
        caller(Peer(os.getppid(), me.user)).send(frame(register("worker")))
        assert gone.recv(1) == b""
        raised = hub.raise_signal(17)
        assert caller(Peer(os.getppid(), me.user)).recv(1) == b""
        assert raised.result(LIMIT) is False
    hub.stop()


def test_other_users_leave_room_for_this_one() -> None:
    """Their processes have three quarters of the connections, however many there are of them."""
    strangers = [Peer(pid, os.geteuid() + 1) for pid in range(6)]
    assert refusal(strangers[0], strangers[1:], 8, 2) == ""
    assert refusal(Peer(9, strangers[0].user), strangers, 8, 2).startswith(
        "processes of other users have 6 connections"
    )
    assert refusal(Peer(9, os.geteuid()), strangers, 8, 2) == ""
    assert refusal(Peer(9, os.geteuid()), strangers, 6, 2).startswith("there are 6 connections")
