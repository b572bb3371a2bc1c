"""Who is let in, and what a metrics port shows."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from alarm_mw.master.control.api import metrics_app
from alarm_mw.master.control.listening import listen
from alarm_mw.master.control.servers import BACKLOG, LazyServer, MetricsPort
from alarm_mw.system.peers import GuardedSocket, is_owners


def call_as(user: int, path: Path) -> int:
    """Start a process of that user's which calls and exits with the number of bytes that it is told."""
    pid = os.fork()
    if pid == 0:
        told = 99
        try:
            os.setuid(user)
            with socket.socket(socket.AF_UNIX) as caller:
                caller.settimeout(10)
                caller.connect(str(path))
                told = len(caller.recv(10))
        finally:
            os._exit(told)
    return pid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize(("user", "expected"), [(0, 5), (65534, 0)])
def test_others_are_hung_up_on(user: int, expected: int) -> None:
    """Even where a file's mode would let them in, only this user and root are answered."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        guarded = GuardedSocket.of(listen(Path(folder, "s"), BACKLOG, 0o666), is_owners)
        guarded.setblocking(True)
        caller = call_as(user, Path(folder, "s"))
        try:
            connection, _ = guarded.accept()
        except ConnectionAbortedError:
            pass
        else:
            connection.send(b"hello")
            connection.close()
        guarded.close()
        assert os.waitstatus_to_exitcode(os.waitpid(caller, 0)[1]) == expected


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def free_ports(n: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def test_a_metrics_port_shows_metrics_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """It moves with the configuration; an address that is taken is told of, and harms nothing else."""
    first, second = free_ports(2)

    async def play(port: MetricsPort, ask: Callable[[int, str], Coroutine[None, None, tuple[int, bytes]]]) -> None:
        await port.listen_at(f"127.0.0.1:{first}")
        await port.listen_at(f"127.0.0.1:{first}")
        assert await ask(first, "/metrics") == (200, b"shown")
        assert (await ask(first, "/status"))[0] == 404
        await port.listen_at(f"127.0.0.1:{second}")
        assert await ask(second, "/metrics") == (200, b"shown")
        with pytest.raises(ConnectionRefusedError):
            await ask(first, "/metrics")
        with socket.create_server(("127.0.0.1", first)):
            await port.listen_at(f"127.0.0.1:{first}")
        assert f"127.0.0.1:{first}" in caplog.text
        await port.listen_at(f"127.0.0.1:{first}")
        assert await ask(first, "/metrics") == (200, b"shown")
        await port.listen_at("")
        await port.stop()

    async def ask(port: int, path: str) -> tuple[int, bytes]:
        return await asyncio.to_thread(get, port, path)

    asyncio.run(play(MetricsPort(lambda: b"shown"), ask))


@pytest.mark.parametrize("turns", range(6))
def test_a_caller_that_comes_at_the_end_does_not_delay_it(turns: int, caplog: pytest.LogCaptureFixture) -> None:
    """In whatever turn of the event loop a caller arrives, the server ends at once and has nothing to say."""

    async def play(listener: socket.socket) -> None:
        listener.setblocking(False)
        server = LazyServer("metrics", listener, lambda: metrics_app(lambda: b"shown"))
        await server.start()
        address = listener.getsockname()
        await asyncio.to_thread(get, address[1], "/metrics")
        with socket.create_connection(address):
            for _ in range(turns):
                await asyncio.sleep(0)
            await server.stop(10)

    asyncio.run(play(socket.create_server(("127.0.0.1", 0))))
    assert caplog.text == ""
