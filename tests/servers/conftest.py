"""Running servers under ``alarm-mw run``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

#: Seconds for anything that should happen soon.
PATIENCE = 30.0


class Installation:
    """The command, and a place for its state and its output."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state_dir = directory / "state"
        self.command = str(Path(sys.executable).with_name("alarm-mw"))
        self.environ = {**os.environ, "XDG_STATE_HOME": str(directory / "xdg")}

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
        """Start a server; stop it with `subprocess.Popen.terminate`."""
        return subprocess.Popen(self.run_command(options, *server), cwd=self.directory, env=self.environ, **keywords)

    def status(self) -> dict[str, Any]:
        """Return what ``alarm-mw status --json`` prints."""
        arguments = [self.command, "status", "--json", "--state-dir", str(self.state_dir)]
        result = subprocess.run(arguments, capture_output=True, timeout=30, check=False, env=self.environ)
        answer: dict[str, Any] = json.loads(result.stdout) if result.stdout else {}
        return answer


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def wait_until(condition: Callable[[], object], timeout: float = PATIENCE) -> None:
    """Wait until `condition` holds; what it looks at belongs to other processes, so it is asked again and again."""
    pause, deadline = threading.Event(), time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        pause.wait(0.05)


@pytest.fixture
def until() -> Callable[..., None]:
    return wait_until
