"""The page of a real server: what survives its master, and what it costs where nobody wants it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from ports import free_port
from waiting import END_LIMIT, LIMIT, wait_until

RULES = """
[alarms.a]
action = "log"
[[rules]]
name = "disk"
pattern = "disk full"
resolve_after = "1h"
alarms = ["a"]
"""

#: Prints what it reads, as a server that lives for as long as the test does.
SERVER = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"


class Server:
    """A program under ``alarm-mw run``."""

    def __init__(self, folder: Path, web: str, environ: dict[str, str]) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.config = folder / "alarm-mw.toml"
        self.configure(web)
        self.log = folder / "log.txt"
        command = [*self._program("run"), "--config", str(self.config), "--", sys.executable, "-c", SERVER]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, env={**os.environ, **environ}
            )
        wait_until(lambda: self.ask("status").returncode == 0)

    def configure(self, web: str) -> None:
        self.config.write_text(f"{RULES}{web}")

    def _program(self, verb: str) -> list[str]:
        return [sys.executable, "-m", "alarm_mw", verb, "--state-dir", str(self.state)]

    def ask(self, verb: str, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._program(verb), *options], capture_output=True, text=True, timeout=LIMIT, check=False
        )

    def master(self) -> int:
        return int(json.loads(self.ask("status", "--json").stdout)["pid"])

    @contextmanager
    def log_in(self, transport: httpx.BaseTransport | None = None) -> Iterator[httpx.Client]:
        """Give a browser that the URL of ``alarm-mw web`` has logged in."""
        base, _, token = self.ask("web").stdout.strip().partition("/login/")
        once = {"Connection": "close"}
        with httpx.Client(transport=transport, base_url=base, headers=once, trust_env=False, timeout=LIMIT) as client:
            assert client.get(f"/login/{token}").status_code == 200
            assert client.post(f"/login/{token}").status_code == 303
            yield client

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(END_LIMIT)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(web: str, **environ: str) -> Server:
        servers.append(Server(tmp_path, web, environ))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def test_a_replaced_master_refuses_nobody(serve: Callable[..., Server]) -> None:
    """While a killed master is replaced, connections wait in the socket; the session of before goes on."""
    port = free_port()
    server = serve(f'[web]\nlisten = "127.0.0.1:{port}"')
    with server.log_in() as browser:
        former = server.master()
        os.kill(former, signal.SIGKILL)
        for _ in range(5):
            assert browser.get("/").status_code == 200
        assert server.master() != former


def test_a_reload_moves_the_page(serve: Callable[..., Server]) -> None:
    """Another address is served after a reload, the former is not; without an address there is no page."""
    first, second = free_port(), free_port()
    server = serve(f'[web]\nlisten = "127.0.0.1:{first}"')
    with server.log_in() as browser:
        assert browser.get("/").status_code == 200
    server.configure(f'[web]\nlisten = "127.0.0.1:{second}"')
    assert server.ask("reload").returncode == 0
    with server.log_in() as browser:
        assert browser.base_url.port == second
        assert browser.get("/").status_code == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", first), LIMIT)
    server.configure("")
    assert server.ask("reload").returncode == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", second), LIMIT)
    asked = server.ask("web")
    assert (asked.returncode, asked.stdout) == (1, "")
    assert "this server has no page" in asked.stderr


def test_a_unix_socket(serve: Callable[..., Server], tmp_path: Path) -> None:
    """A proxy on this machine may reach the page by a unix socket."""
    path = tmp_path / "page.sock"
    server = serve(f'[web]\nlisten = "unix:{path}"\nbase_url = "http://alarms.example.org"')
    with server.log_in(httpx.HTTPTransport(uds=str(path))) as browser:
        os.kill(server.master(), signal.SIGKILL)
        assert browser.get("/").status_code == 200


def test_nothing_is_there_where_nobody_wants_it(serve: Callable[..., Server]) -> None:
    """Without ``[web]``, no port is open, no thread runs, no file is made, and nothing of the page is loaded."""
    server = serve("", PYTHONPROFILEIMPORTTIME="1")
    loaded = server.log.read_text()
    assert "alarm_mw.master.control.web_port" in loaded
    for name in ("jinja2", "alarm_mw.web.store", "alarm_mw.web.live"):
        assert f"{name}\n" not in loaded.partition("starlette")[0]
    assert not (server.state / "web.db").exists()
    listening = {line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if " 0A " in line}
    sockets = {os.readlink(each) for each in Path(f"/proc/{server.master()}/fd").iterdir() if each.is_symlink()}
    assert not sockets & {f"socket:[{inode}]" for inode in listening}
