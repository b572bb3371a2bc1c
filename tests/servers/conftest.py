"""Running servers under ``alarm-mw run``."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from waiting import END_LIMIT, wait_until

from alarm_mw.model.errors import NotRunningError
from alarm_mw.transports.control import ask_patiently
from alarm_mw.transports.places import SOCKET_NAME


class Installation:
    """The command, and a place for its state and its output."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state_dir = directory / "state"
        self.command = str(Path(sys.executable).with_name("alarm-mw"))
        self.environ = {**os.environ, "XDG_STATE_HOME": str(directory / "xdg")}
        self._started: list[subprocess.Popen[bytes]] = []

    def run_command(self, options: Sequence[str], *server: str) -> list[str]:
        return [self.command, "run", "--state-dir", str(self.state_dir), *options, "--", *server]

    def run(self, options: Sequence[str], *server: str, **keywords: Any) -> subprocess.CompletedProcess[bytes]:
        """Run a server to its end."""
        return subprocess.run(
            self.run_command(options, *server),
            capture_output=True,
            timeout=120,
            check=False,
            cwd=self.directory,
            env=self.environ,
            **keywords,
        )

    def start(self, options: Sequence[str], *server: str, **keywords: Any) -> subprocess.Popen[bytes]:
        """Start a server; stop it with `subprocess.Popen.terminate`. Where a test fails before, `end` does."""
        command = self.run_command(options, *server)
        process = subprocess.Popen(command, cwd=self.directory, env=self.environ, **keywords)
        self._started.append(process)
        return process

    def start_verb(
        self, verb: str, options: Sequence[str], *arguments: str, **keywords: Any
    ) -> subprocess.Popen[bytes]:
        """Start another verb that has a state directory."""
        command = [self.command, verb, "--state-dir", str(self.state_dir), *options, *arguments]
        process = subprocess.Popen(command, cwd=self.directory, env=self.environ, **keywords)
        self._started.append(process)
        return process

    def end_later(self, process: subprocess.Popen[bytes]) -> None:
        """End a process that a test has started, where it still runs then."""
        self._started.append(process)

    def end(self) -> None:
        """End what was started and still runs."""
        for process in self._started:
            if process.poll() is None:
                _end(process)
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()

    def descendants(self, pid: int) -> list[int]:
        """Return the processes that a process has started, and those that these have."""
        return _descendants(pid)

    def masters(self, supervisor: int) -> list[int]:
        """Return the masters that a supervisor has at this moment: none while it replaces one."""
        return [pid for pid in _children(supervisor) if b"alarm_mw.master" in _command(pid)]

    def status(self) -> dict[str, Any]:
        """Return what ``alarm-mw status --json`` prints; nothing where no master answers."""
        try:
            return ask_patiently(str(self.state_dir / SOCKET_NAME), "/status")
        except NotRunningError:
            return {}


def _end(process: subprocess.Popen[bytes]) -> None:
    family = _descendants(process.pid)
    process.terminate()
    try:
        process.wait(END_LIMIT)
    except subprocess.TimeoutExpired:
        for pid in (process.pid, *family):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):  # it has ended
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found


def _descendants(pid: int) -> list[int]:
    found = _children(pid)
    return [*found, *(each for child in found for each in _descendants(child))]


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):  # it has ended
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """Provide the command; what a test has started, and a failure kept it from ending, is ended here."""
    made = Installation(tmp_path)
    yield made
    made.end()


@pytest.fixture(scope="module")
def shared_installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Provide the command for a server that several tests of a module ask, and do not change."""
    made = Installation(tmp_path_factory.mktemp("shared"))
    yield made
    made.end()


@pytest.fixture
def reachable(installation: Installation) -> Iterator[None]:
    """Move to a folder that others may pass through, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        installation.directory = Path(folder)
        installation.directory.chmod(0o711)
        installation.state_dir = installation.directory / "state"
        yield


@pytest.fixture
def until() -> Callable[..., None]:
    return wait_until
