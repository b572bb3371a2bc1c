"""Works on an outbox while one system call after the other fails, and prints what is wrong: a process of a test's."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from outbox_books import booking
from syscalls import Syscalls

from alarm_mw.delivery.outbox.entries import Outcome, Settlement
from alarm_mw.delivery.outbox.limits import State
from alarm_mw.delivery.outbox.memory_failover import FAIL_BACK_EVERY, FAIL_OVER_AFTER
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.engine.ledger import imbalances
from alarm_mw.model.types import Firing, Record

T = TypeVar("T")

#: How often whoever uses the outbox tries again.
ATTEMPTS = 5


class Work:
    """What a master does with an outbox; what fails is tried again, as there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.now = 1_800_000_000.0
        self._numbers = itertools.count()
        self.waiting: set[bytes] = set()
        self.outbox = self.open()

    def open(self) -> Outbox:
        return Outbox(self._path, now=lambda: self.now)

    def patiently(self, change: Callable[[], T]) -> T:
        for _ in range(ATTEMPTS):
            try:
                return change()
            except sqlite3.Error:
                self.now += FAIL_OVER_AFTER
        return change()

    def take(self, n: int) -> None:
        messages = [b"%d" % next(self._numbers) for _ in range(n)]
        firings = [Firing(m.decode(), "a", m, Record(m, "stdout", 1.0, m.decode()), 1.0) for m in messages]
        self.patiently(lambda: self.outbox.take(firings, booking(self.outbox), b"limiters"))
        self.waiting |= set(messages)

    def settle(self, n: int) -> None:
        entries = self.patiently(lambda: self.outbox.waiting("a", after=0, limit=n))
        self.patiently(lambda: self.outbox.note_failure(entries, 1, "no"))
        self.patiently(lambda: self.outbox.settle(Settlement(entries, Outcome(State.DELIVERED, 1))))
        self.waiting -= {entry.firing.message for entry in entries}

    def all(self) -> None:
        self.take(3)
        self.settle(1)
        self.patiently(self.outbox.flush)
        with (
            contextlib.suppress(sqlite3.Error),
            closing(sqlite3.connect(self._path, timeout=0.0)) as checkpointer,
        ):
            checkpointer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        self.take(2)

    def complaints(self) -> Iterator[str]:
        found = {entry.firing.message for entry in self.outbox.waiting("a", after=0, limit=99)}
        if found != self.waiting:
            yield f"{sorted(found)} wait, not {sorted(self.waiting)}"
        yield from imbalances(self.outbox.ledger.books(), self.outbox.count_waiting())


def _run(path: Path, syscalls: Syscalls, fault: Callable[[], None], *, at_start: bool) -> tuple[int, list[str]]:
    """Return how many calls failed, and what is wrong after that."""
    work = Work(path)
    work.all()
    if at_start:
        work.outbox.close()
    fault()
    if at_start:
        work.outbox = work.open()
    work.all()
    # What lies in a file that cannot be read is not seen until it can be.
    complaints = [] if at_start else list(work.complaints())
    failed = syscalls.stop()
    work.now += FAIL_BACK_EVERY
    work.patiently(work.outbox.flush)
    work.now += FAIL_BACK_EVERY
    work.patiently(work.outbox.flush)
    work.take(1)
    complaints += work.complaints()
    work.outbox.close()
    work.outbox = work.open()
    complaints += [f"after a restart: {text}" for text in work.complaints()]
    work.outbox.close()
    return failed, complaints


def main(folder: Path, syscalls: Syscalls, step: int) -> int:
    """Fail every `step`-th call; return how many were failed."""
    total = 0
    for at_start, is_lasting, number in itertools.product((False, True), (False, True), (errno.EIO, errno.ENOSPC)):
        for after in itertools.count(0, step):
            path = folder / f"{at_start}-{is_lasting}-{number}-{after}"
            path.mkdir()
            name = f"at_start={at_start} is_lasting={is_lasting} errno={errno.errorcode[number]} after={after}"
            fault = lambda: syscalls.fail(after, number, is_lasting=is_lasting)  # noqa: B023, E731  # called at once
            try:
                failed, complaints = _run(path / "outbox.db", syscalls, fault, at_start=at_start)
            except Exception as error:  # noqa: BLE001  # the others are tried all the same
                failed, complaints = (
                    max(syscalls.stop(), 1),
                    [f"{type(error).__name__}: {error}"],
                )
            total += failed
            for text in complaints:
                print(f"{name}: {text}")  # noqa: T201  # for the test
            if not failed:
                break
    return total


if __name__ == "__main__":
    seen = main(
        Path(sys.argv[1]), Syscalls(Path(os.environ["SYSCALLS_CONTROL"]), Path(), "outbox.db"), int(sys.argv[2])
    )
    print(f"{seen} calls failed")  # noqa: T201  # for the test
