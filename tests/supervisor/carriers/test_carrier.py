"""The supervisor's end of the conversation with a master."""

from __future__ import annotations

import math
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from alarm_mw.supervisor.carriers.carrier import LOOKS, PATIENCE, VARIABLE, Carrier, Message, Watchdog, patience_of
from alarm_mw.supervisor.carriers.master_pool import TOO_MANY

# Writes ten lines for each line of its input: more than a pipe holds.
LINES = """
import sys
n = 0
for line in sys.stdin:
    for i in range(n, n + 10):
        print(i, "x" * 20000)
    n += 10
"""


def looks(watchdog: Watchdog, n: int) -> list[bool]:
    """Look in time, so often."""
    return [watchdog.look(watchdog.due) for _ in range(n)]


def test_one_that_answers_is_left_alone() -> None:
    """An answer at any time before the last look is one."""
    watchdog = Watchdog(10.0, 0.0)
    for _ in range(5):
        assert not any(looks(watchdog, LOOKS))
        watchdog.heard()


def test_one_that_does_not_answer_is_given_up() -> None:
    """The time from the first question without an answer to the end is the patience."""
    watchdog = Watchdog(10.0, 0.0)
    first = watchdog.due
    assert looks(watchdog, LOOKS + 1) == [False] * LOOKS + [True]
    assert watchdog.due - 10.0 / LOOKS == pytest.approx(first + 10.0)


def test_a_supervisor_that_was_stopped_itself_blames_nobody() -> None:
    """After a stop of the whole job, or on a machine that starves us, counting begins anew."""
    watchdog = Watchdog(10.0, 0.0)
    looks(watchdog, LOOKS)
    assert not watchdog.look(watchdog.due + 1000.0)
    assert not any(looks(watchdog, LOOKS))
    assert watchdog.look(watchdog.due)


def test_a_watchdog_without_patience_never_looks() -> None:
    """Zero turns it off."""
    assert Watchdog(0.0, 5.0).due == math.inf


@pytest.mark.parametrize(
    ("said", "seconds"), [("2.5", 2.5), ("0", 0.0), ("", PATIENCE), ("inf", PATIENCE), ("x", PATIENCE)]
)
def test_the_patience_is_the_environments(said: str, seconds: float) -> None:
    """A number of seconds counts, anything else is as if it were not there."""
    assert patience_of({VARIABLE: said}) == seconds
    assert patience_of({}) == PATIENCE


def test_a_stopped_master_is_replaced(supervise_python: Any) -> None:
    """The server waits in its print for no longer than the patience; every line comes out once, and it is told why."""
    run = supervise_python(LINES, env={**os.environ, VARIABLE: "1"})
    run.say("more\n")
    numbers = [int(run.output.next().split()[0]) for _ in range(10)]
    first = int(run.heard.until("master").split()[1])
    os.kill(first, signal.SIGSTOP)
    run.say("more\n")
    numbers += [int(run.output.next().split()[0]) for _ in range(10)]
    assert numbers == list(range(20))
    assert int(run.heard.until("master").split()[1]) != first
    assert "does not answer" in run.errors().next()
    run.process.stdin.close()
    assert run.end() == 0


def test_masters_that_keep_hanging_are_given_up(supervise: Any) -> None:
    """When one after the other hangs, the output passes without a master for a while."""
    habit = {"habit": "deaf"}
    run = supervise("sh", "-c", "read line; echo through", settings=habit, env={**os.environ, VARIABLE: "0.3"})
    errors = run.errors()
    for _ in range(TOO_MANY):
        assert "does not answer" in errors.next()
    assert "keeps dying" in errors.next()
    run.say("\n")
    assert run.output.next() == "through"
    assert run.end() == 0


@pytest.fixture
def ends() -> Iterator[tuple[Carrier, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield Carrier(0, ours, Watchdog(0.0, 0.0)), theirs


def test_messages(ends: tuple[Carrier, socket.socket]) -> None:
    """Messages come in order, whole, and without waiting for more."""
    carrier, master = ends
    master.send(b"ready")
    master.send(b"eof stdout")
    assert list(carrier.said()) == [Message("ready", ""), Message("eof", "stdout")]
    assert list(carrier.said()) == []
    assert carrier.is_talking


def test_descriptor(ends: tuple[Carrier, socket.socket]) -> None:
    """A descriptor that comes with a message is not handed to the processes that we start."""
    carrier, master = ends
    reading, writing = os.pipe()
    socket.send_fds(master, [b"keep token"], [writing])
    os.close(writing)
    (message,) = carrier.said()
    assert message.fd is not None
    assert not os.get_inheritable(message.fd)
    os.write(message.fd, b"through")
    os.close(message.fd)
    assert os.read(reading, 100) == b"through"
    os.close(reading)


def test_last_words(ends: tuple[Carrier, socket.socket]) -> None:
    """What a master said before it died is heard, even when it has not heard us."""
    carrier, master = ends
    carrier.send("server 1")
    master.send(b"eof stdout")
    master.close()
    assert list(carrier.said()) == [Message("eof", "stdout")]
    assert not carrier.is_talking


def test_deaf_master(ends: tuple[Carrier, socket.socket]) -> None:
    """A master that listens no more keeps nobody waiting."""
    carrier, master = ends
    for _ in range(10_000):
        carrier.send("server 1")
    master.close()
    carrier.send("stop")
    assert list(carrier.said()) == []


def test_lived(ends: tuple[Carrier, socket.socket]) -> None:
    """A master that never said it was ready has not lived."""
    carrier, _master = ends
    assert carrier.lived() == 0
