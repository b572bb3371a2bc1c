"""Under systemd: what the server says reaches the one who listens to the supervisor alone."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import LIMIT

from alarm_mw.supervisor.notify import NotifySocket, is_sent_for_server, without_main_pid

#: As a server does it, with the descriptor of a file.
TELLING = """
import os, socket, sys
name = os.environ["NOTIFY_SOCKET"]
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling, open(__file__) as file:
    telling.connect("\\0" + name[1:] if name[0] == "@" else name)
    telling.send(f"READY=1\\nMAINPID={os.getpid()}\\nSTATUS=up".encode())
    socket.send_fds(telling, [b"FDSTORE=1"], [file.fileno()])
print("told", flush=True)
input()
"""


class Systemd:
    """Listens as systemd does, and hears from which process a message came."""

    def __init__(self, name: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.settimeout(LIMIT)
        self.socket.bind(f"\0{name[1:]}" if name.startswith("@") else name)
        self.name = name

    def hear(self) -> tuple[bytes, int, list[int]]:
        """Return a message, its sender and its descriptors."""
        message, extras, *_ = self.socket.recvmsg(4096, 1024)
        credentials = next(data for _, kind, data in extras if kind == socket.SCM_CREDENTIALS)
        rights = b"".join(data for _, kind, data in extras if kind == socket.SCM_RIGHTS)
        return message, struct.unpack("iII", credentials)[0], [*struct.unpack(f"{len(rights) // 4}i", rights)]


@pytest.fixture(params=["file", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    name = str(tmp_path / "notify") if request.param == "file" else f"@alarm-mw-test-{os.getpid()}"
    listening = Systemd(name)
    yield listening
    listening.socket.close()


def test_the_server_is_ready_for_systemd(supervise: Any, systemd: Systemd, tmp_path: Path) -> None:
    """The message comes from the supervisor, which systemd knows, with its descriptors, and names no main process."""
    server = tmp_path / "server.py"
    server.write_text(TELLING)
    run = supervise(sys.executable, str(server), env={"NOTIFY_SOCKET": systemd.name})
    assert systemd.hear() == (b"READY=1\nSTATUS=up", run.process.pid, [])
    message, sender, (descriptor,) = systemd.hear()
    assert (message, sender) == (b"FDSTORE=1", run.process.pid)
    assert os.readlink(f"/proc/self/fd/{descriptor}") == str(server)
    os.close(descriptor)
    run.say("\n")
    assert run.end() == 0


def test_a_systemd_that_does_not_listen_is_no_harm(supervise: Any, tmp_path: Path) -> None:
    """The server runs and ends as ever when nobody is at the other end."""
    server = tmp_path / "server.py"
    server.write_text(TELLING)
    run = supervise(sys.executable, str(server), env={"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    assert run.output.next() == "told"
    run.say("\n")
    assert run.end() == 0


def test_strangers_do_not_speak_for_the_server() -> None:
    """Another user's process is heard only where it is a descendant of the supervisor."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        assert is_sent_for_server(child.pid, 12345)
        assert is_sent_for_server(1, os.geteuid())
        assert not is_sent_for_server(1, 12345)
        assert not is_sent_for_server(os.getppid(), 12345)
        child.communicate()
    assert not is_sent_for_server(child.pid, 12345)


def test_what_a_stranger_says_is_thrown_away(systemd: Systemd) -> None:
    """It does not reach systemd, and does not keep out what the server says next."""
    asked: list[int] = []

    def is_second(pid: int, _user: int) -> bool:
        asked.append(pid)
        return len(asked) > 1

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling:
        notify = NotifySocket(systemd.name, is_ours=is_second)
        telling.connect(notify.server_env["NOTIFY_SOCKET"].replace("@", "\0", 1))
        telling.send(b"WATCHDOG=1")
        telling.send(b"READY=1")
        notify.pass_on()
        notify.close()
    assert systemd.hear()[0] == b"READY=1"
    assert asked == [os.getpid()] * 2


@pytest.mark.parametrize(
    ("message", "left"),
    [
        (b"MAINPID=7\nREADY=1", b"READY=1"),
        (b"READY=1\nMAINPID=7\nMAINPIDFDID=9\n", b"READY=1\n"),
        (b"MAINPID=7", b""),
        (b"STATUS=MAINPID=7", b"STATUS=MAINPID=7"),
    ],
)
def test_the_supervisor_stays_the_main_process(message: bytes, left: bytes) -> None:
    """A server's claim to be the main process is left out, and nothing else."""
    assert without_main_pid(message) == left


@pytest.mark.parametrize("value", [None, "", "vsock:2:1234"])
def test_nothing_is_passed_on_where_nobody_listens(value: str | None) -> None:
    """Without systemd, or with one in another machine, no socket is made."""
    assert NotifySocket.of({} if value is None else {"NOTIFY_SOCKET": value}) is None
