"""Signals to the workers of a real gunicorn, and to mules beside it."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ports import answers
from waiting import LIMIT

#: Every handler writes down its signal and who it is. A request raises the signal that it names.
APP = """
import os
import alarm_mw

def note(number):
    with open("ran", "a") as ran:
        ran.write(f"{number} {os.getpid()} worker\\n")

alarm_mw.on_signal(1)(note)
alarm_mw.on_signal(2, target="workers")(note)
alarm_mw.on_signal(3, target="worker2")(note)
alarm_mw.on_signal(5, target="mules")(note)

@alarm_mw.on_signal(7, target="workers")
def fail(number):
    raise RuntimeError("on purpose")

with open("loaded", "a") as loaded:
    loaded.write(f"{os.getpid()}\\n")

def app(environ, start_response):
    print("RAISE", environ["QUERY_STRING"] + "!")
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""

MULE = """
import os
import uwsgi

def note(number):
    with open("ran", "a") as ran:
        ran.write(f"{number} {os.getpid()} mule{uwsgi.mule_id()}\\n")

uwsgi.register_signal(4, "mule", note)
uwsgi.register_signal(5, "mules", note)
uwsgi.register_signal(6, "mule2", note)
uwsgi.register_signal(2, "workers", note)
"""

NUMBERS = range(1, 10)

A_WHILE = 2.0


class Ran(NamedTuple):
    """What a handler has written down."""

    number: int
    pid: int
    who: str


class Running:
    """gunicorn with three workers and two mules."""

    def __init__(self, installation: Any, until: Callable[..., None], *flags: str) -> None:
        self.installation = installation
        self.until = until
        self.directory: Path = installation.directory
        (self.directory / "app.py").write_text(APP)
        (self.directory / "mule.py").write_text(MULE)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        alarms = [option for n in NUMBERS for option in self._alarm(n)]
        gunicorn = str(Path(sys.executable).with_name("gunicorn"))
        with (self.directory / "log").open("wb") as log:
            self.process: subprocess.Popen[bytes] = installation.start(
                (*alarms, "--alarm-freq", "0", "--mule", "mule.py", "--mule", "mule.py"),
                *(gunicorn, "-w", "3", *flags, "-b", f"127.0.0.1:{self.port}", "app:app"),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @staticmethod
    def _alarm(number: int) -> tuple[str, ...]:
        return ("--alarm", f"s{number} signal:{number}", "--log-alarm", f"s{number} ^RAISE {number}!")

    def request(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", f"/?{number}")
        assert connection.getresponse().read() == b"ok"
        connection.close()

    def ran(self, number: int) -> list[Ran]:
        file = self.directory / "ran"
        rows = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        return [Ran(int(n), int(pid), who) for n, pid, who in rows if int(n) == number]

    def raise_signal(self, number: int, count: int) -> list[Ran]:
        """Raise a signal, and return what its handlers wrote when there were `count`."""
        before = len(self.ran(number))
        self.request(number)
        self.until(lambda: len(self.ran(number)) >= before + count)
        return self.ran(number)[before:]

    def wait_for_workers(self, count: int) -> set[int]:
        """Raise signal 2 until so many workers answer to it, and return their pids."""
        pids: set[int] = set()

        def are_there() -> bool:
            before = len(self.ran(2))
            self.request(2)
            with contextlib.suppress(TimeoutError):  # one of them was not there yet
                self.until(lambda: len(self._pids_of_workers(before)) == count, A_WHILE)
                pids.update(self._pids_of_workers(before))
            return bool(pids)

        self.until(are_there, LIMIT)
        return pids

    def _pids_of_workers(self, before: int) -> set[int]:
        return {ran.pid for ran in self.ran(2)[before:]}

    def delivered(self, number: int) -> int:
        return int(self.installation.status()["alarms"][f"s{number}"]["delivered"])

    def log(self) -> str:
        return (self.directory / "log").read_text()


@pytest.fixture
def start(installation: Any, until: Callable[..., None]) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def run(*flags: str) -> Running:
        server = Running(installation, until, *flags)
        running.append(server)
        until(lambda: answers(server.port))
        return server

    yield run
    for server in running:
        server.process.terminate()
        server.process.wait(60)


def test_each_target_gets_what_is_for_it(start: Callable[..., Running], until: Callable[..., None]) -> None:
    """One worker, all of them, the second; one mule, both, the second: each signal runs where uWSGI would run it."""
    server = start()
    workers = server.wait_for_workers(3)
    assert {ran.pid for ran in server.raise_signal(1, 1)} < workers
    assert {ran.pid for ran in server.raise_signal(3, 1)} < workers
    assert [ran.who[:4] for ran in server.raise_signal(4, 1)] == ["mule"]
    assert sorted(ran.who for ran in server.raise_signal(5, 2)) == ["mule1", "mule2"]
    assert [ran.who for ran in server.raise_signal(6, 1)] == ["mule2"]
    until(lambda: all(server.delivered(n) >= 1 for n in (1, 3, 4, 5, 6)))
    # Each alarm's signals are in order: when these ran, nothing more of the first ones was to come.
    for number in (1, 3, 4, 6):
        server.raise_signal(number, 1)
        assert len(server.ran(number)) == 2
    assert {ran.who for ran in server.ran(2)} == {"worker"}
    assert server.installation.status()["imbalances"] == []


def test_a_replaced_worker_takes_its_predecessors_place(start: Callable[..., Running]) -> None:
    """The worker that was killed is succeeded by the one that gunicorn starts for it, number and all."""
    server = start()
    before = server.wait_for_workers(3)
    (second,) = server.raise_signal(3, 1)
    os.kill(second.pid, signal.SIGKILL)
    after: set[int] = set()
    while len(after) < 3 or after == before:
        after = server.wait_for_workers(3)
    (heir,) = server.raise_signal(3, 1)
    assert heir.pid in after - before


def test_a_handler_that_raises_harms_nobody(start: Callable[..., Running], until: Callable[..., None]) -> None:
    """Its exception is logged by each worker, and the next signal is handled."""
    server = start()
    workers = server.wait_for_workers(3)
    server.request(7)
    until(lambda: server.log().count("RuntimeError: on purpose") == 3)
    assert server.log().count("exception in the handler of signal 7") == 3
    assert server.wait_for_workers(3) == workers
    assert server.delivered(7) == 1


def test_workers_find_the_next_master(start: Callable[..., Running], until: Callable[..., None]) -> None:
    """After the master was killed, workers and the new mules register with its successor."""
    server = start()
    workers = server.wait_for_workers(3)
    master = server.installation.status()["pid"]
    os.kill(master, signal.SIGKILL)
    until(lambda: server.installation.status().get("pid", master) != master)
    assert server.wait_for_workers(3) == workers
    server.raise_signal(6, 1)


def test_a_preloaded_application_is_signalled_in_its_workers(start: Callable[..., Running]) -> None:
    """Handlers that gunicorn's arbiter has loaded before it forked run in the workers, and not in the arbiter."""
    server = start("--preload")
    workers = server.wait_for_workers(3)
    arbiter = int((server.directory / "loaded").read_text())
    assert arbiter not in workers
    assert {ran.pid for ran in server.raise_signal(3, 1)} < workers


def test_an_operating_systems_signal_reaches_the_server(installation: Any) -> None:
    """`signal:SIGHUP` arrives in the server's process."""
    program = (
        "import signal, sys\n"
        "signal.signal(signal.SIGHUP, lambda *_: (print('reloaded', flush=True), sys.exit(0)))\n"
        "print('RELOAD', flush=True)\n"
        "while True: signal.pause()\n"
    )
    options = ("--alarm", "hup signal:SIGHUP", "--log-alarm", "hup ^RELOAD")
    result = installation.run(options, sys.executable, "-c", program)
    assert (result.returncode, result.stdout) == (0, b"RELOAD\nreloaded\n")
