"""A real master process, with the test in the supervisor's place."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from waiting import LIMIT, wait_until

from alarm_mw.config.load import load
from alarm_mw.config.settings import to_json
from alarm_mw.config.sources import Sources
from alarm_mw.supervisor.plan import Plan
from alarm_mw.supervisor.supervisor import GRACE
from alarm_mw.transports.control import ask_patiently, read_patiently
from alarm_mw.transports.places import control_path


class Master:
    """A master, and what its supervisor says to it and hears."""

    process: subprocess.Popen[bytes]
    #: What its server writes to.
    output: io.FileIO

    def __init__(self, folder: Path, command: str, stack: ExitStack, timeout: float) -> None:
        self.folder = folder
        self.socket = str(folder / "alarm.sock")
        flags = (("alarm", f"a cmd:{command}"), ("log-alarm", "a TERRIBLE"))
        settings: dict[str, object] = {"settings": to_json(load(Sources(flags=flags), {})), "state_dir": str(folder)}
        self._plan = Plan([], [], self.socket, "run", shutdown_timeout=timeout, settings=settings)
        self._listening = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        self._listening.bind(self.socket)
        self._listening.listen()
        self._link, self._its_link = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._link.settimeout(LIMIT)
        stack.enter_context(self._link)
        self._stack = stack

    def start(self, source: int, sink: int) -> None:
        """Start it as the supervisor does; the descriptors become its own."""
        plan, state, listening, link = (
            self._plan.write(),
            os.memfd_create("state"),
            self._listening.fileno(),
            self._its_link.detach(),
        )
        stream = {"name": "stdout", "source": source, "sink": sink, "state": state}
        fds = {"streams": [stream], "listen": listening, "control": link, "connections": {}}
        environ = {"ALARM_MW_PLAN_FD": str(plan), "ALARM_MW_FDS": json.dumps(fds), "PYTHONWARNINGS": "error"}
        command = [sys.executable, "-P", "-m", "alarm_mw.master"]
        self.process = self._stack.enter_context(
            subprocess.Popen(
                command,
                stderr=subprocess.PIPE,
                cwd=self.folder,
                env={**os.environ, **environ},
                pass_fds=[plan, state, listening, link, source, sink],
            )
        )
        self._stack.callback(self.process.kill)
        for fd in (plan, state, link, source, sink):
            os.close(fd)
        self.tell("server 1")
        while self.hear() not in {"ready", ""}:  # what it leaves to the next one comes before; it may have ended
            pass

    def tell(self, words: str) -> None:
        self._link.send(words.encode())

    def hear(self) -> str:
        return self._link.recv(100).decode()

    def errors_at_the_end(self) -> str:
        return self.process.communicate(timeout=LIMIT)[1].decode()

    def delivered(self) -> int:
        """Return how many firings the ledger says were delivered."""
        with closing(sqlite3.connect(self.folder / "outbox.db")) as database:
            rows = database.execute("SELECT n FROM ledger WHERE scope = 'alarm' AND col = 'delivered'").fetchall()
        return sum(n for (n,) in rows)


StartMaster = Callable[..., Master]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartMaster]:
    """Give a starter of masters that have one alarm, a shell command; ``output`` is their server's."""
    with ExitStack() as stack:

        def start_one(
            command: str = "cat >> out.txt", *, timeout: float = 5.0, source: int | None = None, sink: int | None = None
        ) -> Master:
            master = Master(tmp_path, command, stack, timeout)
            reading, writing = os.pipe() if source is None else (source, os.open(os.devnull, os.O_WRONLY))
            master.output = stack.enter_context(io.FileIO(writing, "w"))
            master.start(reading, os.open(os.devnull, os.O_WRONLY) if sink is None else sink)
            return master

        yield start_one


def test_nothing_is_left_open(start: StartMaster) -> None:
    """With every warning an error, a master that was asked for its ledger and is told to stop has nothing to say."""
    master = start()
    master.output.write(b"TERRIBLE 1\n")
    ask_patiently(master.socket, "/status")
    assert b"\nalarm_mw_build_info{" in read_patiently(master.socket, "/metrics")
    with socket.socket(socket.AF_UNIX) as idle:
        idle.connect(control_path(master.socket))
        master.tell("stop")
        assert master.errors_at_the_end() == ""
    assert master.process.returncode == 0
    assert not Path(control_path(master.socket)).exists()


def test_the_server_that_took_over_is_known(start: StartMaster) -> None:
    """Of several messages about the server the last one counts; words of a later version do no harm."""
    master = start()
    for words in ("server 2", "exited 0", "server of a kind", "weather fine", "server 3"):
        master.tell(words)
    wait_until(lambda: ask_patiently(master.socket, "/status")["server_pid"] == 3)
    master.tell("stop")
    assert master.errors_at_the_end() == ""


def test_a_failing_step_at_the_end_keeps_no_other_from_being_taken(start: StartMaster, tmp_path: Path) -> None:
    """Firings are delivered though something else cannot be put away; what it was is told."""
    for name in ("begun", "go"):
        os.mkfifo(tmp_path / name)
    master = start("echo > begun; cat go")
    control = Path(control_path(master.socket))
    control.unlink()
    control.mkdir()
    master.output.write(b"TERRIBLE 1\n")
    (tmp_path / "begun").read_text()
    master.tell("stop")
    (tmp_path / "go").write_text("")
    assert "IsADirectoryError" in master.errors_at_the_end()
    assert master.delivered() == 1


def test_the_end_has_one_time_limit(start: StartMaster, tmp_path: Path) -> None:
    """Whatever hangs at the end, a command or a stopped terminal, a master ends before its supervisor kills it."""
    os.mkfifo(tmp_path / "begun")
    server, source = socket.socketpair()
    reading, stopped = os.pipe()
    fill(stopped)
    with server:
        master = start("trap '' TERM; echo > begun; sleep 100", timeout=3.0, source=source.detach(), sink=stopped)
        server.send(b"TERRIBLE 1\n")
        (tmp_path / "begun").read_text()
        master.tell("stop")
        master.process.wait(3.0 + GRACE)
    os.close(reading)


def fill(pipe: int) -> None:
    """Let the next write to the pipe block."""
    os.set_blocking(pipe, False)
    with suppress(BlockingIOError):
        while True:
            os.write(pipe, b"x" * 4096)
    os.set_blocking(pipe, True)


def test_signals_for_the_server_do_not_end_a_master(start: StartMaster, tmp_path: Path) -> None:
    """What a terminal or systemd sends to all processes is survived, and the commands of alarms can still trap it."""
    master = start("trap 'echo trapped > out.txt' TERM INT HUP QUIT; kill -TERM $$")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTOU):
        master.process.send_signal(number)
    master.output.write(b"TERRIBLE 1\n")
    wait_until((tmp_path / "out.txt").exists)
    master.tell("stop")
    assert master.errors_at_the_end() == ""
    assert master.process.returncode == 0
    assert (tmp_path / "out.txt").read_text() == "trapped\n"


def test_a_master_without_one_of_its_threads_ends(start: StartMaster) -> None:
    """When a thread fails, the process says why and ends, so that the supervisor replaces it."""
    master = start(source=os.open(os.devnull, os.O_WRONLY))
    errors = master.errors_at_the_end()
    assert master.process.returncode == os.EX_SOFTWARE
    assert "CRITICAL: the thread alarm-mw-reader-stdout has failed" in errors
    assert "Bad file descriptor" in errors
