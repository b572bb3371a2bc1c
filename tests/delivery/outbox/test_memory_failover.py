"""An outbox whose disk fills while it runs."""

from __future__ import annotations

import itertools
import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest
from outbox_books import Clock

from alarm_mw.delivery.outbox.entries import Outcome, Settlement
from alarm_mw.delivery.outbox.limits import IN_MEMORY, ON_DISK, Amount, OutboxOptions, State
from alarm_mw.delivery.outbox.memory_failover import FAIL_BACK_EVERY, FAIL_OVER_AFTER
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.engine.ledger import imbalances
from alarm_mw.model.types import Firing, Reason, Record

FullDisk = Callable[[], AbstractContextManager[None]]

_numbers = itertools.count()

DELIVERED = Outcome(State.DELIVERED, 1)
REFUSED = Outcome(State.DEAD, 1, "no", Reason.REFUSED)


class Stage:
    """An outbox, a clock that is set by hand, and what people are told."""

    def __init__(self, path: Path) -> None:
        self.clock = Clock()
        self.outbox = Outbox(path, now=self.clock)
        self.told: list[tuple[str, str]] = []
        self.outbox.on_fault = lambda text, key: self.told.append((text, key))

    def take(self, *messages: bytes, identity: str = "") -> list[bytes]:
        def book(one: Firing, is_new: bool) -> None:
            self.outbox.ledger.alarm("a", "matched")
            self.outbox.ledger.alarm("a", *(("fired",) if is_new else ("held_back",)), reason=_reason(is_new=is_new))

        names = [identity or f"id{next(_numbers)}" for _ in messages]
        firings = [
            Firing(name, "a", message, Record(message, "stdout", 1.0, name), 1.0)
            for name, message in zip(names, messages, strict=True)
        ]
        return [entry.firing.message for entry in self.outbox.take(firings, book, b"limiters").entries]

    def flee(self) -> None:
        """Meet a system call that fails."""
        self.outbox.flush()
        assert not self.outbox.is_durable

    def waiting(self) -> list[bytes]:
        return [entry.firing.message for entry in self.outbox.waiting("a", after=0, limit=99)]

    def settle(self, outcome: Outcome, n: int = 1) -> None:
        for entry in self.outbox.waiting("a", after=0, limit=n):
            self.outbox.settle(Settlement([entry], outcome))

    def states(self) -> list[tuple[object, ...]]:
        return self.outbox.query("SELECT state, COUNT(*) FROM firings GROUP BY state ORDER BY state")

    def complaints(self) -> list[str]:
        return imbalances(self.outbox.ledger.books(), self.outbox.count_waiting())


def _reason(*, is_new: bool) -> Reason | None:
    return None if is_new else Reason.DUPLICATE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def stage(path: Path) -> Iterator[Stage]:
    opened = Stage(path)
    yield opened
    opened.outbox.close()


def test_a_disk_that_fills_stops_no_alarm(stage: Stage, path: Path, full_disk: FullDisk) -> None:
    """What waits and what fires is delivered from memory, in order; as soon as there is space the file has it all."""
    stage.take(b"delivered before", b"waits", b"waits too")
    stage.settle(DELIVERED)
    with full_disk():
        stage.flee()
        assert stage.take(b"fired meanwhile", b"again", b"and again") == [b"fired meanwhile", b"again", b"and again"]
        assert stage.waiting() == [b"waits", b"waits too", b"fired meanwhile", b"again", b"and again"]
        stage.settle(DELIVERED, 3)
        stage.settle(REFUSED)
        assert stage.complaints() == []
        stage.clock.now += FAIL_BACK_EVERY
        stage.outbox.flush()  # tries the file, in vain
        assert (stage.outbox.is_durable, stage.outbox.fault != "") == (False, True)
    stage.clock.now += FAIL_BACK_EVERY
    stage.outbox.flush()
    assert (stage.outbox.is_durable, stage.outbox.fault) == (True, "")
    assert stage.complaints() == []
    with closing(Outbox(path)) as again:
        assert imbalances(again.ledger.books(), again.count_waiting()) == []
        assert [entry.firing.message for entry in again.waiting("a", after=0, limit=9)] == [b"and again"]
        assert again.memory() == b"limiters"
    assert stage.states() == [("dead", 1), ("delivered", 4), ("waiting", 1)]


def test_people_are_told_once_what_it_means(
    stage: Stage, path: Path, full_disk: FullDisk, caplog: pytest.LogCaptureFixture
) -> None:
    """The log and the own alarms say which file, what may be lost, and what to do; the log says when it is over."""
    with full_disk():
        stage.flee()
        stage.take(b"x")
    ((text, key),) = stage.told
    assert key == "outbox"
    assert all(part in text for part in (str(path), "from memory", "server end before", f"see that {path.parent}"))
    assert stage.outbox.fault == text
    assert text in caplog.text
    caplog.set_level(logging.INFO)
    assert stage.outbox.regain()
    assert [record.levelname for record in caplog.records if "can be written again" in record.message] == ["INFO"]


def test_a_file_that_is_well_is_left_alone(stage: Stage) -> None:
    """One failure is tried again, and those that lie apart are no sign of a full disk."""
    for _ in range(3):
        with closing(sqlite3.connect(stage.outbox.path, isolation_level=None)) as blocker:
            blocker.execute("BEGIN IMMEDIATE")
            with pytest.raises(sqlite3.OperationalError):
                stage.outbox.flush()
        stage.clock.now += FAIL_OVER_AFTER
        stage.outbox.flush()
    assert (stage.outbox.is_durable, stage.told) == (True, [])


def test_a_duplicate_is_found_in_memory_as_well(stage: Stage, full_disk: FullDisk) -> None:
    """A record that comes again, after its firing was delivered, fires nothing while the disk is full, nor later."""
    stage.take(b"once", identity="same")
    stage.settle(DELIVERED)
    with full_disk():
        stage.flee()
        assert stage.take(b"once", identity="same") == []
        assert stage.take(b"in memory", identity="other") == [b"in memory"]
    assert stage.outbox.regain()
    assert stage.take(b"in memory", identity="other") == []
    assert stage.complaints() == []


def test_numbers_go_on(stage: Stage, full_disk: FullDisk) -> None:
    """No number is given twice: a lane that has looked up to one would not find what comes under a lower one."""
    stage.take(b"x", b"y")
    last = stage.outbox.waiting("a", after=0, limit=2)[-1].seq
    with stage.outbox.transaction():
        stage.outbox.change("DELETE FROM firings")
    with full_disk():
        stage.flee()
        stage.take(b"z")
        (entry,) = stage.outbox.waiting("a", after=last, limit=1)
        stage.outbox.change("DELETE FROM firings")
    assert stage.outbox.regain()
    stage.take(b"after")
    assert stage.outbox.waiting("a", after=entry.seq, limit=1) != []


@pytest.mark.parametrize(
    ("options", "bound"),
    [
        (None, IN_MEMORY[State.WAITING]),
        (OutboxOptions(waiting=7, waiting_mib=1), None),
    ],
)
def test_memory_is_bounded(stage: Stage, full_disk: FullDisk, options: OutboxOptions | None, bound: object) -> None:
    """Less may wait in memory, where nothing else was said; dead letters of the file do not make way for that."""
    if options is not None:
        stage.outbox.limit(options)
        bound = options.bounds(ON_DISK)[State.WAITING]
    with full_disk():
        stage.flee()
        assert stage.outbox.bounds[State.WAITING] == bound
        assert stage.outbox.bounds[State.DEAD] == ON_DISK[State.DEAD]
    assert stage.outbox.regain()
    assert options is not None or stage.outbox.bounds == ON_DISK


def test_a_file_that_cannot_be_read_either_costs_nothing(stage: Stage, path: Path, full_disk: FullDisk) -> None:
    """Where there is nothing to copy, alarms go on with what is known to wait; later the file is begun anew."""
    stage.take(b"waits")
    with closing(sqlite3.connect(path)) as database:
        database.execute("ALTER TABLE memory RENAME TO hidden")
    with full_disk():
        stage.flee()
        assert stage.take(b"meanwhile") == [b"meanwhile"]
    for _ in range(2):
        stage.clock.now += FAIL_BACK_EVERY
        stage.outbox.flush()
    assert stage.outbox.is_durable
    assert stage.waiting() == [b"waits", b"meanwhile"]
    assert stage.complaints() == []


def test_the_end_on_a_full_disk_leaves_a_whole_file(
    path: Path, full_disk: FullDisk, caplog: pytest.LogCaptureFixture
) -> None:
    """What could not be written until the end is lost, which the log says; the file is as it was, and balances."""
    stage = Stage(path)
    stage.take(b"before")
    with full_disk():
        stage.flee()
        stage.take(b"meanwhile")
        stage.outbox.close()
    assert "still cannot be written" in caplog.text
    with closing(Outbox(path)) as again:
        assert [entry.firing.message for entry in again.waiting("a", after=0, limit=9)] == [b"before"]
        assert imbalances(again.ledger.books(), again.count_waiting()) == []


@pytest.fixture
def filled(path: Path) -> Path:
    """Leave an outbox behind as a kill does, with firings that wait, and one that was delivered."""
    stage = Stage(path)
    stage.take(b"delivered", identity="known")
    stage.settle(DELIVERED)
    stage.take(b"waits", b"waits too")
    names = [part for suffix in ("", "-wal", "-shm") if (part := path.with_name(path.name + suffix)).exists()]
    contents = {name: name.read_bytes() for name in names}
    stage.outbox.close()
    for name, content in contents.items():
        name.write_bytes(content)
    return path


def test_a_start_on_a_full_disk_goes_on_with_what_the_file_holds(filled: Path, full_disk: FullDisk) -> None:
    """What waits in it is delivered, with what fires now; when there is space the file has it all, each once."""
    with full_disk():
        stage = Stage(filled)
        assert (stage.outbox.is_durable, stage.outbox.has_file) == (False, True)
        assert "cannot be written" in stage.outbox.fault
        assert stage.outbox.memory() == b"limiters"
        assert stage.take(b"delivered", identity="known") == []
        assert stage.take(b"new") == [b"new"]
        assert stage.waiting() == [b"waits", b"waits too", b"new"]
        stage.settle(DELIVERED)
        stage.clock.now += FAIL_BACK_EVERY
        stage.outbox.flush()  # tries the file, in vain
        assert not stage.outbox.is_durable
    stage.clock.now += FAIL_BACK_EVERY
    stage.outbox.flush()
    assert (stage.outbox.is_durable, stage.outbox.fault) == (True, "")
    assert stage.complaints() == []
    stage.outbox.close()
    with closing(Outbox(filled)) as again:
        assert [entry.firing.message for entry in again.waiting("a", after=0, limit=9)] == [b"waits too", b"new"]
        assert imbalances(again.ledger.books(), again.count_waiting()) == []


def test_a_start_that_ends_on_a_full_disk_leaves_the_file_as_it_was(filled: Path, full_disk: FullDisk) -> None:
    """What was delivered meanwhile comes again with the next start, under the same id; the file is whole."""
    with full_disk():
        stage = Stage(filled)
        before = [entry.firing.id for entry in stage.outbox.waiting("a", after=0, limit=9)]
        stage.settle(DELIVERED, 9)
        stage.outbox.close()
    with closing(Outbox(filled)) as again:
        assert [entry.firing.id for entry in again.waiting("a", after=0, limit=9)] == before
        assert imbalances(again.ledger.books(), again.count_waiting()) == []


def test_a_first_start_on_a_full_disk_has_its_file_later(path: Path, full_disk: FullDisk) -> None:
    """Where there is nothing to read yet, the file is begun as soon as there is space for it."""
    with full_disk():
        stage = Stage(path)
        assert stage.take(b"x") == [b"x"]
    assert stage.outbox.regain()
    stage.outbox.close()
    with closing(Outbox(path)) as again:
        assert again.count_waiting() == {"a": 1}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_locked_when_there_is_space_again_is_tried_later(stage: Stage, full_disk: FullDisk) -> None:
    """Another process that holds the file then is waited for, and what is in memory stays there meanwhile."""
    with full_disk():
        stage.flee()
        stage.take(b"meanwhile")
    with closing(sqlite3.connect(stage.outbox.path, isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        assert not stage.outbox.regain()
        assert stage.waiting() == [b"meanwhile"]
    assert stage.outbox.regain()
    assert stage.waiting() == [b"meanwhile"]
    assert stage.complaints() == []


def test_a_refused_row_is_no_fault_of_the_disk(stage: Stage, path: Path) -> None:
    """However long a constraint that somebody has added refuses a firing, the file stays in use."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TRIGGER no BEFORE INSERT ON firings BEGIN SELECT RAISE(ABORT, 'not now'); END")
        for _ in range(2):
            with pytest.raises(sqlite3.IntegrityError, match="not now"):
                stage.take(b"x")
            stage.clock.now += FAIL_OVER_AFTER
        assert (stage.outbox.is_durable, stage.told) == (True, [])
        database.execute("DROP TRIGGER no")
    assert stage.take(b"x") == [b"x"]
    assert stage.complaints() == []


def test_without_a_copy_the_file_stays_in_use(
    stage: Stage, path: Path, full_disk: FullDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is an error where neither the file nor memory has all that waits, since a copy would lose some."""
    monkeypatch.setattr("alarm_mw.delivery.outbox.rescue.KNOWN", Amount(1, 10**6))
    stage.take(b"known", b"not known")
    with closing(sqlite3.connect(path)) as database:
        database.execute("ALTER TABLE memory RENAME TO hidden")
        with full_disk(), pytest.raises(sqlite3.OperationalError):
            stage.outbox.flush()
        assert stage.outbox.is_durable
        database.execute("ALTER TABLE hidden RENAME TO memory")
    assert stage.waiting() == [b"known", b"not known"]
    assert stage.complaints() == []


def test_incidents_come_through_a_full_disk(stage: Stage, path: Path, full_disk: FullDisk) -> None:
    """What is known of incidents is there in memory, and in the file afterwards, with what has changed meanwhile."""
    add = "INSERT INTO incidents VALUES (?, 'db', 'firing', x'00')"
    with stage.outbox.transaction():
        stage.outbox.change(add, ("before",))
    with full_disk():
        stage.flee()
        with stage.outbox.transaction():
            stage.outbox.change(add, ("meanwhile",))
        assert stage.outbox.query("SELECT id FROM incidents ORDER BY id") == [("before",), ("meanwhile",)]
    assert stage.outbox.regain()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT id FROM incidents ORDER BY id").fetchall() == [("before",), ("meanwhile",)]
