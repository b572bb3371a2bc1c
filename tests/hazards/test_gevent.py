"""gevent, which puts greenlets in the place of threads and locks, before we are imported or behind it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from waiting import LIMIT

PATCH = "from gevent import monkey; monkey.patch_all()\n"

GREENLETS = """
import gevent
def work(name):
    for n in range(20):
        logger.error("TERRIBLE %s.%d", name, n)
        gevent.sleep(0)
gevent.joinall([gevent.spawn(work, name) for name in range(10)], raise_error=True)
"""


@pytest.mark.parametrize("how", ["supervised", "alone"])
@pytest.mark.parametrize("when", ["before", "behind", "at work"])
def test_greenlets_log_as_threads_do(hazard: Any, how: str, when: str) -> None:
    """Each record of each greenlet is fired once, and the program ends."""
    first, program = {
        "before": (PATCH, GREENLETS),
        "behind": ("", PATCH + GREENLETS),
        "at work": ("", "logger.error('TERRIBLE first')\n" + PATCH + GREENLETS),
    }[when]
    getattr(hazard, how)(program, first=first)
    expected = [f"TERRIBLE {name}.{n}" for name in range(10) for n in range(20)]
    assert Counter(hazard.fired()) == Counter(expected + (["TERRIBLE first"] if when == "at work" else []))


BUSY_MASTER = """
import socket, tempfile, threading
from alarm_mw.transports.shared import SharedMemory
from alarm_mw.transports.unix import UnixTransport

path = tempfile.mkdtemp() + "/alarm.sock"
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(path)
listener.listen()
transport = UnixTransport(path, lambda *_: None, SharedMemory())
print({str(transport.send(b"x" * 10_000)) for _ in range(2_000)})
"""


def test_no_greenlet_waits_for_a_master() -> None:
    """A master that accepts nobody, and reads nothing, holds up no application: gevent's sockets would wait."""
    program = [sys.executable, "-c", PATCH + BUSY_MASTER]
    run = subprocess.run(program, check=False, capture_output=True, text=True, timeout=LIMIT)
    assert run.stdout in {"{'None', 'queue_full'}\n", "{'queue_full', 'None'}\n"}, run.stderr
