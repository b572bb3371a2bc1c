"""A real server with a page: a program that prints what it is given, under ``alarm-mw run``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
from waiting import END_LIMIT, LIMIT, wait_until

#: Prints what it reads, as a server that lives for as long as the test does.
SERVER = "import sys\nfor line in sys.stdin.buffer: sys.stdout.buffer.write(line); sys.stdout.flush()"


class Server:
    """A program under ``alarm-mw run``."""

    def __init__(
        self, folder: Path, configuration: str, environ: dict[str, str] | None = None, state: Path | None = None
    ) -> None:
        self.folder = folder
        self.state = state or folder / "state"
        self.config = folder / "alarm-mw.toml"
        self.configure(configuration)
        self.log = folder / "log.txt"
        command = [*self._program("run"), "--config", str(self.config), "--", sys.executable, "-c", SERVER]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, env={**os.environ, **(environ or {})}
            )
        wait_until(lambda: self.ask("status").returncode == 0)

    def configure(self, configuration: str) -> None:
        self.config.write_text(configuration)
        self.config.chmod(0o600)

    def line(self, *texts: str | bytes) -> None:
        """Have the program print lines."""
        assert self.process.stdin is not None
        for text in texts:
            self.process.stdin.write((text if isinstance(text, bytes) else text.encode()) + b"\n")
        self.process.stdin.flush()

    def login_url(self) -> str:
        return self.ask("web").stdout.strip()

    def incidents(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(self.ask("incidents", "--json").stdout)
        return found

    def _program(self, verb: str) -> list[str]:
        return [sys.executable, "-m", "alarm_mw", verb, "--state-dir", str(self.state)]

    def ask(self, verb: str, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._program(verb), *options], capture_output=True, text=True, timeout=LIMIT, check=False
        )

    def master(self) -> int:
        return int(json.loads(self.ask("status", "--json").stdout)["pid"])

    def log_in(self, transport: httpx.BaseTransport | None = None) -> AbstractContextManager[httpx.Client]:
        """Give a browser that the URL of ``alarm-mw web`` has logged in."""
        return logged_in(self.login_url(), transport)

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(END_LIMIT)


@contextmanager
def logged_in(url: str, transport: httpx.BaseTransport | None = None) -> Iterator[httpx.Client]:
    """Give a browser that a login URL has logged in."""
    base, _, token = url.partition("/login/")
    once = {"Connection": "close"}
    with httpx.Client(transport=transport, base_url=base, headers=once, trust_env=False, timeout=LIMIT) as client:
        assert client.get(f"/login/{token}").status_code == 200
        assert client.post(f"/login/{token}").status_code == 303
        yield client
