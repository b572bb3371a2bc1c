"""The supervisor's end of the conversation with a master."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from alarm_mw.supervisor.carriers.carrier import Carrier, Message
from alarm_mw.supervisor.carriers.watchdog import Watchdog


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
    carrier.tell("server 1")
    master.send(b"eof stdout")
    master.close()
    assert list(carrier.said()) == [Message("eof", "stdout")]
    assert not carrier.is_talking


def test_deaf_master(ends: tuple[Carrier, socket.socket]) -> None:
    """A master that listens no more keeps nobody waiting."""
    carrier, master = ends
    for _ in range(10_000):
        carrier.tell("server 1")
    master.close()
    carrier.tell("stop")
    assert list(carrier.said()) == []


def test_lived(ends: tuple[Carrier, socket.socket]) -> None:
    """A master that never said it was ready has not lived."""
    carrier, _master = ends
    assert carrier.lived() == 0
