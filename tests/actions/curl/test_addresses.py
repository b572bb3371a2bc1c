"""Connecting to a name: the first of its addresses that answers, and nothing is left of the others."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Iterator

import pytest
from waiting import LIMIT

from alarm_mw.actions.curl import addresses
from alarm_mw.actions.curl.addresses import Info, connect, connect_to_first

#: More turns of the event loop than it takes to connect on loopback.
TURNS = 40


def info(listener: socket.socket) -> Info:
    return (listener.family, socket.SOCK_STREAM, 0, "", listener.getsockname())


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=2 * TURNS) as listener:
        yield listener


@pytest.fixture
def nobody() -> Info:
    """Provide an address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return info(taken)


@pytest.fixture
def silent() -> Iterator[Info]:
    """Provide an address that does not answer, as one behind a firewall: all who may wait there do so."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, socket.socket() as first:
        first.connect(listener.getsockname())
        yield info(listener)


def peer_of_first(*infos: Info) -> object:
    """Return where a connection to the first of these addresses leads."""

    async def go() -> object:
        with await asyncio.wait_for(connect_to_first(infos), LIMIT) as connected:
            return connected.getpeername()

    return asyncio.run(go())


def test_a_name_is_connected_to(server: socket.socket) -> None:
    """By whichever of its addresses."""

    async def go() -> None:
        for host in ("localhost", "127.0.0.1"):
            with await asyncio.wait_for(connect(host, server.getsockname()[1]), LIMIT) as connected:
                assert connected.getpeername() == server.getsockname()

    asyncio.run(go())


def test_an_address_that_refuses_is_passed_over(server: socket.socket, nobody: Info) -> None:
    """At once."""
    assert peer_of_first(nobody, info(server)) == server.getsockname()


def test_an_address_that_does_not_answer_holds_nobody_up(
    server: socket.socket, silent: Info, nobody: Info, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next ones are tried beside it."""
    monkeypatch.setattr(addresses, "NEXT_ADDRESS", 0.01)
    assert peer_of_first(silent, nobody, info(server)) == server.getsockname()


def test_an_address_that_answers_late_is_waited_for(
    server: socket.socket, nobody: Info, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the others refuse, however soon they were tried."""
    monkeypatch.setattr(addresses, "NEXT_ADDRESS", 0.0)
    assert peer_of_first(info(server), nobody, nobody) == server.getsockname()


def test_why_none_could_be_reached_is_told(nobody: Info) -> None:
    """Each reason once."""
    with pytest.raises(OSError, match=r"^\[Errno 111\] Connect call failed \('127.0.0.1', \d+\)$"):
        peer_of_first(nobody, nobody)


def test_addresses_of_two_kinds_take_turns() -> None:
    """Where all of the first kind cannot be reached, the second is not tried last."""
    found: list[Info] = [(family, 1, 6, "", (name, 1)) for family, name in ((10, "a"), (10, "b"), (2, "c"), (2, "d"))]
    assert [each[4][0] for each in addresses.alternating(found)] == ["a", "c", "b", "d"]


def test_whenever_it_is_given_up_nothing_is_left_open(server: socket.socket, nobody: Info) -> None:
    """Neither what was connecting nor what had just connected."""

    async def go() -> None:
        for turns in range(TURNS):
            before = len(os.listdir("/proc/self/fd"))
            attempt = asyncio.create_task(connect_to_first([nobody, info(server), info(server)]))
            for _ in range(turns):
                await asyncio.sleep(0)
            if not attempt.cancel():
                attempt.result().close()
            await asyncio.wait([attempt])
            for _ in range(3):
                await asyncio.sleep(0)
            assert len(os.listdir("/proc/self/fd")) == before
            gc.collect()  # it would warn of a socket that nobody has closed
        assert attempt.done()
        assert not attempt.cancelled()

    asyncio.run(go())
