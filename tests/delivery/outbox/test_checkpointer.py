"""The checkpointer, beside an outbox that goes on."""

from __future__ import annotations

import itertools
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest
from waiting import LIMIT, wait_until

from alarm_mw.delivery.outbox import checkpointer as checkpointing
from alarm_mw.delivery.outbox.checkpointer import Checkpointer
from alarm_mw.delivery.outbox.database import AUTOCHECKPOINT
from alarm_mw.delivery.outbox.entries import Outcome, Settlement
from alarm_mw.delivery.outbox.limits import State
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.delivery.outbox.store import CHECKPOINT_EVERY
from alarm_mw.model.types import Firing, Record

FullDisk = Callable[[], AbstractContextManager[None]]

PAGE = 4096

_numbers = itertools.count()


def take(outbox: Outbox, n: int = 1, size: int = 1) -> None:
    names = [f"id{next(_numbers)}" for _ in range(n)]
    record = Record(b"x", "stdout", 1.0, "k")
    outbox.take([Firing(name, "a", b"m" * size, record, 1.0) for name in names], lambda _, __: None)


def settle(outbox: Outbox) -> None:
    for entry in outbox.waiting("a", after=0, limit=100):
        outbox.settle(Settlement([entry], Outcome(State.DELIVERED, 1)))


def log_size(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


def in_the_file(path: Path, tmp_path: Path) -> int:
    """Return how many firings the file itself has."""
    copy = tmp_path / "copy.db"
    shutil.copyfile(path, copy)
    with closing(sqlite3.connect(copy)) as database:
        try:
            ((n,),) = database.execute("SELECT COUNT(*) FROM firings")
        except sqlite3.DatabaseError:  # it is written just now
            return 0
    return int(n)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    with closing(Outbox(path)) as opened:
        yield opened


@pytest.fixture
def checkpointer(path: Path) -> Iterator[Checkpointer]:
    made = Checkpointer(path)
    yield made
    made.stop()
    made.run()  # closes what it has open


def test_what_was_written_lies_in_the_file_then(
    outbox: Outbox, path: Path, tmp_path: Path, checkpointer: Checkpointer
) -> None:
    """All that the outbox has taken is moved."""
    checkpointer.work()
    take(outbox, 20)
    assert in_the_file(path, tmp_path) == 0
    checkpointer.work()
    assert in_the_file(path, tmp_path) == 20


def test_the_log_begins_anew(outbox: Outbox, path: Path, checkpointer: Checkpointer) -> None:
    """However much is written, the log stays as long as what comes between two checkpoints."""
    for _ in range(10):
        take(outbox, size=10 * PAGE)
        checkpointer.work()
    assert log_size(path) < 42 * PAGE


def test_an_outbox_asks_for_it_when_its_log_has_grown(outbox: Outbox) -> None:
    """It is asked for after so many rows, and again after as many more."""
    asked: list[int] = []
    outbox.on_growth = lambda: asked.append(outbox.ledger.books()["alarms"]["a"]["delivered"])
    while len(asked) < 3:
        take(outbox, 10)
        settle(outbox)
    first, second, third = asked
    assert 0 < first < CHECKPOINT_EVERY
    assert abs((third - second) - (second - first)) <= 20


def test_the_log_is_bounded_without_it(outbox: Outbox, path: Path) -> None:
    """Where the checkpointer hangs, the outbox itself sees to it."""
    for _ in range(2 * AUTOCHECKPOINT // 500):
        take(outbox, size=500 * PAGE)
        settle(outbox)
    assert log_size(path) < 1.2 * AUTOCHECKPOINT * PAGE


def test_nobody_who_writes_is_turned_away(outbox: Outbox, path: Path, tmp_path: Path) -> None:
    """Firings are taken and settled while it works all the time, and all of them are in the file afterwards."""
    checkpointer, is_over = Checkpointer(path), threading.Event()

    def work() -> None:
        while not is_over.is_set():
            checkpointer.work()
        checkpointer.stop()
        checkpointer.run()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        for _ in range(300):
            take(outbox)
            settle(outbox)
    finally:
        is_over.set()
        thread.join(LIMIT)
    assert outbox.ledger.books()["alarms"]["a"]["delivered"] == 300
    assert checkpointer.fault == ""
    Checkpointer(path).work()
    assert in_the_file(path, tmp_path) == 300
    with closing(sqlite3.connect(tmp_path / "copy.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_the_log_does_not_begin_anew_while_it_works(outbox: Outbox, path: Path) -> None:
    """What is written just then comes behind what is being moved: else SQLite before 3.51.3 could lose it."""
    take(outbox, 20, size=PAGE)
    with (
        closing(sqlite3.connect(path)) as moving,
        closing(sqlite3.connect(path, isolation_level=None)) as reading,
        checkpointing.kept_open(reading),
    ):
        assert moving.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[0] == 0
        before = log_size(path)
        take(outbox)
        assert log_size(path) > before


def test_who_reads_an_older_state_holds_up_nothing_but_the_rest(
    outbox: Outbox, path: Path, tmp_path: Path, checkpointer: Checkpointer
) -> None:
    """While another process reads, what came after it began stays in the log; later it is moved."""
    take(outbox)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM firings").fetchall()
        take(outbox)
        checkpointer.work()
        assert checkpointer.fault == ""
        reader.execute("COMMIT")
    checkpointer.work()
    assert in_the_file(path, tmp_path) == 2


def test_a_full_disk_is_told_once(
    outbox: Outbox, path: Path, checkpointer: Checkpointer, full_disk: FullDisk, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says once that the file cannot be written, and the fault lasts until it can."""
    take(outbox, 20)
    with full_disk():
        checkpointer.work()
        checkpointer.work()
        assert "its log grows" in checkpointer.fault
    assert [str(path) in message for message in caplog.messages] == [True]
    checkpointer.work()
    assert checkpointer.fault == ""


def test_a_file_that_is_not_there_is_not_made(path: Path, checkpointer: Checkpointer) -> None:
    """Where somebody has taken the file away, there is a fault, and no empty file."""
    checkpointer.work()
    assert checkpointer.fault != ""
    assert not path.exists()


def test_it_stays_with_the_file_that_the_outbox_has(
    outbox: Outbox, path: Path, tmp_path: Path, checkpointer: Checkpointer
) -> None:
    """Another file in the place of the outbox's is left alone, and the one that was moved has it all."""
    checkpointer.work()
    take(outbox, 5)
    moved = tmp_path / "moved.db"
    path.rename(moved)
    path.write_bytes(b"something else")
    checkpointer.work()
    assert in_the_file(moved, tmp_path) == 5
    assert path.read_bytes() == b"something else"


@contextmanager
def working(checkpointer: Checkpointer) -> Iterator[None]:
    """Let it work in a thread, which must end."""
    thread = threading.Thread(target=checkpointer.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        checkpointer.stop()
        thread.join(LIMIT)
        assert not thread.is_alive()


def test_its_thread_does_what_is_wanted_and_ends(path: Path, tmp_path: Path) -> None:
    """Then nothing has the file open but the outbox, whose end leaves no log."""
    outbox, checkpointer = Outbox(path), Checkpointer(path)
    with working(checkpointer):
        take(outbox, 20)
        checkpointer.request()
        wait_until(lambda: in_the_file(path, tmp_path) == 20)
    outbox.close()
    assert not Path(f"{path}-wal").exists()


def test_its_thread_tries_again_what_has_failed(path: Path) -> None:
    """A fault ends by itself, though nothing is written."""
    checkpointer = Checkpointer(path, retry_every=0.001)
    with working(checkpointer):
        checkpointer.request()
        wait_until(lambda: checkpointer.fault)
        with closing(Outbox(path)):
            wait_until(lambda: not checkpointer.fault)
