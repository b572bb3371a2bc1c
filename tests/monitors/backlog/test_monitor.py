"""``alarm-backlog``, with real sockets that nobody accepts from."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from alarm_mw.model.errors import OptionError
from alarm_mw.monitors.backlog.monitor import BacklogMonitor, BacklogOptions

OFTEN = 0.01


def fill(clients: ExitStack, address: Any, family: int, count: int) -> None:
    for _ in range(count):
        client = clients.enter_context(socket.socket(family))
        client.setblocking(False)
        client.connect_ex(address)


def drain(server: socket.socket, count: int) -> None:
    for _ in range(count):
        server.accept()[0].close()


@pytest.fixture(params=["tcp", "tcp6", "unix"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Give a server with a listen queue of 8, and the name by which it is told of."""
    if request.param == "unix":
        path = str(tmp_path / "app.sock")
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)
        listening.listen(8)
        name = path
    else:
        host, family = ("127.0.0.1", socket.AF_INET) if request.param == "tcp" else ("::1", socket.AF_INET6)
        listening = socket.create_server((host, 0), family=family, backlog=8)
        port = listening.getsockname()[1]
        name = f"127.0.0.1:{port}" if request.param == "tcp" else f"[::1]:{port}"
    with listening:
        yield listening, name


def test_a_queue_filled_on_purpose(server: Any, running: Any) -> None:
    """With eight connections waiting the alarm fires once, and it is over once they were accepted."""
    listening, name = server
    socket_is = f'listen queue of socket "{name}" (fd: {listening.fileno()})'

    async def scenario(clients: ExitStack) -> None:
        async with running((BacklogMonitor, BacklogOptions(interval=OFTEN))) as stage:
            fill(clients, listening.getsockname(), listening.family, 8)
            assert await stage.next() == f"{socket_is} full !!! (8/8)"
            drain(listening, 8)
            assert (await stage.next()).startswith(f"{socket_is} full is over (")
            assert stage.fired.empty()

    with ExitStack() as clients:
        asyncio.run(scenario(clients))


def test_a_threshold(server: Any, running: Any) -> None:
    """At 50 % four of eight waiting connections are enough."""
    listening, _ = server

    async def scenario(clients: ExitStack) -> None:
        async with running((BacklogMonitor, BacklogOptions(interval=OFTEN, percent=50))) as stage:
            fill(clients, listening.getsockname(), listening.family, 4)
            assert (await stage.next()).endswith(" at 50 % !!! (4/8)")
            drain(listening, 1)
            assert (await stage.next()).endswith(" at 50 % is over (3/8)")

    with ExitStack() as clients:
        asyncio.run(scenario(clients))


SERVER = """
import os, socket, sys
os.chdir(sys.argv[1])
server = socket.socket(socket.AF_UNIX)
server.bind("app.sock")
server.listen(1)
if os.fork() == 0:
    print(server.fileno(), flush=True)
    sys.stdin.read()
else:
    os.wait()
"""


@pytest.mark.parametrize("how", ["server", "named", "elsewhere"])
def test_the_servers_sockets(how: str, tmp_path: Path, running: Any, make_stage: Callable[[], Any]) -> None:
    """The sockets of the server's processes are found, those of others are not, and named ones are whoever's."""
    path = str(tmp_path / "app.sock")
    names = () if how == "server" else (path,)

    async def scenario(stage: Any, fd: int, clients: ExitStack) -> None:
        async with stage.running((BacklogMonitor, BacklogOptions(interval=OFTEN, sockets=names))):
            fill(clients, path, socket.AF_UNIX, 2)
            number = "" if how == "elsewhere" else f" (fd: {fd})"
            assert (await stage.next()).startswith(f'listen queue of socket "app.sock"{number} full !!! (')
            assert stage.fired.empty()

    command = [sys.executable, "-c", SERVER, str(tmp_path)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
        socket.create_server(("127.0.0.1", 0), backlog=0) as other,
        ExitStack() as clients,
    ):
        assert process.stdin
        assert process.stdout
        fd = int(process.stdout.readline())
        fill(clients, other.getsockname(), socket.AF_INET, 1)
        stage = make_stage()
        stage.server = process.pid if how != "elsewhere" else 2**22 + 1
        asyncio.run(scenario(stage, fd, clients))
        process.stdin.close()


def test_incidents_of_queues(make_stage: Callable[[], Any], server: Any) -> None:
    """With incidents, the monitor says at first and at each change which queues are full, by the sockets' addresses."""
    listening, name = server
    prefix = f'listen queue of socket "{name}" (fd: {listening.fileno()}) full'

    async def scenario(clients: ExitStack) -> None:
        stage = make_stage()
        stage.has_incidents = True
        async with stage.running((BacklogMonitor, BacklogOptions(interval=OFTEN))):
            wrong, _ = await stage.reported()
            assert wrong == {}
            fill(clients, listening.getsockname(), listening.family, 9)
            wrong, _ = await stage.reported()
            assert list(wrong) == [name]
            assert wrong[name].decode().startswith(f"{prefix} !!! (")
            drain(listening, 9)
            wrong, over = await stage.reported()
            assert wrong == {}
            assert over[name].decode().startswith(f"{prefix} is over (")
            fill(clients, listening.getsockname(), listening.family, 9)
            assert list((await stage.reported())[0]) == [name]
            listening.close()
            assert await stage.reported() == ({}, {name: b"the socket was closed"})
            assert stage.fired.empty()

    with ExitStack() as clients:
        asyncio.run(scenario(clients))


def test_a_server_that_has_ended(make_stage: Callable[[], Any], server: Any) -> None:
    """Under `run`, the sockets of the alarm master are never taken for the server's."""
    listening, _ = server

    async def scenario(clients: ExitStack) -> None:
        stage = make_stage()
        stage.server = 2**22 + 1
        async with stage.running((BacklogMonitor, BacklogOptions(interval=OFTEN))):
            stage.server = None
            fill(clients, listening.getsockname(), listening.family, 9)
            await stage.looked(3)
            assert stage.fired.empty()

    with ExitStack() as clients:
        asyncio.run(scenario(clients))


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("", {}),
        ("percent=80", {"percent": 80}),
        ("percent=80;sockets=127.0.0.1:80,/run/a;interval=0.5", {"percent": 80, "interval": 0.5}),
    ],
)
def test_uwsgis_syntax(args: str, expected: dict[str, object]) -> None:
    """Behind the alarm's name stands nothing, as in uWSGI, or options of ours."""
    assert expected.items() <= msgspec.structs.asdict(BacklogMonitor.from_uwsgi(args)).items()


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ("80", "expected key=value"),
        ("percent=0", "percent: "),
        ("percents=1", "did you mean 'percent'"),
        ("sockets=localhost:1", "no address before its port"),
    ],
)
def test_mistakes(args: str, text: str) -> None:
    """What is wrong is told with what was expected."""
    with pytest.raises(OptionError, match=text):
        BacklogMonitor.from_uwsgi(args)


def test_nothing_stays_open(running: Any) -> None:
    """A monitor that is cancelled has closed its netlink socket."""

    async def scenario() -> None:
        before = len(os.listdir("/proc/self/fd"))
        async with running((BacklogMonitor, BacklogOptions())):
            await asyncio.sleep(0)
            assert len(os.listdir("/proc/self/fd")) == before + 1
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(scenario())
