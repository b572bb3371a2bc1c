"""Forks while another thread uses an outbox, or imports a module."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from alarm_mw.system import forks

PROGRAM = """
import os, signal, threading
from alarm_mw.delivery.outbox.outbox import Outbox
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


#: A module that takes until a moment after the fork was asked for.
SLOW = "import shared; shared.begun.set(); assert shared.go.wait(30)"

IMPORT = """
import os, signal, sys, threading
import shared
from alarm_mw.system.forks import held_off

def load():
    with held_off():
        import slow

thread = threading.Thread(target=load)
thread.start()
assert shared.begun.wait(30)
threading.Timer(0.2, shared.go.set).start()
pid = os.fork()
if not pid:
    signal.alarm(20)
    load()
    os._exit(0)
print(os.waitpid(pid, 0)[1])
thread.join()
"""


def test_a_child_that_was_forked_meanwhile_can_import_the_same(tmp_path: Path) -> None:
    """The lock of a module that another thread was importing is not held in it."""
    (tmp_path / "shared.py").write_text("import threading; begun, go = threading.Event(), threading.Event()")
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "program.py").write_text(IMPORT)
    result = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")], capture_output=True, timeout=110, check=False
    )
    assert (result.stdout, result.stderr) == (b"0\n", b"")


def test_who_imports_waits_for_nobody_else_who_does() -> None:
    """What one thread imports may need what another one has begun to import."""
    with forks.held_off():
        other = threading.Thread(target=_hold_off)
        other.start()
        other.join(30)
        assert not other.is_alive()


def _hold_off() -> None:
    with forks.held_off():
        pass


def test_a_fork_waits_for_no_thread_that_does_not_come_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that is not given back in time holds no fork up, and stays with whoever has it."""
    monkeypatch.setattr(forks, "PATIENCE", 0.1)
    lock, free = forks.new_lock(), forks.new_lock()
    begun, over = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            begun.set()
            over.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert begun.wait(30)
    pid = os.fork()
    if pid == 0:
        os._exit(free.acquire(blocking=False) and not lock.acquire(blocking=False))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert not lock.acquire(blocking=False)
    over.set()
    holder.join()


def test_a_value_that_another_thread_is_computing_is_not_waited_for() -> None:
    """A child that was forked just then would wait for ever: each computes it, and keeps it."""
    begun, go = threading.Event(), threading.Event()

    class Slow:
        times = 0

        @forks.cached_property
        def value(self) -> int:
            self.times += 1
            if self.times == 1:
                begun.set()
                assert go.wait(30)
            return 42

    slow = Slow()
    thread = threading.Thread(target=lambda: slow.value)
    thread.start()
    assert begun.wait(30)
    assert slow.value == 42
    go.set()
    thread.join()
    assert (slow.value, slow.times) == (42, 2)
