"""A worker that was taken over, of a server that root has started, can stop and suppress no alarm of another process.

The worker runs as somebody else, and speaks to the master's sockets with packets of its own making.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

NOBODY = 65534

#: A parent, root, that prints and logs alarms when its worker has done what is put in.
SERVER = """
import contextlib, fcntl, logging, os, socket, sys, termios, threading, time
import alarm_mw
from alarm_mw.model.types import Record
from alarm_mw.transports.places import SOCKET_VARIABLE, subscribers_path
from alarm_mw.transports.subscription import Ask, Connection, Message
from alarm_mw.transports.wire import Packet, encode

path = os.environ[SOCKET_VARIABLE]
LINES = [f"TERRIBLE {n} of the parent" for n in range(5)]

def connect():
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.connect(path)
    return made

def send(record):
    with connect() as way:
        way.send(encode(Packet(record)))
        while fcntl.ioctl(way, termios.TIOCOUTQ, b"1234") != bytes(4):  # until the master has worked it off
            time.sleep(0.01)

logging.basicConfig(handlers=[alarm_mw.AlarmHandler()])
logging.error("nothing")
while not os.path.exists(subscribers_path(path)):  # the master is being started
    time.sleep(0.01)
ready, done = os.pipe()
pid = os.fork()
if pid == 0:
    os.setgid(65534)
    os.setuid(65534)
    kept = []
    me = os.getpid()
    now = time.time()
%s
    os.write(done, b"x")
    time.sleep(600)
os.read(ready, 1)
for line in LINES:
    print(line, flush=True)
print("parent is done", file=sys.stderr, flush=True)
sys.stdin.read()
os.kill(pid, 9)
"""

ATTACKS = {
    "announces the lines": """
    for line in LINES:
        send(Record(b"TERRIBLE worker\\n", "logging", now, f"1-{line[9]}", me, echoes=(line.encode(),)))
""",
    "announces words": """
    for n in range(20):
        send(Record(b"TERRIBLE worker\\n", "logging", now, f"2-{n}", me, loose_echo=(b"of the", b"parent")))
""",
    "takes all connections": """
    for n in range(20):
        if os.fork() == 0:
            with contextlib.suppress(OSError):
                for _ in range(200):
                    kept.append(connect())
                    kept.append(Connection(subscribers_path(path)))
            while os.getppid() == me:
                time.sleep(0.1)
            os._exit(0)
    time.sleep(1)
""",
    "asks for a mule's messages": """
    def steal():
        with contextlib.suppress(OSError), Connection(subscribers_path(path)) as mule:
            mule.send(Ask(1))
            while isinstance(message := mule.receive(), Message):
                mule.send(Ask(1, message.id))
    for _ in range(3):
        threading.Thread(target=steal).start()
    time.sleep(1)
""",
}

MULE = """
import alarm_mw
while True:
    message = alarm_mw.mule_get_msg()
    with open("got", "ab") as got:
        got.write(message)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.usefixtures("reachable")
@pytest.mark.parametrize("attack", ATTACKS)
def test_the_parents_alarms_arrive(installation: Any, until: Callable[..., None], attack: str) -> None:
    """Whatever its worker has sent before, each of the parent's lines fires, and the mule gets it."""
    (installation.directory / "mule.py").write_text(MULE)
    options = ("--alarm", "m mule:1", "--mule", "mule.py", "--log-alarm", "m TERRIBLE", "--alarm-freq", "0")
    errors = (installation.directory / "errors").open("wb")
    process = installation.start(
        options, sys.executable, "-c", SERVER % ATTACKS[attack], stdin=-1, stdout=-1, stderr=errors
    )
    errors.close()
    got = installation.directory / "got"
    wanted = {f"TERRIBLE {n} of the parent" for n in range(5)}
    until(lambda: got.exists() and wanted <= set(got.read_text().splitlines()))
    process.stdin.close()
    assert process.wait(60) == 0
    process.stdout.close()
