"""A server that root starts, whose workers run as somebody else."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest

NOBODY = 65534

#: Loads everything, then goes on as somebody else in a child, as gunicorn's workers do with ``--user``.
SERVER = """
import logging, os, sys
import alarm_mw
from alarm_mw.app.current_master import current

logging.basicConfig(handlers=[alarm_mw.AlarmHandler()])
logging.error("TERRIBLE as root")
while current().prefilter() is None:
    pass
pid = os.fork()
if pid == 0:
    os.setgid({nobody})
    os.setuid({nobody})
    logging.error("TERRIBLE as somebody")
    for _ in range(3):
        logging.error("nothing")
    print("worker is", "blind" if current().prefilter() is None else "done", flush=True)
    sys.stdin.read()
    alarm_mw.shutdown()
    os._exit(0)
sys.stdin.read()
os.waitpid(pid, 0)
"""


def call(path: str) -> bytes:
    """Return what a stranger is told who connects and sends something."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setuid(NOBODY)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as caller:
                caller.settimeout(20)
                caller.connect(path)
                os.write(writing, b"end" if caller.recv(10) == b"" else b"something")
        except OSError as error:
            os.write(writing, type(error).__name__.encode())
        finally:
            os._exit(0)
    os.close(writing)
    told = os.read(reading, 100)
    os.close(reading)
    os.waitpid(pid, 0)
    return told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.usefixtures("reachable")
def test_workers_with_fewer_rights_raise_alarms(installation: Any, until: Callable[..., None]) -> None:
    """Their records are taken and screened as everybody's; those of a stranger are not, nor is he told anything."""
    program = SERVER.format(nobody=NOBODY)
    options = ("--alarm", "a cmd:cat >> out.txt", "--log-alarm", "a TERRIBLE")
    errors = (installation.directory / "errors").open("wb")
    process = installation.start(options, sys.executable, "-c", program, stdin=-1, stdout=-1, stderr=errors)
    errors.close()
    assert process.stdout.readline() == b"worker is done\n"
    out = installation.directory / "out.txt"
    until(lambda: out.exists() and len(out.read_text().splitlines()) == 2)
    assert sorted(out.read_text().splitlines()) == ["TERRIBLE as root", "TERRIBLE as somebody"]
    sockets = installation.state_dir / "alarm.sock"
    assert call(str(sockets)) in (b"end", b"ConnectionResetError")
    assert call(f"{sockets}.control") == b"PermissionError"
    assert (installation.state_dir / "outbox.db").stat().st_mode & 0o077 == 0
    process.stdin.close()
    assert process.wait(60) == 0
    process.stdout.close()
    assert "does not belong to this server" in (installation.directory / "errors").read_text()


def test_a_master_that_crashes_leaves_no_image_of_its_memory(installation: Any, until: Callable[..., None]) -> None:
    """A core file would hold the configuration's secrets, in whatever directory the server was started."""

    def allow_cores() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))

    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    options = ("--alarm", "a log:", "--log-alarm", "a TERRIBLE")
    process = installation.start(options, "cat", stdin=-1, stdout=-1, stderr=-1, preexec_fn=allow_cores)
    until(lambda: installation.status().get("pid"))
    first = installation.status()["pid"]
    os.kill(first, signal.SIGSEGV)
    until(lambda: installation.status().get("pid") not in (None, first))
    process.communicate(b"", timeout=60)
    assert [path.name for path in installation.directory.rglob("core*")] == []
