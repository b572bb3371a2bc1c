"""``alarm-fd``, with real descriptors."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from alarm_mw.model.errors import OptionError
from alarm_mw.monitors.fd.monitor import FdMonitor, FdOptions


def test_each_read_is_an_alarm(running: Any) -> None:
    """Three bytes in a pipe, read one by one, fire three times with the message."""
    reading, writing = os.pipe()

    async def scenario() -> None:
        async with running((FdMonitor, FdOptions(fd=reading, message="damn it !!!"))) as stage:
            os.write(writing, b"abc")
            assert [await stage.next() for _ in range(3)] == ["damn it !!!"] * 3

    asyncio.run(scenario())
    os.close(reading)
    os.close(writing)


def test_a_short_read_does_not_block(running: Any) -> None:
    """Where less is there than is to be read, what is there counts, and the others go on."""
    (reading, writing), (other_reading, other_writing) = os.pipe(), os.pipe()

    async def scenario() -> None:
        first = FdOptions(fd=reading, bytes=1000, message="first")
        async with running((FdMonitor, first), (FdMonitor, FdOptions(fd=other_reading, message="second"))) as stage:
            os.write(writing, b"a")
            assert await stage.next() == "first"
            os.write(other_writing, b"a")
            assert await stage.next() == "second"

    asyncio.run(scenario())
    for fd in (reading, writing, other_reading, other_writing):
        os.close(fd)


def test_several_watch_one_descriptor(running: Any) -> None:
    """What is read once fires for all of them, and one that leaves does not take it from the others."""
    counter = os.eventfd(0)

    async def scenario() -> None:
        options = [FdOptions(fd=counter, message=message) for message in ("one", "two")]
        async with running(*((FdMonitor, each) for each in options)) as stage:
            os.eventfd_write(counter, 5)
            assert {await stage.next(), await stage.next()} == {"one", "two"}
            stage.tasks[0].cancel()
            await asyncio.wait([stage.tasks[0]])
            os.eventfd_write(counter, 1)
            assert await stage.next() == "two"
            assert stage.fired.empty()

    asyncio.run(scenario())
    os.close(counter)


def _a_pipe_ends() -> tuple[int, Callable[[], None]]:
    reading, writing = os.pipe()
    return reading, lambda: os.close(writing)


def _a_socket_ends() -> tuple[int, Callable[[], None]]:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.close


@pytest.mark.parametrize("make", [_a_pipe_ends, _a_socket_ends])
def test_the_end_is_logged_and_fires_nothing(make: Any, running: Any) -> None:
    """At the end of file the log says so, and the descriptor is watched no more."""
    number, end = make()

    async def scenario() -> None:
        async with running((FdMonitor, FdOptions(fd=number, message="x"))) as stage:
            end()
            await stage.end()
            assert b"".join(stage.log).decode().splitlines() == [
                f"[uwsgi-alarm-fd] {number}: end of file",
                f"[uwsgi-alarm-fd] i will stop monitoring fd {number}",
            ]
            assert stage.fired.empty()

    asyncio.run(scenario())
    os.close(number)


@pytest.mark.parametrize(
    ("open_it", "cause"),
    [
        (lambda: os.open("/", os.O_RDONLY), "Operation not permitted"),
        (lambda: socket.create_server(("127.0.0.1", 0)).detach(), "Transport endpoint is not connected"),
    ],
    ids=["cannot be waited for", "cannot be read"],
)
def test_a_failure_is_logged(open_it: Callable[[], int], cause: str, running: Any) -> None:
    """What cannot be waited for or read is told of with the cause, and not tried again."""
    number = open_it()

    async def scenario() -> None:
        async with running((FdMonitor, FdOptions(fd=number, message="x"))) as stage:
            if "connected" in cause:
                with socket.socket(fileno=os.dup(number)) as server:
                    socket.create_connection(server.getsockname()).close()
            await stage.end()
            assert stage.log[0].decode() == f"[uwsgi-alarm-fd] {number}: {cause}\n"

    asyncio.run(scenario())
    os.close(number)


def test_paths(tmp_path: Path, running: Any) -> None:
    """A FIFO and a socket are watched by their names."""
    fifo, path = tmp_path / "fifo", str(tmp_path / "socket")
    os.mkfifo(fifo)

    async def scenario(server: socket.socket) -> None:
        monitors = [
            (FdMonitor, FdOptions(path=str(fifo), message="fifo")),
            (FdMonitor, FdOptions(path=path, message="socket")),
        ]
        async with running(*monitors) as stage:
            peer, _ = await asyncio.get_running_loop().sock_accept(server)
            with peer:
                fifo.write_bytes(b"x")
                assert await stage.next() == "fifo"
                peer.send(b"x")
                assert await stage.next() == "socket"
            with pytest.raises(EOFError):
                await asyncio.wait_for(asyncio.shield(stage.tasks[1]), 10)

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        server.setblocking(False)
        asyncio.run(scenario(server))


def test_a_file(tmp_path: Path, running: Any) -> None:
    """A regular file fires when it has grown, though the system cannot wait for that."""
    path = tmp_path / "file"
    path.write_bytes(b"old")

    async def scenario() -> None:
        async with running((FdMonitor, FdOptions(path=str(path), message="grown"))) as stage:
            await asyncio.sleep(0)
            with path.open("ab") as file:
                file.write(b"new")
            assert await stage.next() == "grown"

    asyncio.run(scenario())


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path, running: Any) -> None:
    """A name is an error to whoever runs the monitor, which is then run again: it may be there later."""

    async def scenario() -> None:
        async with running((FdMonitor, FdOptions(path=str(tmp_path / "no"), message="x"))) as stage:
            with pytest.raises(FileNotFoundError):
                await stage.end()

    asyncio.run(scenario())


def test_a_flood_leaves_room_for_others(running: Any) -> None:
    """A source that never runs dry does not keep the loop from anything else."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    async def pour() -> None:
        while True:
            try:
                os.write(writing, bytes(65536))
            except BlockingIOError:
                await asyncio.sleep(0)

    async def scenario() -> None:
        async with running((FdMonitor, FdOptions(fd=reading, message="x"))) as stage:
            pouring = asyncio.create_task(pour())
            for _ in range(20):
                await stage.next()
            pouring.cancel()

    asyncio.run(scenario())
    for fd in (reading, writing):
        os.close(fd)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("3 damn it !!!", {"fd": 3, "bytes": None, "message": "damn it !!!"}),
        ("3:1 damn it !!!", {"fd": 3, "bytes": 1, "message": "damn it !!!"}),
        ("17:8  two blanks", {"fd": 17, "bytes": 8, "message": " two blanks"}),
        ("/run/app.fifo message", {"path": "/run/app.fifo", "bytes": None}),
        ("./fifo:10 message", {"path": "./fifo", "bytes": 10}),
        ("/run/a:b message", {"path": "/run/a:b", "bytes": None}),
    ],
)
def test_uwsgis_syntax(args: str, expected: dict[str, object]) -> None:
    """``FD[:BYTES] MESSAGE`` as in uWSGI, and a path in the place of the number."""
    assert expected.items() <= msgspec.structs.asdict(FdMonitor.from_uwsgi(args)).items()


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ("", "expected FD"),
        ("3", "before the message"),
        ("3:1", "before the message"),
        ("x y", "a number or a path with a slash, got 'x'"),
        ("3:x y", "a number or a path with a slash, got '3:x'"),
        ("1 y", "standard descriptor"),
        ("3:0 y", "bytes: expected a number from 1"),
    ],
)
def test_mistakes(args: str, text: str) -> None:
    """What is wrong is told with what was expected."""
    with pytest.raises(OptionError, match=text):
        FdMonitor.from_uwsgi(args)


@pytest.mark.parametrize("values", [{}, {"fd": 3, "path": "/x"}, {"path": ""}, {"path": "a\0b"}])
def test_one_source_and_one_only(values: dict[str, Any]) -> None:
    """Either a number or a path, and one that can be."""
    with pytest.raises(ValueError, match="expected"):
        FdOptions(message="x", **values)


def test_which_descriptors_are_needed() -> None:
    """A number has to be handed down to the master, a path has not."""
    assert FdOptions(fd=7, message="x").descriptors == (7,)
    assert FdOptions(path="/x", message="x").descriptors == ()
