"""Crashes of real servers under ``alarm-mw run``: each fires once, with the stack, and the server carries on."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from ports import free_port

ALARM = ("--alarm", "a cmd:cat > `mktemp fired/XXXXXX`", "--alarm-segfault", "a")

WSGI = """
import ctypes, os, signal

def guilty(environ):
    if environ["PATH_INFO"] == "/null":
        ctypes.string_at(0)
    if environ["PATH_INFO"] == "/kill":
        os.kill(os.getpid(), int(environ["QUERY_STRING"]))

def app(environ, start_response):
    guilty(environ)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""

ASGI = """
import ctypes

async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/null":
        ctypes.string_at(0)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
"""


class Site:
    """An installation, and what its alarm has fired."""

    def __init__(self, installation: Any, until: Callable[..., None]) -> None:
        self.installation = installation
        self.until = until
        self.port = free_port()
        self.output = installation.directory / "output"
        (installation.directory / "fired").mkdir()
        (installation.directory / "wsgi_app.py").write_text(WSGI)
        (installation.directory / "asgi_app.py").write_text(ASGI)

    @property
    def messages(self) -> list[str]:
        """What was fired, whole messages only."""
        found = [path.read_text() for path in (self.installation.directory / "fired").iterdir()]
        return [text for text in found if text.endswith("\n")]

    def run(self, *server: str, options: tuple[str, ...] = ALARM) -> subprocess.CompletedProcess[bytes]:
        """Run a server to its end."""
        done: subprocess.CompletedProcess[bytes] = self.installation.run(options, *server)
        return done

    @contextmanager
    def serving(self, *server: str, status: int = 0) -> Iterator[subprocess.Popen[bytes]]:
        """Run a server, and end it in peace; `status` is what it then ends with."""
        with self.output.open("wb") as output:
            process = self.installation.start(ALARM, *server, stdout=output, stderr=subprocess.STDOUT)
            try:
                self.until(self.answers)
                yield process
            finally:
                process.terminate()
                assert process.wait(60) == status

    def answers(self) -> bool:
        """Return whether the server answers."""
        return self.get("/") == b"ok"

    def is_watched(self) -> bool:
        """Return whether the master reads the output, and so knows the processes."""
        return any(row["lines"] for row in self.installation.status().get("sources", {}).values())

    def get(self, path: str) -> bytes | None:
        """Return what the server answers; None when it has closed the connection without an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        except (ConnectionError, http.client.HTTPException):
            return None
        finally:
            connection.close()


@pytest.fixture
def site(installation: Any, until: Callable[..., None]) -> Site:
    return Site(installation, until)


def gunicorn(site: Site, *options: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "gunicorn",
        "-b",
        f"127.0.0.1:{site.port}",
        "--no-control-socket",
        *options,
        "wsgi_app:app",
    ]


@pytest.mark.parametrize("kind", [("--threads", "1"), ("--threads", "4")])
def test_a_worker_of_gunicorn_that_reads_from_null(site: Site, kind: tuple[str, str]) -> None:
    """The alarm fires once, with the worker's number and the stack of the guilty thread; the server carries on."""
    with site.serving(*gunicorn(site, "-w", "2", *kind)) as process:
        assert site.get("/null") is None
        site.until(lambda: site.messages)
        site.until(lambda: b"was sent SIGSEGV!" in site.output.read_bytes())
        site.until(site.answers)
        alarms = site.installation.status()
        assert process.poll() is None
    (message,) = site.messages
    header, mark, begin, thread, *frames = message.splitlines()
    assert header.endswith("died of SIGSEGV (Segmentation fault)")
    pid = header.split()[1]
    assert f"Worker (pid:{pid}) was sent SIGSEGV!" in site.output.read_text()
    assert "gunicorn" in header
    assert mark == f"*** backtrace of {pid} ***"
    assert begin == "Fatal Python error: Segmentation fault"
    assert thread.startswith("Current thread 0x")
    assert [frame.rpartition(" in ")[2] for frame in frames[:3]] == ["string_at", "guilty", "app"]
    assert frames[-1] == "*** end of backtrace ***"
    assert alarms["imbalances"] == []
    assert alarms["alarms"]["a"]["fired"] == 1


def test_a_worker_of_uvicorn_that_reads_from_null(site: Site) -> None:
    """Its parent says nothing of a signal: the kernel does."""
    with site.serving(sys.executable, "-m", "uvicorn", "--workers", "2", "--port", str(site.port), "asgi_app:app"):
        site.until(site.is_watched)
        assert site.get("/null") is None
        site.until(lambda: site.messages)
        site.until(lambda: b"] died" in site.output.read_bytes())
        site.until(site.answers)
    (message,) = site.messages
    pid = message.split()[1]
    assert f"Child process [{pid}] died" in site.output.read_text()
    assert f"*** backtrace of {pid} ***" in message
    assert 'asgi_app.py", line 7 in app\n' in message


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL"])
def test_every_fatal_signal_of_the_server_itself(site: Site, name: str) -> None:
    """The alarm fires once, and the server's death is passed on."""
    number = signal.Signals[name]
    done = site.run(sys.executable, "-c", f"import os\ndef guilty(): os.kill(os.getpid(), {number:d})\nguilty()")
    assert done.returncode == -number
    (message,) = site.messages
    assert message.startswith("the server, process ")
    assert f"died of {name}" in message
    assert 'File "<string>", line 2 in guilty' in message


def test_two_crashes_fire_twice(site: Site) -> None:
    """Each with its own process."""
    with site.serving(*gunicorn(site, "-w", "2")):
        for number in (1, 2):
            assert site.get(f"/kill?{signal.SIGBUS:d}") is None
            site.until(lambda number=number: len(site.messages) == number)
            site.until(site.answers)
    assert len({message.splitlines()[0] for message in site.messages}) == 2


def test_a_server_that_is_no_python(site: Site) -> None:
    """Without a dump the alarm says which process it was, and which signal."""
    done = site.run("sh", "-c", "kill -SEGV $$")
    assert done.returncode == -signal.SIGSEGV
    (message,) = site.messages
    assert message.count("\n") == 1
    assert message.startswith("the server, process ")
    assert message.endswith("died of SIGSEGV (Segmentation fault)\n")


def test_a_shell_before_the_server(site: Site) -> None:
    """A shell that ends in the way of its child is no second crash."""
    done = site.run("sh", "-c", f"{sys.executable} -c 'import ctypes; ctypes.string_at(0)'; exit $?")
    assert done.returncode == 128 + signal.SIGSEGV
    (message,) = site.messages
    assert "string_at" in message


@pytest.mark.parametrize(("status", "fired"), [(0, 0), (1, 1), (3, 1)])
def test_the_exit_status_of_the_server(site: Site, status: int, fired: int) -> None:
    """Another than 0 fires once, with the status and the command."""
    assert site.run("sh", "-c", f"exit {status}").returncode == status
    assert len(site.messages) == fired
    assert all(f"(sh -c 'exit {status}') ended with exit status {status}\n" in message for message in site.messages)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_signals_that_stop_a_server_are_no_crash(site: Site, number: signal.Signals) -> None:
    """Nobody is woken because somebody has stopped it."""
    assert site.run("sh", "-c", f"kill -{number:d} $$").returncode == -number
    assert site.messages == []


def test_a_server_that_stops_in_peace_is_no_crash(site: Site) -> None:
    """Neither gunicorn's own end nor that of its workers."""
    with site.serving(*gunicorn(site, "-w", "2")):
        pass
    assert site.messages == []


CRASH_IN_TWO_PARTS = """
import faulthandler, os
faulthandler.disable()
os.write(2, b"Fatal Python error: Segmentation fault\\n\\nCurrent thread 0x01 (most recent call first):\\n")
os.read(0, 1)
os.write(2, b'  File "late.py", line 3 in late\\n')
os.write(2, b"Extension modules: a (total: 1)\\n")
os.kill(os.getpid(), 11)
"""


def test_a_master_that_is_killed_within_a_dump_loses_and_repeats_nothing(site: Site) -> None:
    """The next one has both halves of the dump, and the alarm fires once."""
    book = site.installation.state_dir / "deaths.jsonl"
    options = (*ALARM, "--buffered")
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = site.installation.start(options, sys.executable, "-c", CRASH_IN_TWO_PARTS, **streams)
    assert process.stdin is not None
    site.until(lambda: book.exists() and b"Current thread" in book.read_bytes())
    (master,) = site.installation.masters(process.pid)
    os.kill(master, signal.SIGKILL)
    process.stdin.close()
    assert process.wait(60) == -signal.SIGSEGV
    (message,) = site.messages
    assert 'File "late.py", line 3 in late' in message


def test_a_master_that_is_killed_after_a_crash_does_not_repeat_it(site: Site) -> None:
    """The next one knows what was told."""
    with site.serving(*gunicorn(site, "-w", "2")) as process:
        assert site.get("/null") is None
        # What was delivered is written down: a kill before that delivers it again.
        site.until(lambda: site.installation.status().get("alarms", {}).get("a", {}).get("delivered") == 1)
        (master,) = site.installation.masters(process.pid)
        os.kill(master, signal.SIGKILL)
        site.until(lambda: site.installation.masters(process.pid) not in ([], [master]))
        site.until(lambda: site.installation.status().get("alarms", {}).get("a", {}).get("delivered") == 1)
        site.until(site.answers)
        assert site.installation.status()["masters_replaced"] == 1
    assert len(site.messages) == 1


CRASH = """
import os, sys
os.write(1, bytes(range(256)) * 100)
os.write(2, b"Worker (pid:7) was sent SIGSEGV!\\nhalf a line")
os.kill(os.getpid(), 11)
"""


@pytest.mark.parametrize("options", [ALARM[:2], ALARM], ids=["unwatched", "watched"])
def test_what_a_crashing_server_has_written_passes_byte_for_byte(site: Site, options: tuple[str, ...]) -> None:
    """Whether or not crashes are watched; only what Python itself writes of its stacks comes behind it."""
    done = site.run(sys.executable, "-c", CRASH, options=options)
    assert done.returncode == -signal.SIGSEGV
    assert done.stdout == bytes(range(256)) * 100
    written, dump = done.stderr[:44], done.stderr[44:]
    assert written == b"Worker (pid:7) was sent SIGSEGV!\nhalf a line"
    assert dump.startswith(b"Fatal Python error: Segmentation fault\n") if options == ALARM else dump == b""


SHOW = "import os; print(os.environ.get('PYTHONFAULTHANDLER'))"


@pytest.mark.parametrize(("options", "expected"), [((), b"None\n"), (ALARM, b"1\n")])
def test_python_is_asked_for_its_stacks_where_somebody_wants_them(
    site: Site, options: tuple[str, ...], expected: bytes
) -> None:
    """Nothing changes for a server whose crashes nobody watches."""
    assert site.run(sys.executable, "-c", SHOW, options=options).stdout == expected


def test_the_users_own_choice_stays(site: Site) -> None:
    """An environment that turns the stacks off keeps them off; the crash is told without."""
    site.installation.environ["PYTHONFAULTHANDLER"] = ""
    done = site.run(sys.executable, "-c", "import ctypes; ctypes.string_at(0)")
    assert done.stderr == b""
    (message,) = site.messages
    assert message.count("\n") == 1
