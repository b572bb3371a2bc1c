"""When the supervisor is done."""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from alarm_mw.supervisor.carriers.carrier import PATIENCE
from alarm_mw.supervisor.carriers.master_pool import MasterPool
from alarm_mw.supervisor.carriers.start import CarrierStart
from alarm_mw.supervisor.plan import Plan
from alarm_mw.supervisor.signals import Inherited
from alarm_mw.supervisor.streams import Stream
from alarm_mw.supervisor.supervisor import DRAIN, Supervisor
from alarm_mw.system.linux import Arrived

NO_SUCH_PID = 2**22 + 1


def test_output_held_by_a_stranger(supervise_python: Any) -> None:
    """Output that a process of somebody else holds open does not hold us for ever."""
    run = supervise_python("import os; print(os.getpid()); input()")
    server = int(run.output.next())
    held = os.open(f"/proc/{server}/fd/1", os.O_WRONLY)
    run.say("\n")
    assert run.end() == 0
    os.close(held)


class Childless(Supervisor):
    """Has no children but its own; those of the test session are not its heirs."""

    def heirs(self) -> set[int]:
        return set()


class Ended:
    """A supervisor whose server has ended, with one stream that is still open."""

    def __init__(self) -> None:
        self.source, self.writing = os.pipe()
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sink, state = (os.open(os.devnull, os.O_WRONLY) for _ in range(2))
        stream = Stream("stdout", self.source, sink, state, terminal=False)
        plan = Plan(command=[], master_argv=[], socket="", run_id="")
        inherited = Inherited(frozenset(), ignores_children=False)
        self.carriers = MasterPool(CarrierStart(plan, -1, self.listening, inherited, patience=PATIENCE), [stream])
        self.supervisor = Childless(NO_SUCH_PID, self.carriers, shutdown_timeout=0)
        self.supervisor.ended(NO_SUCH_PID, 0)

    def close(self) -> None:
        self.listening.close()
        for stream in self.carriers.streams:
            stream.close()
        for fd in (self.writing, self.supervisor.signals):
            os.close(fd)


@pytest.fixture
def ended() -> Iterator[Ended]:
    made = Ended()
    yield made
    made.close()


def test_no_descriptors_left(supervise: Any) -> None:
    """A supervisor that can open nothing more ends as its server ended."""
    run = supervise("sh", "-c", "read line; exit 5")
    run.heard.until("heard server")
    _, hard = resource.prlimit(run.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(run.process.pid, resource.RLIMIT_NOFILE, (3, hard))
    run.say("\n")
    assert run.end() == 5


def test_time_limit(ended: Ended) -> None:
    """Open output without anything in it is waited for, but not for ever."""
    assert not ended.supervisor.is_over(100)
    assert not ended.supervisor.is_over(100 + DRAIN - 0.1)
    assert ended.supervisor.is_over(100 + DRAIN)


def test_slow_reader(ended: Ended) -> None:
    """Output that waits for a slow reader is not cut off by a time limit; its time begins when it was read."""
    os.write(ended.writing, b"unread")
    assert not ended.supervisor.is_over(100)
    assert not ended.supervisor.is_over(100 + 10 * DRAIN)
    os.read(ended.source, 100)
    assert not ended.supervisor.is_over(200)
    assert ended.supervisor.is_over(200 + DRAIN)


def test_slow_reader_and_an_end_asked_for(ended: Ended) -> None:
    """Somebody who asks for an end does not wait for a slow reader."""
    os.write(ended.writing, b"unread")
    ended.supervisor.handle(Arrived(signal.SIGTERM, 0))
    assert not ended.supervisor.is_over(100)
    assert ended.supervisor.is_over(100 + DRAIN)


def test_no_output_left(ended: Ended) -> None:
    """Nothing is waited for when all output has ended."""
    ended.carriers.end_stream("stdout")
    assert ended.supervisor.is_over(100)
