"""Monitors under ``alarm-mw run``, and in process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

ALARM = ("--alarm", "a cmd:cat >> out.txt; echo >> out.txt", "--alarm-freq", "0")

SERVER = """
import socket, sys
server = socket.create_server(("127.0.0.1", 0), backlog=8)
print(server.getsockname()[1], server.fileno(), flush=True)
sys.stdin.readline()
server.settimeout(0)
try:
    while True:
        server.accept()[0].close()
except BlockingIOError:
    print("drained", flush=True)
sys.stdin.read()
"""

METRICS = """
import sys
from alarm_mw import metrics
for line in sys.stdin:
    print(metrics.inc("orders", int(line)), metrics.get("orders") >= 0, flush=True)
"""


class Server:
    """A server that runs under ``alarm-mw run``, and what its alarms said."""

    def __init__(self, installation: Any, until: Callable[..., None], process: subprocess.Popen[bytes]) -> None:
        self.out: Path = installation.directory / "out.txt"
        self.process = process
        self._installation = installation
        self._until = until

    def read(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().decode()

    def say(self, text: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def alarms(self, count: int) -> list[str]:
        """Wait until there are `count` alarms, and return them."""
        self._until(lambda: self.out.exists() and len(self.out.read_text().splitlines()) >= count)
        return self.out.read_text().splitlines()

    def master(self) -> int:
        """Return the master's process id, of a server that has printed something."""
        (master,) = self._installation.masters(self.process.pid)
        return int(master)


@pytest.fixture
def serve(installation: Any, until: Callable[..., None]) -> Iterator[Callable[..., Server]]:
    """Give a starter of servers, each a Python program with options for ``alarm-mw run``."""
    with ExitStack() as running:

        def start(options: tuple[str, ...], program: str, **keywords: Any) -> Server:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            process = installation.start((*ALARM, *options), sys.executable, "-c", program, **pipes, **keywords)
            running.enter_context(process)
            running.callback(process.terminate)
            return Server(installation, until, process)

        yield start


def test_a_listen_queue_filled_on_purpose(serve: Callable[..., Server]) -> None:
    """A server that does not accept, backlog 8: the alarm fires, and is resolved when the queue drains."""
    server = serve(("--alarm-backlog", "a"), SERVER)
    port, fd = map(int, server.read().split())
    with ExitStack() as clients:
        for _ in range(8):
            clients.enter_context(socket.create_connection(("127.0.0.1", port)))
        queue = f'listen queue of socket "127.0.0.1:{port}" (fd: {fd})'
        assert server.alarms(1) == [f"{queue} full !!! (8/8)"]
        server.say("drain\n")
        assert server.read() == "drained\n"
        assert server.alarms(2)[1:] == [f"{queue} full is over (0/8)"]


def test_an_inherited_descriptor(serve: Callable[..., Server], until: Callable[..., None]) -> None:
    """A descriptor that our caller has opened is watched by every master, and the server has it too."""
    counter = os.eventfd(0)
    program = f"import os\nprint(os.readlink('/proc/self/fd/{counter}'), flush=True)\ninput()"
    server = serve(("--alarm-fd", f"a {counter} damn it !!!"), program, pass_fds=[counter])
    assert server.read() == "anon_inode:[eventfd]\n"
    os.eventfd_write(counter, 1)
    assert server.alarms(1) == ["damn it !!!"]
    os.kill(server.master(), signal.SIGKILL)
    os.eventfd_write(counter, 1)
    assert server.alarms(2) == ["damn it !!!"] * 2
    os.close(counter)


def test_a_descriptor_that_was_not_open(installation: Any) -> None:
    """A number that nobody has opened is told of, and nothing of ours is mistaken for it; the server runs."""
    options = (*ALARM, *(word for number in range(3, 12) for word in ("--alarm-fd", f"a {number} x")))
    result = installation.run(options, "true")
    assert result.returncode == 0
    warnings = result.stderr.decode().splitlines()
    assert len(warnings) == 9
    assert warnings[0].endswith("--alarm-fd (1st): descriptor 3 was not open at the start and is not watched")
    assert not (installation.directory / "out.txt").exists()


def test_a_fifo(serve: Callable[..., Server], tmp_path: Path) -> None:
    """A FIFO is watched by its path, and goes on when its writers leave."""
    os.mkfifo(tmp_path / "fifo")
    server = serve(("--alarm-fd", f"a {tmp_path}/fifo damn it !!!"), "print(flush=True); input()")
    server.read()
    for count in (1, 2):
        (tmp_path / "fifo").write_bytes(b"x")
        assert server.alarms(count) == ["damn it !!!"] * count


def test_metrics_of_the_application(serve: Callable[..., Server]) -> None:
    """What the server's processes count is added up in the master, and a killed master forgets nothing of it.

    What it takes at that very moment may count twice.
    """
    server = serve(("--metric-alarm", "key=orders,value=5,alarm=a,msg={value} orders"), METRICS)
    for number in (2, 4):
        server.say(f"{number}\n")
        assert server.read() == "True True\n"
        os.kill(server.master(), signal.SIGKILL)
    (alarm,) = server.alarms(1)
    assert alarm in {"6 orders", "8 orders", "10 orders", "12 orders"}


def test_columns_of_the_ledger(serve: Callable[..., Server]) -> None:
    """A column of the ledger is a metric as well."""
    server = serve(
        ("--metric-alarm", "key=source.stdout.lines,value=3,alarm=a"), "print('a\\nb\\nc', flush=True); input()"
    )
    assert server.alarms(1) == ["source.stdout.lines"]


def test_in_process(tmp_path: Path) -> None:
    """Without ``run`` it is this process's own sockets that are looked at."""
    program = """
import socket, threading, pathlib
import alarm_mw
alarm_mw.init("alarms.toml")
server = socket.create_server(("127.0.0.1", 0), backlog=1)
clients = [socket.create_connection(server.getsockname()) for _ in range(1)]
out, pause = pathlib.Path("out.txt"), threading.Event()
for _ in range(1000):
    if out.exists() and out.read_text(): break
    pause.wait(0.01)
"""
    (tmp_path / "alarms.toml").write_text(
        'alarms.a = "cmd:cat >> out.txt"\n[[monitors]]\nmonitor = "backlog"\nalarms = "a"\ninterval = 0.01\n'
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "out.txt").read_text().endswith("full !!! (1/1)")


INCIDENTS = """
[alarms.told]
action = "cmd"
command = "echo $ALARM_STATUS $ALARM_KEY >> told.txt"
[[monitors]]
monitor = "backlog"
name = "queue"
alarms = "told"
interval = 0.05
[[monitors]]
monitor = "process"
name = "worker"
command = "queue-worker"
missing_for = 0.1
interval = 0.05
alarms = "told"
"""

WITH_WORKER = """
import socket, subprocess, sys
child = [sys.executable, "-c", "import sys; sys.stdin.read()", "queue-worker"]
worker = subprocess.Popen(child, stdin=subprocess.PIPE)
server = socket.create_server(("127.0.0.1", 0), backlog=8)
print(server.getsockname()[1], flush=True)
sys.stdin.readline()
for _ in range(8):
    server.accept()[0].close()
print("drained", flush=True)
sys.stdin.readline()
worker.stdin.close()
worker.wait()
print("no worker", flush=True)
sys.stdin.readline()
"""


def test_incidents_of_monitors(installation: Any, until: Callable[..., None]) -> None:
    """A full queue and a missing process are incidents; an end that no master saw is told by the next one."""
    (installation.directory / "alarms.toml").write_text(INCIDENTS)
    told = installation.directory / "told.txt"

    def lines() -> list[str]:
        return told.read_text().splitlines() if told.exists() else []

    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with installation.start(["--config", "alarms.toml"], sys.executable, "-c", WITH_WORKER, **pipes) as run:
        server = Server(installation, until, run)
        port = int(server.read())
        with ExitStack() as clients:
            for _ in range(8):
                clients.enter_context(socket.create_connection(("127.0.0.1", port)))
            until(lambda: lines() == [f"firing socket=127.0.0.1:{port}"])
            os.kill(server.master(), signal.SIGKILL)
            server.say("drain\n")
            assert server.read() == "drained\n"
        until(lambda: lines()[1:] == [f"resolved socket=127.0.0.1:{port}"])
        server.say("end the worker\n")
        assert server.read() == "no worker\n"
        until(lambda: lines()[2:] == ["firing"])
        run.terminate()
