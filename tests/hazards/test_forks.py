"""Forks at the worst moment: none hangs, and each record is fired once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from waiting import LIMIT

#: How many children there are; each waits for its turn beside the busy thread.
FORKED = 300

#: A thread that is inside of `emit` nearly all the time, and children that log once each.
FORKS = """
import threading
stop = threading.Event()
def busy():
    while not stop.is_set(): logger.error("TERRIBLE noise")
thread = threading.Thread(target=busy)
thread.start()
for n in range({count}):
    if not (pid := os.fork()):
        logger.error("TERRIBLE %d", n)
        alarm_mw.shutdown()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
thread.join()
"""

#: Our own import of Hyperscan, in the thread that logs first, takes until a moment after the fork was asked for.
SLOW = """
import sys, threading
from importlib.machinery import PathFinder
begun, go = threading.Event(), threading.Event()
class Slow(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "hyperscan":
            begun.set()
            assert go.wait(30)
        return None
sys.meta_path.insert(0, Slow)
"""

FORK_AT_FIRST = """
import signal
thread = threading.Thread(target=logger.error, args=("TERRIBLE parent",))
thread.start()
assert begun.wait(30)
threading.Timer(0.2, go.set).start()
if not (pid := os.fork()):
    signal.alarm(20)
    logger.error("TERRIBLE child")
    alarm_mw.shutdown()
    os._exit(0)
thread.join()
assert os.waitpid(pid, 0)[1] == 0
"""

#: All is delivered at the end of both, however busy the machine.
BURST = f"""
import atexit
atexit.register(alarm_mw.shutdown, {LIMIT})
for n in range(200):
    if n == 100:
        pid = os.fork()
    logger.error("TERRIBLE %s %d", "parent" if n < 100 or pid else "child", n)
if pid:
    assert os.waitpid(pid, 0)[1] == 0
"""


def test_hundreds_of_forks_while_a_thread_logs(hazard: Any) -> None:
    """No child inherits a lock that is held, a socket that is not its own, or numbers that are taken."""
    hazard.supervised(FORKS.format(count=FORKED))
    assert Counter(hazard.fired()) == Counter(f"TERRIBLE {n}" for n in range(FORKED))
    assert hazard.books()["alarms"]["a"]["delivered"] == FORKED


def test_a_fork_while_another_thread_sends_the_first_record(hazard: Any) -> None:
    """What that one is just loading can be loaded in the child."""
    hazard.supervised(FORK_AT_FIRST, first=SLOW)
    assert sorted(hazard.fired()) == ["TERRIBLE child", "TERRIBLE parent"]


@pytest.mark.parametrize("how", ["supervised", "alone"])
def test_a_fork_in_the_middle_of_a_burst(hazard: Any, how: str) -> None:
    """What was logged before the fork is fired by the parent alone, what comes after it by each of the two."""
    getattr(hazard, how)(BURST)
    expected = [f"TERRIBLE parent {n}" for n in range(200)] + [f"TERRIBLE child {n}" for n in range(100, 200)]
    assert Counter(hazard.fired()) == Counter(expected)
