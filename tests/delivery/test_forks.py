"""Forks while another thread uses an outbox."""

from __future__ import annotations

import subprocess
import sys
import threading

from alarm_mw.delivery import forks

PROGRAM = """
import os, signal, threading
from alarm_mw.delivery.outbox import Outbox
from alarm_mw.types import Firing, Record

def firing(key):
    return Firing(key, "a", b"x" * 1000, Record(b"x", "stdout", 0.0, key), 0.0)

def busy(outbox):
    for _ in range(1_000_000):
        outbox.take([firing(str(m)) for m in range(20)], lambda *_: None)
        if over.is_set():
            return

over = threading.Event()
threads = [threading.Thread(target=busy, args=(Outbox(":memory:"),)) for _ in range(2)]
for thread in threads:
    thread.start()
hung = 0
for n in range(150):
    pid = os.fork()
    if not pid:
        signal.alarm(10)
        Outbox(":memory:").take([firing("child")], lambda *_: None)
        os._exit(0)
    hung += os.waitpid(pid, 0)[1] != 0
    if hung:
        break
over.set()
for thread in threads:
    thread.join()
print(hung)
"""


def test_a_child_that_was_forked_meanwhile_can_use_an_outbox() -> None:
    """SQLite's own locks are not held in it, whatever other threads were doing."""
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, timeout=110, check=False)
    assert (result.stdout, result.stderr) == (b"0\n", b"")


def test_a_fork_waits_for_no_thread_that_does_not_come_out() -> None:
    """A lock that is not given back in time holds no fork up, and stays with whoever has it."""
    lock, free = forks.new_lock(), forks.new_lock()
    begun, over = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            begun.set()
            over.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert begun.wait(30)
    forks._before_fork()
    assert lock not in forks._forking.held
    assert free in forks._forking.held
    forks._after_fork()
    assert not lock.acquire(blocking=False)
    over.set()
    holder.join()
