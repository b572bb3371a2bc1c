"""Ready rule sets against real servers: each condition fires its rule, once for each event."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from alarm_mw.config.rule_sets import RULE_SETS

APP = """
import time

def wsgi(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        time.sleep(60)
    if environ["PATH_INFO"] == "/files":
        kept = [open("/dev/null") for _ in range(10_000)]
    if environ["PATH_INFO"] == "/memory":
        raise MemoryError
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]

async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/files":
        kept = [open("/dev/null") for _ in range(10_000)]
    if scope["path"] == "/memory":
        raise MemoryError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})

class Broken:
    async def __call__(self, scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

broken = Broken()
"""


def configuration(name: str) -> str:
    """Return an alarm for each rule of a set, which counts in a file of the rule's name."""
    lines = []
    for rule in RULE_SETS[name]:
        lines.append(f"[alarms.{rule.name}]\naction = 'cmd'\ncommand = 'wc -l >> fired/{rule.name}'")
        lines.append(f"[[rules]]\nrules = '{name}.{rule.name}'\nalarms = '{rule.name}'")
    return "\n".join(lines)


class Site:
    """A server with the rules of its set."""

    def __init__(self, installation: Any, until: Callable[..., None]) -> None:
        self.installation = installation
        self.until = until
        self.directory: Path = installation.directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        (self.directory / "fired").mkdir()
        (self.directory / "app.py").write_text(APP)
        (self.directory / "broken_import.py").write_text("import no_such_module\n")

    def command(self, name: str, *options: str) -> tuple[list[str], list[str]]:
        """Return the options of ``alarm-mw run`` and the server's command."""
        (self.directory / "alarm-mw.toml").write_text(configuration(name))
        where = ["--bind", f"127.0.0.1:{self.port}"] if name == "gunicorn" else ["--port", str(self.port)]
        extra = ["--no-control-socket"] if name == "gunicorn" else []
        return ["--config", "alarm-mw.toml"], [sys.executable, "-m", name, *where, *extra, *options]

    @property
    def fired(self) -> Counter[str]:
        """How often each rule has fired."""
        return Counter({path.name: len(path.read_text().splitlines()) for path in (self.directory / "fired").iterdir()})

    def run(self, name: str, *options: str) -> int:
        """Run a server to its end and return its exit status."""
        own, server = self.command(name, *options)
        status: int = self.installation.run(own, *server).returncode
        return status

    @contextmanager
    def serving(self, name: str, *options: str, before: tuple[str, ...] = ()) -> Iterator[Path]:
        """Run a server, and stop it in peace; yield the file with its output."""
        own, server = self.command(name, *options)
        log = self.directory / "log"
        with log.open("wb") as output:
            process = self.installation.start(own, *before, *server, stdout=output, stderr=subprocess.STDOUT)
            try:
                self.until(lambda: self.get("/") == b"ok")
                yield log
            finally:
                process.terminate()
                process.wait(60)

    def get(self, path: str) -> bytes | None:
        """Return what the server answers, None when it has none."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            try:
                connection.request("GET", path)
                return connection.getresponse().read()
            except (ConnectionError, http.client.HTTPException):
                return None

    def children(self, log: Path, mark: str) -> list[int]:
        """Return the numbers behind `mark` in the server's output."""
        return [int(line.partition(mark)[2].split("]")[0]) for line in log.read_text().splitlines() if mark in line]


@pytest.fixture
def site(installation: Any, until: Callable[..., None]) -> Site:
    return Site(installation, until)


def test_a_worker_of_gunicorn_that_hangs(site: Site) -> None:
    """The time-out fires once."""
    with site.serving("gunicorn", "--timeout", "1", "app:wsgi"):
        site.get("/slow")
        site.until(lambda: site.get("/") == b"ok")
    assert site.fired == {"worker_timeout": 1}


@pytest.mark.parametrize(("number", "rule"), [(signal.SIGKILL, "killed"), (signal.SIGSEGV, "worker_died")])
def test_a_worker_of_gunicorn_that_is_killed(site: Site, number: int, rule: str) -> None:
    """Its death fires once, and the end of the others, in peace, nothing."""
    with site.serving("gunicorn", "--workers", "2", "app:wsgi") as log:
        site.until(lambda: len(site.children(log, "Booting worker with pid: ")) == 2)
        os.kill(site.children(log, "Booting worker with pid: ")[0], number)
        site.until(lambda: "was sent SIG" in log.read_text())
        site.until(lambda: len(site.children(log, "Booting worker with pid: ")) == 3)
    assert site.fired == {rule: 1}


@pytest.mark.parametrize("app", ["broken_import:app", "no_such_module:app", "app:nothing"])
def test_an_application_that_gunicorn_cannot_load(site: Site, app: str) -> None:
    """The failed start fires once, however many lines it takes."""
    assert site.run("gunicorn", "--workers", "2", app) != 0
    assert site.fired == {"boot_failed": 1}


def test_an_address_that_gunicorn_cannot_have(site: Site) -> None:
    """The address in use fires once, after all attempts."""
    with socket.create_server(("127.0.0.1", site.port)):
        assert site.run("gunicorn", "app:wsgi") == 1
    assert site.fired == {"address_in_use": 1}


@pytest.mark.parametrize(("path", "rule"), [("/files", "too_many_files"), ("/memory", "out_of_memory")])
@pytest.mark.parametrize(("name", "app"), [("gunicorn", "app:wsgi"), ("uvicorn", "app:asgi")])
def test_a_process_that_has_used_up_what_it_may_have(site: Site, name: str, app: str, path: str, rule: str) -> None:
    """Too many open files, or no memory: the traceback fires once."""
    with site.serving(name, app, before=("sh", "-c", 'ulimit -n 100; exec "$@"', "sh")):
        site.get(path)
        site.until(lambda: site.fired[rule])
    assert site.fired == {rule: 1}


def test_a_worker_of_uvicorn_that_is_killed(site: Site) -> None:
    """Its death fires once, and the end of the others, in peace, nothing."""
    with site.serving("uvicorn", "--workers", "2", "app:asgi") as log:
        site.until(lambda: len(site.children(log, "Started server process [")) == 2)
        os.kill(site.children(log, "Started server process [")[0], signal.SIGKILL)
        site.until(lambda: "] died" in log.read_text())
        site.until(lambda: len(site.children(log, "Started server process [")) == 3)
    assert site.fired == {"worker_died": 1}


@pytest.mark.parametrize("options", [("no_such_module:app",), ("app:nothing",), ("--lifespan", "on", "app:broken")])
def test_an_application_that_uvicorn_cannot_start(site: Site, options: tuple[str, ...]) -> None:
    """The failed start fires once."""
    assert site.run("uvicorn", *options) != 0
    assert site.fired == {"boot_failed": 1}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_address_that_uvicorn_cannot_have(site: Site, workers: str) -> None:
    """The address in use fires once."""
    with socket.create_server(("127.0.0.1", site.port)):
        assert site.run("uvicorn", "--workers", workers, "app:asgi") != 0
    assert site.fired == {"address_in_use": 1}


def test_more_requests_than_uvicorn_may_take(site: Site) -> None:
    """A request that is refused fires once."""
    with (
        site.serving("uvicorn", "--limit-concurrency", "2", "app:asgi"),
        closing(http.client.HTTPConnection("127.0.0.1", site.port)) as kept,
    ):
        kept.request("GET", "/")
        kept.getresponse().read()
        site.get("/")
        site.until(lambda: site.fired["listen_queue"])
    assert site.fired == {"listen_queue": 1}
