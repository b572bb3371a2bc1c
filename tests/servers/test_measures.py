"""Rules that measure something, on a running server: over processes, kills of the master, and restarts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

CONFIG = """
messages = "uwsgi"
[alarms.told]
action = "cmd"
command = "echo $ALARM_STATUS $ALARM_KEY $(head -n 1) >> told.txt"
[[rules]]
name = "errors"
request = { status = "5xx" }
key = ["path"]
ratio = ">20%"
resolve_below = "10%"
at_least = 20
within = "1h"
alarms = "told"
[[rules]]
name = "fresh"
pattern = 'kind (?P<kind>\\S+)'
key = ["kind"]
new = "30d"
alarms = "told"
"""

#: Serves requests in two processes: each line names a path and a status, and so many of them, or is printed.
PROGRAM = """
import os, sys
from alarm_mw.wsgi import AlarmMiddleware

def app(environ, start_response):
    start_response(environ["status"], [])
    return [b""]

app = AlarmMiddleware(app)

def serve(path, status, n):
    for _ in range(int(n)):
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "status": status + " x", "wsgi.url_scheme": "http"}
        list(app(environ, lambda *_: None))

for line in sys.stdin:
    words = line.split()
    if words[0] == "kind":
        print(line, end="", flush=True)
        continue
    child = os.fork()
    if child == 0:
        serve(*words)
        os._exit(0)
    os.waitpid(child, 0)
    print("served", flush=True)
"""


class Server:
    """A running server, and what its alarms were told."""

    def __init__(self, installation: Any, process: subprocess.Popen[bytes]) -> None:
        self._file = installation.directory / "told.txt"
        self._process = process

    def do(self, line: str) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()
        self._process.stdout.readline()

    def told(self) -> list[str]:
        return self._file.read_text().splitlines() if self._file.exists() else []


@contextmanager
def running(installation: Any) -> Iterator[Server]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with installation.start(["--config", "alarms.toml"], sys.executable, "-c", PROGRAM, **pipes) as process:
        yield Server(installation, process)
        process.stdin.close()
        process.wait(60)


def kill_master(installation: Any, until: Callable[..., None]) -> None:
    killed = installation.status()["pid"]
    os.kill(killed, signal.SIGKILL)
    until(lambda: installation.status().get("pid", killed) != killed)


def test_a_ratio_of_requests(installation: Any, until: Callable[..., None]) -> None:
    """Requests of all processes are counted together, for each path, and a kill of the master forgets none."""
    (installation.directory / "alarms.toml").write_text(CONFIG)
    with running(installation) as server:
        server.do("/pay 200 30")
        server.do("/pay 500 7")
        server.do("/other 500 19")
        until(lambda: installation.status()["sources"].get("wsgi", {}).get("matched", 0) == 56)
        assert server.told() == []
        until(lambda: _measured(installation) >= 2)
        kill_master(installation, until)
        server.do("/pay 500 1")
        until(lambda: server.told() == ["firing path=/pay errors: 21.1 % of 38 within 1 h, more than 20 %"])
        server.do("/pay 200 38")
        assert len(server.told()) == 1
        server.do("/pay 200 10")
        until(
            lambda: server.told()[1:] == ["resolved path=/pay RESOLVED errors: 21.1 % of 38 within 1 h, more than 20 %"]
        )
        assert installation.status()["imbalances"] == []


def _measured(installation: Any) -> int:
    """Return how many values have been written down that a ratio counts."""
    program = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])"
    query = "SELECT COUNT(*) FROM measured WHERE rule = 'errors'"
    command = [sys.executable, "-c", program, str(installation.state_dir / "outbox.db"), query]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


def test_new_values_are_known_after_a_restart(installation: Any, until: Callable[..., None]) -> None:
    """A value is new once, whatever becomes of the master and of the server."""
    (installation.directory / "alarms.toml").write_text(CONFIG)
    with running(installation) as server:
        server.do("kind apple")
        until(lambda: server.told() == ["kind apple"])
        kill_master(installation, until)
        server.do("kind apple")
        server.do("kind pear")
        until(lambda: server.told()[1:] == ["kind pear"])
    with running(installation) as server:
        server.do("kind pear")
        server.do("kind plum")
        until(lambda: server.told()[2:] == ["kind plum"])
