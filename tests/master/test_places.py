"""The files of a run, removed while it runs."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from alarm_mw.master.control.listening import listen
from alarm_mw.master.link import Link
from alarm_mw.master.places import Places
from alarm_mw.supervisor.plan import Plan
from alarm_mw.supervisor.records import RecordsSocket
from alarm_mw.transports.places import control_path, nameless_address


@pytest.fixture
def supervisor() -> Iterator[tuple[Link, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with closing(Link(ours)) as link, theirs:
        yield link, theirs


def _plan(state: Path, lock: int | None = None) -> Plan:
    return Plan(["true"], ["true"], str(state / "alarm.sock"), "run", lock, settings={"state_dir": str(state)})


def test_what_is_whole_is_left_alone(tmp_path: Path, supervisor: tuple[Link, socket.socket]) -> None:
    """The socket for records stays the one that the supervisor has."""
    records = RecordsSocket.bind(str(tmp_path / "alarm.sock"))
    places = Places(_plan(tmp_path), supervisor[0])
    assert places.restored(records.listening) is records.listening
    assert places.report == ""
    assert not places.are_whole()  # no control socket
    (tmp_path / "alarm.sock.control").touch()
    assert places.are_whole()
    records.close()


def test_a_removed_directory_is_made_again(tmp_path: Path, supervisor: tuple[Link, socket.socket]) -> None:
    """A master that starts without it makes directory, lock and socket, and gives the latter to the supervisor."""
    state = tmp_path / "state"
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    former = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link, theirs = supervisor
    places = Places(_plan(state, lock), link)
    with places.restored(former) as listener, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as worker:
        worker.connect(str(state / "alarm.sock"))
        listener.accept()[0].close()
    heard = [socket.recv_fds(theirs, 100, 1) for _ in range(2)]
    assert [message for message, *_ in heard] == [b"lock", b"listen"]
    assert os.fstat(heard[0][1][0]).st_ino == (state / "lock").stat().st_ino == os.fstat(lock).st_ino
    assert str(state) in places.report
    for _, descriptors, *_ in heard:
        os.close(descriptors[0])
    os.close(lock)


def test_a_place_where_nothing_can_be_made_is_reported_once(
    tmp_path: Path, supervisor: tuple[Link, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    """A master works without it, and goes on looking."""
    (tmp_path / "file").touch()
    places = Places(_plan(tmp_path / "file" / "state"), supervisor[0])
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        assert places.restored(listener) is listener
    assert not places.make_directories()
    assert len(caplog.messages) == 1
    assert "alarms go on from memory" in caplog.text


def test_a_running_master_makes_way(tmp_path: Path, supervisor: tuple[Link, socket.socket]) -> None:
    """When its files are removed and can be made again, another master is to make them."""
    places = Places(_plan(tmp_path / "state"), supervisor[0])

    async def scene() -> None:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        watching = asyncio.create_task(places.watch(lambda: loop.call_soon_threadsafe(over.set)))
        async with asyncio.timeout(10.0):
            await over.wait()
        watching.cancel()
        await asyncio.wait([watching])

    asyncio.run(scene())
    assert (tmp_path / "state").is_dir()


def test_a_control_socket_needs_no_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where no file can be made, the socket has a name that is known to who knows the path."""
    (tmp_path / "file").touch()
    path = control_path(str(tmp_path / "file" / "alarm.sock"))
    with listen(Path(path), 1), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.connect(nameless_address(path))
    assert "no socket can be made" in caplog.text
