"""An outbox whose file is damaged, deleted or replaced while it is open."""

from __future__ import annotations

import itertools
import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from outbox_books import Clock, booking

from alarm_mw.delivery.outbox.database import Watch
from alarm_mw.delivery.outbox.entries import Outcome, Settlement
from alarm_mw.delivery.outbox.limits import Amount, State
from alarm_mw.delivery.outbox.memory_failover import FAIL_BACK_EVERY, FAIL_OVER_AFTER
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.engine.ledger import imbalances
from alarm_mw.model.types import Firing, Reason, Record

_numbers = itertools.count()

PAGE = 4096

DELIVERED = Outcome(State.DELIVERED, 1)


class Stage:
    """An outbox with some firings that wait, in several pages."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.outbox = Outbox(path, now=self.clock)
        self.told: list[str] = []
        self.outbox.on_fault = lambda text, _: self.told.append(text)
        self.waiting: list[bytes] = []
        self.take(50)
        self.settle(10)

    def take(self, n: int = 1) -> None:
        messages = [b"%d" % next(_numbers) for _ in range(n)]
        firings = [Firing(f"id{m.decode()}", "a", m * 100, Record(m, "stdout", 1.0, m.decode()), 1.0) for m in messages]
        self.outbox.take(firings, booking(self.outbox), b"limiters")
        self.waiting += [firing.message for firing in firings]

    def settle(self, n: int) -> None:
        entries = self.outbox.waiting("a", after=0, limit=n)
        self.outbox.settle(Settlement(entries, DELIVERED))
        self.waiting = self.waiting[len(entries) :]

    def found(self) -> list[bytes]:
        return [entry.firing.message for entry in self.outbox.waiting("a", after=0, limit=999)]

    def check(self) -> None:
        """See that nothing is missing, now and after a restart, and that the counts say so."""
        for _ in range(2):
            assert self.found() == self.waiting
            assert imbalances(self.outbox.ledger.books(), self.outbox.count_waiting()) == []
            assert self.outbox.memory() == b"limiters"
            self.outbox.close()
            self.outbox = Outbox(self.path, now=self.clock)

    def log(self) -> Path:
        return self.path.with_name(f"{self.path.name}-wal")

    def move_log(self) -> None:
        """Let the file itself hold what lies in the log."""
        with closing(sqlite3.connect(self.path)) as database:
            database.execute("PRAGMA wal_checkpoint(FULL)").fetchall()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    opened = Stage(tmp_path / "outbox.db")
    yield opened
    opened.outbox.close()


def overwrite(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(random.Random(1).randbytes(file.stat().st_size))


def _garbage(stage: Stage) -> None:
    stage.move_log()
    overwrite(stage.path)


def _zeros(stage: Stage) -> None:
    stage.move_log()
    for name in (stage.path, stage.path.with_name("outbox.db-shm")):
        with name.open("r+b") as opened:
            opened.write(bytes(name.stat().st_size))


def _truncated(stage: Stage) -> None:
    stage.move_log()
    os.truncate(stage.path, 0)


def _deleted(stage: Stage) -> None:
    stage.path.unlink()


def _deleted_log(stage: Stage) -> None:
    stage.log().unlink()


def _replaced(stage: Stage) -> None:
    other = stage.path.with_name("other")
    other.write_bytes(b"something else")
    other.replace(stage.path)


@pytest.mark.parametrize("damage", [_garbage, _zeros, _truncated, _deleted, _deleted_log, _replaced])
def test_what_is_known_to_wait_lies_in_a_new_file(
    stage: Stage, damage: Callable[[Stage], None], caplog: pytest.LogCaptureFixture
) -> None:
    """The file is begun anew at once: what waits is still delivered, what comes is taken, and one line says so."""
    damage(stage)
    stage.clock.now += 2.0
    stage.take()
    stage.settle(1)
    stage.take()
    assert stage.outbox.is_durable
    assert stage.outbox.fault == ""
    (line,) = caplog.messages
    assert stage.told == [line]
    assert str(stage.path) in line
    assert "a new one is started with" in line
    stage.check()


def test_damage_right_before_the_end_is_noticed(stage: Stage) -> None:
    """A file that is overwritten after the last look at it is begun anew when the outbox is closed."""
    stage.clock.now += 2.0
    stage.take()
    _garbage(stage)
    stage.outbox.close()
    with closing(sqlite3.connect(stage.path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    stage.outbox = Outbox(stage.path, now=stage.clock)
    stage.check()


@pytest.mark.parametrize("page", range(12))
@pytest.mark.parametrize("seed", range(3))
def test_any_page_may_be_overwritten(stage: Stage, page: int, seed: int) -> None:
    """Whichever page holds garbage, whether it is read or not: nothing that waits is lost."""
    stage.move_log()
    with stage.path.open("r+b") as file:
        file.seek(page * PAGE)
        file.write(random.Random(seed).randbytes(PAGE))
    stage.clock.now += 2.0
    stage.take(5)
    stage.settle(3)
    # Each master begins by reading all pages; what this one had in memory went with it.
    stage.outbox.query("PRAGMA shrink_memory")
    stage.take(5)
    assert stage.found() == stage.waiting
    assert imbalances(stage.outbox.ledger.books(), stage.outbox.count_waiting()) == []


def test_more_than_memory_knows_is_read_from_the_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond what is kept in memory the readable part of the file counts; what cannot be read is counted as dropped."""
    monkeypatch.setattr("alarm_mw.delivery.outbox.rescue.KNOWN", Amount(5, 10**6))
    stage = Stage(tmp_path / "outbox.db")
    stage.take(200)
    stage.move_log()
    with stage.path.open("r+b") as file:
        file.seek(20 * PAGE)
        file.write(bytes(PAGE))
    stage.outbox.query("PRAGMA shrink_memory")
    stage.clock.now += 2.0
    with closing(sqlite3.connect(stage.path)) as database, pytest.raises(sqlite3.DatabaseError):
        database.execute("SELECT LENGTH(firing) FROM firings").fetchall()
    found = stage.found()
    assert 200 < len(found) < len(stage.waiting)
    assert set(found) < set(stage.waiting)
    books = stage.outbox.ledger.books()
    assert books["alarms"]["a"]["dropped"] == {Reason.OUTBOX_FAILED: len(stage.waiting) - len(found)}
    assert imbalances(books, stage.outbox.count_waiting()) == []
    assert "could not be read, and are counted as dropped" in stage.told[0]
    stage.outbox.close()


def test_a_damaged_file_is_not_read_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alarms wait for it: when the time is over, what was not read, and is not known, is counted as dropped."""
    monkeypatch.setattr("alarm_mw.delivery.outbox.rescue.KNOWN", Amount(50, 10**6))
    monkeypatch.setattr("alarm_mw.delivery.outbox.rescue.SALVAGE_LIMIT", -1.0)
    stage = Stage(tmp_path / "outbox.db")
    stage.take(200)
    stage.move_log()
    with stage.path.open("r+b") as file:
        file.seek(20 * PAGE)
        file.write(bytes(PAGE))
    stage.outbox.query("PRAGMA shrink_memory")
    stage.clock.now += 2.0
    found = stage.found()
    assert len(found) == 50
    assert set(found) < set(stage.waiting)
    books = stage.outbox.ledger.books()
    assert books["alarms"]["a"]["dropped"] == {Reason.OUTBOX_FAILED: len(stage.waiting) - len(found)}
    assert imbalances(books, stage.outbox.count_waiting()) == []
    stage.outbox.close()


def test_tables_that_stay_away_are_damage(stage: Stage) -> None:
    """Where a table is missing for longer than a moment the file is begun anew."""
    with closing(sqlite3.connect(stage.path)) as database:
        database.execute("ALTER TABLE firings RENAME TO hidden")
    with pytest.raises(sqlite3.Error):
        stage.take()
    stage.clock.now += FAIL_OVER_AFTER
    stage.waiting = []
    stage.take()
    assert stage.outbox.is_durable
    assert stage.found()[-1:] == stage.waiting


def test_a_folder_that_is_gone_is_a_matter_for_memory(stage: Stage, tmp_path: Path) -> None:
    """Without a place for a new file alarms go on from memory; when there is one again, all of it is written."""
    folder = tmp_path / "state"
    folder.mkdir()
    inner = Stage(folder / "outbox.db")
    folder.rename(tmp_path / "elsewhere")
    inner.take()
    assert not inner.outbox.is_durable
    assert inner.found() == inner.waiting
    assert "from memory" in inner.outbox.fault
    folder.mkdir()
    inner.clock.now += FAIL_BACK_EVERY
    inner.take()
    assert inner.outbox.is_durable
    inner.check()
    inner.outbox.close()


def test_a_damaged_file_is_read_as_far_as_possible_at_the_start(tmp_path: Path) -> None:
    """What a new master can read of it is delivered, the rest is counted, and the books balance."""
    stage = Stage(tmp_path / "outbox.db")
    stage.outbox.close()
    with stage.path.open("r+b") as file:
        file.seek(12 * PAGE)
        file.write(bytes(4 * PAGE))
    with closing(Outbox(stage.path)) as outbox:
        found = [entry.firing.message for entry in outbox.waiting("a", after=0, limit=999)]
        assert set(found) < set(stage.waiting)
        assert found
        assert imbalances(outbox.ledger.books(), outbox.count_waiting()) == []
        assert outbox.ledger.books()["alarms"]["a"]["delivered"] == 10


def test_what_fires_beside_a_file_that_cannot_be_read_is_added_to_it(stage: Stage, tmp_path: Path) -> None:
    """When it can be read again both parts are there, each with its counts, and the lanes hear of it."""
    stage.outbox.close()
    stage.path.rename(tmp_path / "hidden")
    stage.path.mkdir()  # can be neither written nor read
    before = list(stage.waiting)
    stage.outbox = Outbox(stage.path, now=stage.clock)
    arrived: list[dict[str, int]] = []
    stage.outbox.on_arrival = lambda alarms: arrived.append(dict.fromkeys(alarms, 1))
    stage.waiting = []
    stage.take(2)
    assert (stage.outbox.is_durable, stage.found()) == (False, stage.waiting)
    stage.path.rmdir()
    (tmp_path / "hidden").rename(stage.path)
    stage.clock.now += FAIL_BACK_EVERY
    stage.take()
    assert stage.outbox.is_durable
    assert arrived == [{"a": 1}]
    stage.waiting = [*stage.waiting[:2], *before, *stage.waiting[2:]]
    stage.check()


def test_a_path_that_cannot_be_looked_at_is_no_damage(tmp_path: Path) -> None:
    """Where nobody can say what has become of the file, the one that is open stays in use."""
    folder = tmp_path / "state"
    folder.mkdir()
    inner = Stage(folder / "outbox.db")
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(folder)
    inner.take()
    assert (inner.outbox.is_durable, inner.told) == (True, [])
    folder.unlink()
    (tmp_path / "elsewhere").rename(folder)
    inner.check()
    inner.outbox.close()


def test_a_damaged_file_that_cannot_be_moved_stays_where_it_is(tmp_path: Path) -> None:
    """Alarms go on from memory then, and people are told why; once the file is gone, a new one has it all."""
    stage = Stage(tmp_path / ("o" * 240))  # there is no room for more in its name
    _garbage(stage)
    stage.clock.now += 2.0
    stage.take()
    (line,) = stage.told
    assert "It cannot be moved aside: File name too long" in line
    assert "from memory" in line
    assert (stage.outbox.is_durable, stage.found()) == (False, stage.waiting)
    for part in tmp_path.iterdir():
        part.unlink()
    stage.clock.now += FAIL_BACK_EVERY
    stage.take()
    assert stage.outbox.is_durable
    stage.check()
    stage.outbox.close()


def test_a_file_that_cannot_be_read_says_nothing_of_its_damage(tmp_path: Path) -> None:
    """What is wrong then is found by whoever reads it."""
    with closing(sqlite3.connect(tmp_path / "outbox.db")) as database:
        database.execute("CREATE TABLE t (x)")
    watch = Watch(tmp_path / "outbox.db")
    assert watch.damage() == ""
    (tmp_path / "outbox.db").write_bytes(b"x" * 4096)
    assert watch.damage() == "it was overwritten"
    watch.close()
    assert watch.damage() == ""
