"""Runs the real supervisor around a server, with a fake master, and makes sure that no process is left behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import termios
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from waiting import LIMIT

from alarm_mw.supervisor.plan import Plan

FAKE_MASTER = Path(__file__).with_name("fake_master.py")
MARK = "ALARM_MW_TEST_RUN"

#: As the command line does it.
START = """
import os, sys
from alarm_mw.supervisor.plan import Plan
from alarm_mw.supervisor.start import start
plan = Plan.read(int(sys.argv[1]))
os.close(int(sys.argv[1]))
if plan.lock is not None:
    os.set_inheritable(plan.lock, False)
start(plan)
"""


class Lines:
    """Lines from a descriptor, each waited for with a limit."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.rest = b""

    def next(self) -> str:
        while b"\n" not in self.rest:
            data = read_soon(self.fd)
            if not data:
                raise EOFError(self.rest)
            self.rest += data
        line, _, self.rest = self.rest.partition(b"\n")
        return line.decode().rstrip("\r")

    def until(self, start: str) -> str:
        while not (line := self.next()).startswith(start):
            pass
        return line


def read_soon(fd: int) -> bytes:
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    assert waiting.poll(LIMIT * 1000), f"nothing came within {LIMIT} seconds"
    return os.read(fd, 65536)


class Run:
    """A supervisor that runs; what its masters heard, and what its server prints, when that goes into a pipe."""

    def __init__(
        self, folder: Path, command: list[str], prefix: list[str], settings: dict[str, Any], **how: Any
    ) -> None:
        self.mark = uuid.uuid4().hex
        self.socket = folder / "records"
        self.dies_while = folder / "dies"
        if settings.pop("is_dying", False):
            self.dies_while.touch()
        heard = folder / "heard"
        os.mkfifo(heard)
        self.heard = Lines(os.open(heard, os.O_RDWR))
        plan = Plan(
            command=command,
            master_argv=[sys.executable, str(FAKE_MASTER)],
            socket=str(settings.pop("socket", self.socket)),
            run_id=self.mark,
            lock=settings.pop("lock", None),
            server_env={"ALARM_MW_SOCKET": str(self.socket)},
            shutdown_timeout=settings.pop("shutdown_timeout", 5.0),
            master_fds=settings.pop("master_fds", []),
            settings={"heard": str(heard), "dies_while": str(self.dies_while), **settings},
        )
        plan_fd = plan.write()
        environment = {**os.environ, **how.pop("env", {}), MARK: self.mark}
        pass_fds = [plan_fd, *how.pop("pass_fds", ())]
        start = [sys.executable, "-c", how.pop("before", "") + START, str(plan_fd)]
        self.process = subprocess.Popen([*prefix, *start], pass_fds=pass_fds, env=environment, **how)
        os.close(plan_fd)
        self.output = Lines(self.process.stdout.fileno()) if self.process.stdout else Lines(-1)

    def errors(self) -> Lines:
        assert self.process.stderr
        return Lines(self.process.stderr.fileno())

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def say(self, text: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def end(self) -> int:
        return self.process.wait(LIMIT)

    def results(self) -> tuple[bytes, bytes]:
        return self.process.communicate(timeout=LIMIT)

    def members(self) -> Iterator[int]:
        """Find the processes of this run, by their environment."""
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    yield int(folder.name)

    def wait_until_all_are_gone(self) -> None:
        for pid in self.members():
            with suppress(ProcessLookupError):
                watched = os.pidfd_open(pid)
                waiting = select.poll()
                waiting.register(watched, select.POLLIN)
                has_ended = waiting.poll(LIMIT * 1000)
                os.close(watched)
                assert has_ended, f"process {pid} is left behind"

    def clean_up(self) -> None:
        left = list(self.members())
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(LIMIT)
        for file in (self.process.stdin, self.process.stdout, self.process.stderr):
            if file:
                with suppress(BrokenPipeError):
                    file.close()
        os.close(self.heard.fd)


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Give a starter of supervisors; ``how`` goes to `subprocess.Popen`, with pipes unless said otherwise."""
    runs: list[Run] = []

    def start(
        *command: str, prefix: list[str] | None = None, settings: dict[str, Any] | None = None, **how: Any
    ) -> Run:
        folder = tmp_path / str(len(runs))
        folder.mkdir()
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        runs.append(Run(folder, list(command), prefix or [], settings or {}, **{**pipes, **how}))
        return runs[-1]

    yield start
    try:
        for run in runs:
            run.wait_until_all_are_gone()
    finally:
        for run in runs:
            run.clean_up()


@pytest.fixture
def supervise_python(supervise: Callable[..., Run]) -> Callable[..., Run]:
    """Give the same around a Python program."""

    def start(program: str, **how: Any) -> Run:
        return supervise(sys.executable, "-u", "-c", program, **how)

    return start


@pytest.fixture
def supervise_in_terminal(supervise: Callable[..., Run]) -> Iterator[Callable[..., Any]]:
    """Give the same as the foreground job of a terminal; the run's ``keyboard`` is the terminal's other side."""
    keyboard, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    modes = termios.tcgetattr(terminal)
    modes[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSANOW, modes)

    def start(program: str, prefix: list[str] | None = None, **how: Any) -> Any:
        session = ["setsid", "--ctty", "--wait"] if prefix else ["setsid", "--ctty"]
        ends = dict.fromkeys(("stdin", "stdout", "stderr"), terminal)
        command = [sys.executable, "-u", "-c", program]
        run: Any = supervise(*command, prefix=[*session, *(prefix or [])], **{**ends, **how})
        os.close(terminal)
        run.keyboard = keyboard
        run.output = Lines(keyboard)
        return run

    yield start
    os.close(keyboard)
