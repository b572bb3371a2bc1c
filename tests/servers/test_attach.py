"""Servers whose command stays as it is, with alarms."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ports import answers, free_port
from web_server import logged_in

GUNICORN = str(Path(sys.executable).with_name("gunicorn"))

APP = """
import os

def app(environ, start_response):
    print(f"TERRIBLE ALARM {environ['PATH_INFO']}\\n", end="")  # in one piece, as others print as well
    body = f"{os.getpid()} {os.getppid()}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""

CONFIG = """
[alarms.a]
action = "cmd"
command = "cat >> out.txt"

[[rules]]
pattern = "^TERRIBLE ALARM"
alarms = "a"
"""

#: Starts a command as systemd does that has bound its socket.
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        yield bound


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listening.settimeout(30)
        listening.bind(str(tmp_path / "notify"))
        yield listening


def heard(systemd: socket.socket) -> tuple[str, int]:
    message, ((_, _, credentials),), *_ = systemd.recvmsg(4096, 1024)
    return message.decode().splitlines()[0], struct.unpack("iII", credentials)[0]


def printed(log: str) -> set[str]:
    return set(re.findall(r"^TERRIBLE ALARM \S+$", log, re.MULTILINE))


def alarms(folder: Path) -> set[str]:
    return set((folder / "out.txt").read_text().splitlines())


def ask(port: int, path: str) -> tuple[int, int]:
    """Return the pids of the worker that answered and of its parent."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    worker, parent = connection.getresponse().read().split()
    connection.close()
    return int(worker), int(parent)


@contextmanager
def started(installation: Any, *command: str, **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in the installation's folder, and end it as a service manager would."""
    environ = {**installation.environ, **how.pop("env", {})}
    with (installation.directory / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=installation.directory, env=environ, stdout=log, stderr=subprocess.STDOUT, **how
        )
        try:
            yield process
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait(60)


def test_gunicorn_as_a_service(
    installation: Any, until: Callable[..., None], listener: socket.socket, systemd: socket.socket
) -> None:
    """By a configuration alone, gunicorn has alarms, and is for systemd what it was.

    It serves the socket that systemd has bound, tells that it is ready, keeps its pid, and takes SIGHUP. The pid file
    names gunicorn itself.
    """
    folder: Path = installation.directory
    (folder / "app.py").write_text(APP)
    (folder / "alarm-mw.toml").write_text(CONFIG)
    port = listener.getsockname()[1]
    options = ("-c", "python:alarm_mw.gunicorn", "--preload", "--pid", "pid", "--no-control-socket")
    command = (sys.executable, "-c", ACTIVATE, str(listener.fileno()), GUNICORN, *options, "app:app")
    environ = {"NOTIFY_SOCKET": systemd.getsockname()}
    with started(installation, *command, env=environ, pass_fds=[listener.fileno()]) as process:
        assert heard(systemd) == ("READY=1", process.pid)
        worker, master = ask(port, "/first")
        assert (folder / "pid").read_text().strip() == str(master)
        assert master != process.pid
        process.send_signal(signal.SIGHUP)
        until(lambda: ask(port, "/again")[0] != worker)
        assert ask(port, "/again")[1] == master
    log = (folder / "log").read_text()
    assert log.count("Starting gunicorn") == 1
    assert alarms(folder) == printed(log) == {"TERRIBLE ALARM /first", "TERRIBLE ALARM /again"}


SUPERVISED = """
import alarm_mw
alarm_mw.supervise()
print("TERRIBLE ALARM /", flush=True)
input()
"""


@pytest.mark.parametrize("how", ["gunicorn", "supervise"])
def test_attached_servers_have_the_page(installation: Any, until: Callable[..., None], how: str) -> None:
    """A server whose command stays as it is has the page, with its incidents, as under ``alarm-mw run``."""
    folder: Path = installation.directory
    (folder / "app.py").write_text(f'print("TERRIBLE ALARM /")\n{APP}')
    (folder / "own.py").write_text(SUPERVISED)
    port = free_port()
    (folder / "alarm-mw.toml").write_text(
        f'[web]\nlisten = "127.0.0.1:{port}"\n{CONFIG}resolve_after = "1h"\nname = "terrible"\n'
    )
    options = ("-c", "python:alarm_mw.gunicorn", "--bind", f"127.0.0.1:{free_port()}", "--no-control-socket")
    command = {"gunicorn": (GUNICORN, *options, "app:app"), "supervise": (sys.executable, "own.py")}[how]

    def login_url() -> str:
        words = [installation.command, "web"]
        return subprocess.run(
            words, capture_output=True, text=True, timeout=60, check=False, env=installation.environ
        ).stdout.strip()

    with subprocess.Popen(
        command, cwd=folder, env=installation.environ, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            until(lambda: login_url().startswith(f"http://127.0.0.1:{port}/login/"))
            with logged_in(login_url()) as browser:
                until(lambda: "TERRIBLE ALARM /" in browser.get("/").text)
        finally:
            process.terminate()


def test_gunicorn_is_upgraded(installation: Any, until: Callable[..., None], listener: socket.socket) -> None:
    """With two lines in its own configuration, gunicorn takes SIGUSR2; the new one has the same alarms."""
    folder: Path = installation.directory
    (folder / "app.py").write_text(APP)
    (folder / "alarms.toml").write_text(CONFIG)
    (folder / "gunicorn.conf.py").write_text("from alarm_mw.gunicorn import supervise\nsupervise('alarms.toml')\n")
    port = listener.getsockname()[1]
    listener.close()  # gunicorn cannot hand on what it did not bind itself
    command = (GUNICORN, "--bind", f"127.0.0.1:{port}", "--no-control-socket", "app:app")
    with started(installation, *command) as process:
        until(lambda: answers(port))
        _, master = ask(port, "/first")
        process.send_signal(signal.SIGUSR2)
        until(lambda: ask(port, "/both")[1] != master)
        os.kill(master, signal.SIGQUIT)
        until(lambda: not Path(f"/proc/{master}").exists())
        assert ask(port, "/upgraded")[1] not in {master, process.pid}
    log = (folder / "log").read_text()
    assert log.count("Starting gunicorn") == 2
    assert alarms(folder) == printed(log) == {f"TERRIBLE ALARM /{path}" for path in ("first", "both", "upgraded")}


def test_a_running_gunicorn_is_let_alone(
    installation: Any, until: Callable[..., None], listener: socket.socket
) -> None:
    """Alarms that a configuration asks for while gunicorn runs harm nothing; the log says when they begin."""
    folder: Path = installation.directory
    (folder / "app.py").write_text(APP)
    (folder / "alarm-mw.toml").write_text(CONFIG)
    (folder / "conf.py").write_text("")
    command = (GUNICORN, "-c", "conf.py", "--bind", f"fd://{listener.fileno()}", "--no-control-socket", "app:app")
    with started(installation, *command, pass_fds=[listener.fileno()]) as process:
        worker, master = ask(listener.getsockname()[1], "/first")
        (folder / "conf.py").write_text("from alarm_mw.gunicorn import supervise\nsupervise()\n")
        process.send_signal(signal.SIGHUP)
        until(lambda: ask(listener.getsockname()[1], "/again")[0] != worker)
        assert ask(listener.getsockname()[1], "/again")[1] == master == process.pid
    assert "stop and start it to enable alarms" in (folder / "log").read_text()
    assert not (folder / "out.txt").exists()
