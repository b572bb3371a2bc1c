"""``SIGKILL``, under load, at moments that nobody has chosen."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import threading
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from random import SystemRandom

from faults.ground import Ground, wait_until
from faults.receiver import Receiver
from faults.row import Row, judge

#: Seconds within which a kill follows what it waits for.
SOON = 1.5

#: Seconds after which a line that has passed through is in the outbox, on a busy machine too.
SETTLED = 2.0

#: Seconds for which a disk is slow: more than output waits for the outbox.
SLOW = 0.6

chance = SystemRandom()


def _pause(most: float = SOON) -> None:
    """Let a time pass that nobody knows before: the fault may hit at any moment."""
    threading.Event().wait(chance.uniform(0, most))


@contextlib.contextmanager
def _slow_disk(file: Path) -> Iterator[None]:
    """Let nobody write an outbox, where there is one: what would be lost between socket and file has a while for it."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as database:
        with contextlib.suppress(sqlite3.OperationalError):  # a master that starts has it
            database.execute("BEGIN IMMEDIATE")
        yield


def _wait_for_another_master(ground: Ground, before: Collection[int]) -> None:
    wait_until(lambda: set(ground.masters()) - set(before), what="another master")


def _wait_for_another_worker(ground: Ground, before: Collection[int]) -> None:
    wait_until(lambda: set(ground.workers()) - set(before), what="another worker")


def master(folder: Path, times: int) -> list[Row]:
    """Kill masters, also while they start, and while they wait for a disk."""
    with Receiver().serving() as hook:
        ground = Ground(folder, {"a": hook.url})
        with ground.running():
            with ground.under_load():
                for _ in range(times):
                    _pause()
                    wait_until(ground.masters, what="a master")
                    before = ground.masters()
                    with _slow_disk(ground.state / "outbox.db"):
                        _pause(SLOW)
                        with contextlib.suppress(ProcessLookupError):  # it was still dying of the last one
                            os.kill(before[0], signal.SIGKILL)
                    _wait_for_another_master(ground, before)
            hook.wait_for(ground.accepted, "all that was accepted", ground.counted)
        return [judge("SIGKILL of the master", times, ground.outbox(), ground.accepted, hook.received)]


def late(folder: Path, times: int) -> list[Row]:
    """Kill masters when output has passed on which a slow disk had held up."""
    with Receiver().serving() as hook:
        ground = Ground(folder, {"a": hook.url})
        with ground.running():
            for _ in range(times):
                before = ground.ready()
                with _slow_disk(ground.state / "outbox.db"):
                    printed = {n for n in ground.raise_alarms(100) if n % 2 == 0}
                    wait_until(partial(_has_passed, ground, printed), what="output that has passed")
                    os.kill(before, signal.SIGKILL)
                _wait_for_another_master(ground, [before])
                hook.wait_for(ground.accepted, "all that was accepted", ground.counted)
        return [judge("SIGKILL of the master, disk slow", times, ground.outbox(), ground.accepted, hook.received)]


def _has_passed(ground: Ground, numbers: set[int]) -> bool:
    return numbers <= ground.printed()


def worker(folder: Path, times: int) -> list[Row]:
    """Kill the server's processes, whose connections the master has."""
    with Receiver().serving() as hook:
        ground = Ground(folder, {"a": hook.url})
        with ground.running():
            with ground.under_load():
                for _ in range(times):
                    _pause(SOON / 2)
                    wait_until(lambda: len(ground.workers()) == 2, what="two workers")
                    before = set(ground.workers())
                    os.kill(chance.choice(sorted(before)), signal.SIGKILL)
                    _wait_for_another_worker(ground, before)
            hook.wait_for(ground.accepted, "all that was accepted", ground.counted)
        return [judge("SIGKILL of a worker", times, ground.outbox(), ground.accepted, hook.received)]


def supervisor(folder: Path, times: int) -> list[Row]:
    """Kill the supervisor: the server ends in peace, the master delivers what it can, the next start the rest."""
    with Receiver().serving() as hook:
        ground = Ground(folder, {"a": hook.url})
        for _ in range(times):
            ground.start()
            with ground.under_load():
                _pause()
                ground.kill_supervisor()
        with ground.running():
            ground.raise_alarms()
            hook.wait_for(ground.accepted, "all that was accepted", ground.counted)
        return [judge("SIGKILL of the supervisor", times, ground.outbox(), ground.accepted, hook.received)]


def everything(folder: Path, times: int) -> list[Row]:
    """Kill all processes at once: what lay in pipes and sockets went with them, what the outbox took is delivered.

    A line that has passed through is in the outbox, when it has had its time to wait for a log record.
    """
    accepted: set[int] = set()
    waiting: set[str] = set()
    with Receiver().serving() as hook:
        ground = Ground(folder, {"a": hook.url})
        for _ in range(times):
            ground.start()
            ground.ready()  # before, nothing passes, and there is nothing to lose
            earlier = ground.printed()
            with ground.under_load():
                _pause()
                passed = ground.printed()
                threading.Event().wait(SETTLED)
                ground.kill_all()
            waiting |= ground.outbox().ids.get("waiting", frozenset())
            accepted |= passed - earlier
        with ground.running():
            accepted |= ground.raise_alarms()
            hook.wait_for(accepted, "all that was accepted")
            wait_until(lambda: waiting <= {one for ids in hook.received.values() for one in ids}, what="what waited")
        return [judge("SIGKILL of all of them at once", times, ground.outbox(), accepted, hook.received)]
