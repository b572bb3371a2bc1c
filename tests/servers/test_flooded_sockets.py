"""The master's sockets under a flood of connections, garbage and halves of packets."""

from __future__ import annotations

import resource
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

#: Descriptors of the master, and connections that are tried at each socket: more than it has.
DESCRIPTORS = 256
CONNECTIONS = 300

#: Kilobytes of memory that no flood brings a master to.
MUCH = 120_000

HALF_REQUEST = b"POST /dead HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 50_000
HALF_HEAD = b"GET /status HTTP/1.1\r\nX-Long: " + b"y" * 200_000
HALF_PACKET = b"\0\0\xff\0" + b"z" * 50_000
LONG_PACKET = b"\x7f\xff\xff\xff" + b"z" * 50_000
GARBAGE = bytes(range(256)) * 200

#: Says each line of its input, and logs it.
SERVER = """
import logging, sys
import alarm_mw
logging.basicConfig(handlers=[alarm_mw.AlarmHandler()])
for line in sys.stdin:
    print("TERRIBLE print", line, end="", flush=True)
    logging.error("TERRIBLE log %s", line.strip())
"""


@contextmanager
def few_descriptors() -> Iterator[None]:
    """Let what is started meanwhile have few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def flood(path: Path, kind: socket.SocketKind, data: bytes, stack: ExitStack) -> None:
    """Connect as often as that works, and send as much as is taken on each."""
    for _ in range(CONNECTIONS):
        caller = stack.enter_context(closing(socket.socket(socket.AF_UNIX, kind)))
        caller.settimeout(0.2)
        try:
            caller.connect(str(path))
            caller.setblocking(False)
            for _ in range(5):
                caller.send(data, socket.MSG_NOSIGNAL)
        except OSError:
            continue


@pytest.mark.parametrize(
    ("suffix", "kind", "data"),
    [
        ("", socket.SOCK_SEQPACKET, GARBAGE),
        (".control", socket.SOCK_STREAM, HALF_REQUEST),
        (".control", socket.SOCK_STREAM, HALF_HEAD),
        (".control", socket.SOCK_STREAM, b""),
        (".subscribers", socket.SOCK_STREAM, HALF_PACKET),
        (".subscribers", socket.SOCK_STREAM, LONG_PACKET),
    ],
)
def test_a_flood_stops_no_alarm(
    installation: Any, until: Callable[..., None], suffix: str, kind: socket.SocketKind, data: bytes
) -> None:
    """Lines and records raise alarms meanwhile, the status is told, and the master's memory is bounded."""
    out, errors = installation.directory / "out.txt", installation.directory / "errors"
    options = ("--alarm", f"a cmd:cat >> {out}", "--log-alarm", "a TERRIBLE")
    with few_descriptors(), errors.open("wb") as file:
        process = installation.start(options, sys.executable, "-uc", SERVER, stdin=-1, stdout=-1, stderr=file)

    def raise_alarms(word: str) -> None:
        process.stdin.write(f"{word}\n".encode())
        process.stdin.flush()
        expected = {f"TERRIBLE print {word}", f"TERRIBLE log {word}"}
        until(lambda: out.exists() and expected <= set(out.read_text().splitlines()))

    raise_alarms("before")
    master = installation.status()["pid"]
    with ExitStack() as stack:
        for _ in range(3):
            flood(installation.state_dir / f"alarm.sock{suffix}", kind, data, stack)
        raise_alarms("meanwhile")
        until(lambda: installation.status() != {})
    raise_alarms("after")
    status = installation.status()
    assert (status["pid"], status["imbalances"]) == (master, [])
    assert int(Path(f"/proc/{master}/status").read_text().partition("VmHWM:")[2].split()[0]) < MUCH
    process.communicate(timeout=60)
    assert process.returncode == 0
    said = errors.read_text()
    assert "Traceback" not in said
    assert len(said.splitlines()) < 20
