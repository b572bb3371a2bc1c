"""What a master that is killed had in memory: the next one has it from the journal."""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from outbox_books import booking

from alarm_mw.delivery.outbox import journal as journal_module
from alarm_mw.delivery.outbox.entries import Outcome, Settlement
from alarm_mw.delivery.outbox.journal import Journal
from alarm_mw.delivery.outbox.limits import State
from alarm_mw.delivery.outbox.memory_failover import FAIL_BACK_EVERY
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.engine.ledger import imbalances
from alarm_mw.model.types import Firing, Record

FullDisk = Callable[[], AbstractContextManager[None]]

#: Bytes that a file may have while the disk is full: more than the journals here, less than the outbox's log.
LITTLE = 100_000

#: Bytes by which the outbox's log grows when it is opened, and a little more.
ROOM_TO_OPEN = 3 * 4120

_numbers = itertools.count()

DELIVERED = Outcome(State.DELIVERED, 1)


class Masters:
    """One master after the other at one outbox; what each has left behind is all that the next one knows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept: int | None = None
        self._killed: list[Outbox] = []
        self.now = 1_800_000_000.0
        self.waiting: list[bytes] = []
        self.outbox = self.start()

    def start(self) -> Outbox:
        inherited = None if self.kept is None else os.dup(self.kept)
        return Outbox(self.path, now=lambda: self.now, journal=Journal(inherited, self._keep))

    def _keep(self, descriptor: int) -> None:
        if self.kept is not None:
            os.close(self.kept)
        self.kept = os.dup(descriptor)

    def kill(self) -> None:
        """Have another master, though this one has closed nothing."""
        fresh = self.path.parent / f"after{len(self._killed)}"
        fresh.mkdir()
        for suffix in ("", "-wal"):
            part = self.path.with_name(self.path.name + suffix)
            if part.is_file():
                with no_room(None):
                    shutil.copy(part, fresh)
        self._killed.append(self.outbox)
        self.path = fresh / self.path.name
        self.outbox = self.start()

    def leave(self) -> None:
        """Have no master any more, though this one has closed nothing."""
        self._killed.append(self.outbox)

    def close(self) -> None:
        for outbox in (self.outbox, *self._killed):
            outbox.close()
        if self.kept is not None:
            os.close(self.kept)

    def take(self, n: int = 1) -> None:
        messages = [b"%d" % next(_numbers) for _ in range(n)]
        firings = [Firing(m.decode(), "a", m, Record(m, "stdout", 1.0, m.decode()), 1.0) for m in messages]
        self.outbox.take(firings, booking(self.outbox), b"limiters %d" % len(self.waiting))
        self.waiting += messages

    def settle(self, n: int = 1) -> None:
        entries = self.outbox.waiting("a", after=0, limit=n)
        self.outbox.settle(Settlement(entries, DELIVERED))
        self.waiting = self.waiting[n:]

    def check(self) -> None:
        assert [entry.firing.message for entry in self.outbox.waiting("a", after=0, limit=999)] == self.waiting
        assert imbalances(self.outbox.ledger.books(), self.outbox.count_waiting()) == []

    def return_to_file(self) -> None:
        self.now += FAIL_BACK_EVERY
        self.outbox.flush()
        assert self.outbox.is_durable


@pytest.fixture
def masters(tmp_path: Path) -> Iterator[Masters]:
    opened = Masters(tmp_path / "outbox.db")
    while (tmp_path / "outbox.db-wal").stat().st_size < LITTLE:
        opened.take(3)
        opened.settle(2)
    yield opened
    opened.close()


@contextmanager
def no_room(size: int | None = LITTLE) -> Iterator[None]:
    """Let the outbox's files not grow beyond a size; None: the largest that is allowed."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (before[1] if size is None else size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_kill_on_a_full_disk_loses_nothing(masters: Masters) -> None:
    """Master after master goes on with what the one before had in memory; the file gets it all when there is room."""
    with no_room():
        for n in range(3):
            masters.take(2)
            masters.settle()
            assert n or not masters.outbox.is_durable  # the first leaves some room in the log
            masters.kill()
            masters.check()
    masters.return_to_file()
    masters.check()
    masters.kill()
    masters.check()


def test_a_kill_before_there_is_room_again_loses_nothing(masters: Masters) -> None:
    """A master that can write the file again begins with what the one before had in memory."""
    with no_room():
        masters.take(2)
        masters.settle()
    masters.kill()
    assert masters.outbox.is_durable
    masters.check()
    masters.take()
    masters.kill()
    masters.check()


def test_what_was_written_back_is_not_written_again(masters: Masters) -> None:
    """A journal that a kill has left although the file has it all changes nothing."""
    with no_room():
        masters.take(2)
    kept = masters.kept
    assert kept is not None
    size = os.fstat(kept).st_size
    content = os.pread(kept, size, 0)
    masters.return_to_file()
    masters.settle(3)
    os.pwrite(kept, content, 0)
    masters.kill()
    masters.check()


@contextmanager
def _unreadable(masters: Masters) -> Iterator[None]:
    """Let masters find what can be neither written nor read in the place of the file."""
    before, hidden = masters.path, masters.path.parent / "hidden"
    masters.path = hidden / "outbox.db"
    masters.path.mkdir(parents=True)
    yield
    masters.path.rmdir()
    for suffix in ("", "-wal"):
        shutil.copy(before.with_name(before.name + suffix), hidden)


def test_a_kill_beside_a_file_that_cannot_be_read_loses_nothing(masters: Masters) -> None:
    """What fires meanwhile goes from master to master, and is added to the file by the one that can read it."""
    before, masters.waiting = masters.waiting, []
    masters.leave()
    with _unreadable(masters):
        masters.outbox = masters.start()
        masters.take(2)
        masters.leave()
        masters.outbox = masters.start()
        masters.check()
        masters.take()
        masters.settle()
        masters.leave()
        masters.outbox = masters.start()
        masters.check()
        masters.leave()
    masters.outbox = masters.start()
    masters.waiting += before
    assert masters.outbox.is_durable
    masters.check()


@pytest.mark.parametrize("limit", [journal_module.LIMIT, 0])
def test_what_a_file_that_cannot_be_read_is_to_get_waits_for_it(
    masters: Masters, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a full disk the file cannot even be read: both journals' firings are in it in the end, however long."""
    with no_room():
        masters.take(2)
    masters.leave()
    monkeypatch.setattr(journal_module, "LIMIT", limit)
    before, masters.waiting = masters.waiting, []
    with _unreadable(masters):
        masters.outbox = masters.start()
        masters.take(2)
        masters.check()
    masters.return_to_file()
    masters.waiting += before
    masters.check()


def test_a_long_journal_is_written_anew(masters: Masters, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much comes and goes, no more is kept than a few times what waits."""
    monkeypatch.setattr(journal_module, "LIMIT", 20_000)
    with no_room():
        masters.take()
        for _ in range(300):
            masters.take()
            masters.settle()
        masters.kill()
        masters.check()
    assert masters.kept is not None
    assert os.fstat(masters.kept).st_size < LITTLE


def test_without_room_for_a_journal_memory_has_to_do(
    masters: Masters, full_disk: FullDisk, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no file at all may grow alarms go on, and the log says what a kill costs."""
    with full_disk():
        masters.take()
    masters.check()
    assert "lost with this process" in caplog.text


def test_a_change_that_the_journal_has_no_room_for_can_be_repeated(masters: Masters, full_disk: FullDisk) -> None:
    """An outcome that cannot be kept for the next master is refused whole; when there is memory again it is taken."""
    with no_room():
        masters.take(2)
        with full_disk(), pytest.raises(sqlite3.OperationalError, match="memory file cannot be written: File too"):
            masters.settle()
        masters.check()
        masters.settle()
        masters.kill()
        masters.check()


def test_a_file_with_too_little_room_for_the_journal_gets_it_later(masters: Masters) -> None:
    """Where the file can be opened but not take what was in memory, that is kept once more, for one master more."""
    with no_room():
        masters.take(100)
    log = masters.path.with_name(f"{masters.path.name}-wal")
    with no_room(log.stat().st_size + ROOM_TO_OPEN):
        masters.kill()
        assert not masters.outbox.is_durable
        assert "cannot be written" in masters.outbox.fault
        masters.check()
        masters.kill()
        masters.check()
    masters.return_to_file()
    masters.check()


def test_a_full_disk_after_a_file_that_could_not_be_read_loses_nothing(masters: Masters) -> None:
    """A file that can be read again but not written: both parts go from master to master, and so do their outcomes."""
    before, masters.waiting = masters.waiting, []
    masters.leave()
    with _unreadable(masters):
        masters.outbox = masters.start()
        masters.take(2)
        masters.leave()
    with no_room():
        masters.outbox = masters.start()
        masters.waiting += before
        masters.check()
        masters.settle(3)
        assert not masters.outbox.is_durable
        masters.kill()
        masters.check()
    masters.return_to_file()
    masters.check()
