"""What the outbox keeps."""

from __future__ import annotations

import itertools
import logging
import os
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest
from msgspec import structs

from alarm_mw.delivery.outbox.clock import SteadyClock
from alarm_mw.delivery.outbox.entries import Outcome, Settlement, encode
from alarm_mw.delivery.outbox.limits import IN_MEMORY, Amount, Bounds, OutboxOptions, State
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.delivery.outbox.rescue import open_database
from alarm_mw.delivery.policy import GRACE, DeliveryPolicy
from alarm_mw.engine.ledger import imbalances
from alarm_mw.model.types import Firing, IncidentNotice, Reason, Record, Trigger

_numbers = itertools.count()


def firing(alarm: str = "a", message: bytes = b"x\n", identity: str | None = None) -> Firing:
    identity = identity or f"id{next(_numbers)}"
    return Firing(identity, alarm, message, Record(message, "stdout", 1.0, identity, fields={"k": "v"}), 1.0)


def book(outbox: Outbox, one: Firing, *, is_new: bool) -> None:
    outbox.ledger.alarm(one.alarm, "matched")
    if is_new:
        outbox.ledger.alarm(one.alarm, "fired")
    else:
        outbox.ledger.alarm(one.alarm, "held_back", reason=Reason.DUPLICATE)


def take(outbox: Outbox, *firings: Firing) -> list[Firing]:
    taken = outbox.take(firings, lambda one, is_new: book(outbox, one, is_new=is_new))
    return [entry.firing for entry in taken.entries]


def settle(outbox: Outbox, outcome: Outcome, n: int = 1) -> None:
    for entry in outbox.waiting("a", after=0, limit=n):
        outbox.settle(Settlement([entry], outcome))


DELIVERED = Outcome(State.DELIVERED, 1)
REFUSED = Outcome(State.DEAD, 1, "no", Reason.REFUSED)


def complaints(outbox: Outbox) -> list[str]:
    return imbalances(outbox.ledger.books(), outbox.count_waiting())


def bounded(**bounds: Amount) -> Bounds:
    return {**IN_MEMORY, **{State(name): bound for name, bound in bounds.items()}}


def alter(path: Path, *statements: str) -> list[tuple[object, ...]]:
    """Change a database from outside, as nobody should; return what the last statement says."""
    with closing(sqlite3.connect(path)) as database, database:
        return [database.execute(statement).fetchall() for statement in statements][-1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    opened = Outbox(path)
    yield opened
    opened.close()


def test_firings_come_out_as_they_went_in(outbox: Outbox) -> None:
    """A waiting firing is read back whole, in order, for its own alarm."""
    first, second, other = firing(message=b"\xff\x00\n"), firing(), firing("b")
    take(outbox, first, other, second)
    assert [entry.firing for entry in outbox.waiting("a", after=0, limit=10)] == [first, second]


def test_waiting_goes_on_behind_a_number(outbox: Outbox) -> None:
    """A lane reads page by page."""
    take(outbox, *(firing() for _ in range(5)))
    page = outbox.waiting("a", after=0, limit=3)
    assert len(page) == 3
    assert len(outbox.waiting("a", after=page[-1].seq, limit=3)) == 2


def test_a_firing_is_taken_once(outbox: Outbox) -> None:
    """A firing that a killed master had written down already is not taken again."""
    take(outbox, firing(identity="same"))
    assert take(outbox, firing(identity="same")) == []
    assert outbox.count_waiting() == {"a": 1}


def test_what_is_settled_waits_no_more(outbox: Outbox) -> None:
    """A delivered firing is not delivered again, and the ledger knows it."""
    take(outbox, firing())
    (entry,) = outbox.waiting("a", after=0, limit=1)
    outbox.settle(Settlement([entry], Outcome(State.DELIVERED, 1)))
    assert outbox.count_waiting() == {}
    assert outbox.ledger.books()["alarms"]["a"]["delivered"] == 1


def test_a_dead_letter_keeps_its_reason(outbox: Outbox) -> None:
    """A dead letter is counted under its reason."""
    take(outbox, firing())
    (entry,) = outbox.waiting("a", after=0, limit=1)
    outbox.settle(Settlement([entry], Outcome(State.DEAD, 3, "404", Reason.REFUSED)))
    assert outbox.ledger.books()["alarms"]["a"]["dead"] == {Reason.REFUSED: 1}


def test_firings_and_ledger_outlive_the_process(path: Path) -> None:
    """What one transaction took is there for the next master."""
    first = Outbox(path)
    take(first, firing())
    first.ledger.source("stdout", "lines", 7)
    first.flush()
    second = Outbox(path)
    assert second.count_waiting() == {"a": 1}
    assert second.ledger.books()["sources"]["stdout"]["lines"] == 7
    second.close()
    first.close()


def test_history_is_bounded() -> None:
    """Of what is done the newest is kept, dead letters longer than what was delivered; what waits is not touched."""
    outbox = Outbox(":memory:", bounded(delivered=Amount(20, 10**6), dead=Amount(30, 10**6)))
    take(outbox, *(firing(identity=f"{n}") for n in range(101)))
    settle(outbox, REFUSED, 50)
    settle(outbox, DELIVERED, 50)
    rows = outbox.query("SELECT state, MAX(CAST(id AS INTEGER)), COUNT(*) FROM firings GROUP BY state ORDER BY state")
    assert rows == [("dead", 49, 30), ("delivered", 99, 20), ("waiting", 100, 1)]
    assert complaints(outbox) == []
    outbox.close()


def test_no_history_at_all_is_possible() -> None:
    """A bound of zero keeps nothing of what is done."""
    outbox = Outbox(":memory:", bounded(delivered=Amount(0, 0)))
    take(outbox, firing(), firing())
    settle(outbox, DELIVERED)
    assert outbox.query("SELECT COUNT(*) FROM firings") == [(1,)]
    settle(outbox, DELIVERED)
    assert outbox.query("SELECT COUNT(*) FROM firings") == [(0,)]
    outbox.close()


@pytest.mark.parametrize("outcome", [DELIVERED, REFUSED, Outcome(State.DROPPED, 0, reason=Reason.SHUTDOWN)])
def test_history_is_bounded_in_bytes(outcome: Outcome) -> None:
    """Large firings are forgotten earlier."""
    ones = [firing(message=b"x" * 1000, identity=f"{n:03}") for n in range(50)]
    outbox = Outbox(":memory:", bounded(**{outcome.state: Amount(10**6, 10 * len(encode(ones[0])))}))
    take(outbox, *ones)
    settle(outbox, outcome, 50)
    ((count,),) = outbox.query("SELECT COUNT(*) FROM firings")
    assert count in (10, 11)
    outbox.close()


def test_a_transaction_that_fails_loses_no_count(outbox: Outbox, path: Path) -> None:
    """When the outbox cannot be written, the ledger's counts are written by the next transaction that can."""
    with sqlite3.connect(path) as blocker:
        blocker.execute("ALTER TABLE ledger RENAME TO hidden")
        outbox.ledger.source("stdout", "lines", 3)
        with pytest.raises(sqlite3.Error):
            take(outbox, firing())
        blocker.execute("ALTER TABLE hidden RENAME TO ledger")
    blocker.close()
    assert outbox.count_waiting() == {}
    outbox.flush()
    again = Outbox(path)
    assert again.ledger.books()["sources"]["stdout"]["lines"] == 3
    again.close()


def test_an_error_inside_a_transaction_takes_it_back(outbox: Outbox) -> None:
    """A failure before the commit leaves nothing half written."""

    def fail(_: Firing, is_new: bool) -> None:
        raise sqlite3.OperationalError

    with pytest.raises(sqlite3.OperationalError):
        outbox.take([firing()], fail)
    assert outbox.count_waiting() == {}
    assert len(take(outbox, firing())) == 1


def test_what_is_given_up_is_counted(outbox: Outbox) -> None:
    """Firings that are dropped wait no more, and are in the ledger with the reason."""
    take(outbox, firing(), firing("b"), firing("b"))
    assert outbox.drop_waiting(Reason.SHUTDOWN) == {"a": 1, "b": 2}
    assert outbox.count_waiting() == {}
    assert outbox.ledger.books()["alarms"]["b"]["dropped"] == {Reason.SHUTDOWN: 2}


def test_memory_serves_as_well() -> None:
    """In process the same outbox lives in memory."""
    memory = Outbox(":memory:")
    take(memory, firing())
    assert memory.count_waiting() == {"a": 1}
    memory.close()


@pytest.mark.parametrize(
    "one",
    [
        firing(message=b"x" * 1000),
        structs.replace(firing(), message=b"cut"),
        structs.replace(firing(message=b""), message=b"no message in the record"),
        firing(message=b""),
    ],
)
def test_a_message_is_stored_once(outbox: Outbox, one: Firing) -> None:
    """A firing with its record's message takes the space of one, and comes back whole; as do all others."""
    take(outbox, one)
    assert outbox.waiting("a", after=0, limit=1)[0].firing == one
    assert encode(one).count(b"x" * 1000) <= 1


def test_what_cannot_be_read_becomes_a_dead_letter(
    outbox: Outbox, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Firings that are damaged on the disk hold no other up, and are counted."""
    one, *_, last = ones = [firing() for _ in range(7)]
    take(outbox, *ones)
    alter(
        path,
        "UPDATE firings SET firing = x'00' WHERE seq = 2",
        "UPDATE firings SET firing = 'text' WHERE seq = 3",
        "UPDATE firings SET firing = x'3d80' WHERE seq = 4",
        "UPDATE firings SET firing = CAST(replace(firing, 'stdout', x'ff') AS BLOB) WHERE seq = 5",
        "UPDATE firings SET firing = 5 WHERE seq = 6",
    )
    (first,) = outbox.waiting("a", after=0, limit=1)
    (second,) = outbox.waiting("a", after=first.seq, limit=2)
    assert [first.firing, second.firing] == [one, last]
    assert outbox.waiting("a", after=second.seq, limit=1) == []
    assert outbox.ledger.books()["alarms"]["a"]["dead"] == {Reason.UNREADABLE: 5}
    assert complaints(outbox) == []
    assert "firings in the outbox cannot be read" in caplog.text


def test_what_waits_is_bounded_in_number(caplog: pytest.LogCaptureFixture) -> None:
    """A full outbox refuses, counts what it refused, says so once, and takes again as soon as it can."""
    outbox = Outbox(":memory:", bounded(waiting=Amount(3, 10**6)))
    ones = [firing() for _ in range(5)]
    assert take(outbox, *ones) == ones[:3]
    assert take(outbox, *ones[:4]) == []
    assert outbox.ledger.books()["alarms"]["a"]["dropped"] == {Reason.OUTBOX_FULL: 3}
    assert outbox.ledger.books()["alarms"]["a"]["held_back"] == {Reason.DUPLICATE: 3}
    settle(outbox, DELIVERED)
    assert len(take(outbox, firing(), firing())) == 1
    assert complaints(outbox) == []
    assert caplog.text.count("the outbox is full: 2 firings were dropped") == 1
    assert caplog.text.count("the outbox is full") == 1
    outbox.close()


def test_an_alarm_whose_receiver_is_down_silences_no_other() -> None:
    """Each alarm has a small share for itself in an outbox that others have filled, and people are told of it."""
    outbox = Outbox(":memory:", bounded(waiting=Amount(200, 10**6)))
    told: list[str] = []
    outbox.on_fault = lambda text, key: told.append(f"{key}: {text}")
    assert len(take(outbox, *(firing() for _ in range(300)))) == 200
    assert told[0].startswith("outbox full: the outbox is full: 100 firings were dropped")
    others = [firing("other") for _ in range(3)]
    assert take(outbox, *others) == others[:2]
    assert complaints(outbox) == []
    outbox.close()


def test_what_waits_is_bounded_in_bytes() -> None:
    """Few large firings fill an outbox as well."""
    outbox = Outbox(":memory:", bounded(waiting=Amount(100, 1500)))
    large = firing(message=b"x" * 1000)
    small = firing()
    assert take(outbox, large, firing(message=b"y" * 1000), small) == [large, small]
    assert complaints(outbox) == []
    outbox.close()


def test_a_refused_firing_is_counted_once() -> None:
    """The same firing twice in one batch is dropped once, and otherwise a duplicate."""
    outbox = Outbox(":memory:", bounded(waiting=Amount(0, 0)))
    one = firing()
    take(outbox, one, one)
    assert outbox.ledger.books()["alarms"]["a"]["dropped"] == {Reason.OUTBOX_FULL: 1}
    assert complaints(outbox) == []
    outbox.close()


def test_a_restart_knows_what_waits(path: Path) -> None:
    """What an earlier process left counts towards the bound."""
    bounds = bounded(waiting=Amount(2, 10**6))
    first = Outbox(path, bounds)
    take(first, firing(), firing())
    first.close()
    second = Outbox(path, bounds)
    assert take(second, firing()) == []
    settle(second, DELIVERED)
    assert len(take(second, firing(), firing())) == 1
    assert complaints(second) == []
    second.close()


def test_a_transaction_that_fails_refuses_and_takes_nothing(path: Path) -> None:
    """What could not be written is neither counted as refused nor takes room."""
    outbox = Outbox(path, bounded(waiting=Amount(1, 10**6)))
    ones = [firing(), firing()]
    alter(path, "ALTER TABLE ledger RENAME TO hidden")
    with pytest.raises(sqlite3.Error):
        outbox.take(ones, lambda _, __: None)
    assert outbox.ledger.books()["alarms"]["a"]["dropped"] == {Reason.OUTBOX_FULL: 0}
    alter(path, "ALTER TABLE hidden RENAME TO ledger")
    assert take(outbox, *ones) == ones[:1]
    assert complaints(outbox) == []
    outbox.close()


def test_firings_removed_by_hand_can_be_settled(outbox: Outbox, path: Path) -> None:
    """Whoever empties the table meanwhile does not stop the lanes."""
    take(outbox, firing())
    (entry,) = outbox.waiting("a", after=0, limit=1)
    alter(path, "DELETE FROM firings")
    outbox.settle(Settlement([entry], DELIVERED))
    assert complaints(outbox) == []


def _garbage(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)


def _other_tables(path: Path) -> None:
    alter(path, "CREATE TABLE firings (a, b)")


def _newer_schema(path: Path) -> None:
    alter(path, "PRAGMA user_version = 1000")


def _damaged_page(path: Path) -> None:
    outbox = Outbox(path)
    take(outbox, *(firing(message=b"x" * 1000) for _ in range(50)))
    outbox.close()
    with path.open("r+b") as file:
        file.seek(7 * 4096)
        file.write(b"\xff" * 4096)


@pytest.mark.parametrize("spoil", [_garbage, _other_tables, _newer_schema, _damaged_page])
def test_a_broken_outbox_is_moved_aside(
    path: Path, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """A file that cannot be used is kept under another name, which the log tells, and alarms go on."""
    spoil(path)
    before = path.read_bytes()
    outbox = Outbox(path)
    (aside,) = path.parent.glob("outbox.db.broken-*Z")
    if spoil is not _other_tables:  # which is found out when an index is added
        assert aside.read_bytes() == before
    assert len(take(outbox, firing())) == 1
    assert outbox.is_durable
    outbox.close()
    assert str(path) in caplog.text.replace(str(aside), "")
    assert str(aside) in caplog.text
    assert "Traceback" not in caplog.text


def test_a_broken_outbox_is_moved_with_its_log(path: Path) -> None:
    """What SQLite keeps beside the file goes with it, and cannot be taken for the new one's."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).write_bytes(b"garbage" * 1000)
    Outbox(path).close()
    moved = [file.name for file in path.parent.iterdir() if "broken" in file.name]
    assert sorted(name.rpartition("Z")[2] for name in moved) == ["", "-shm", "-wal"]


def test_a_file_that_can_be_neither_written_nor_read_is_told(
    path: Path, full_disk: Callable[[], AbstractContextManager[None]], caplog: pytest.LogCaptureFixture
) -> None:
    """Where nothing can be had of the file alarms are not refused either; the log tells what it costs."""
    Outbox(path).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE memory")
    with full_disk():
        outbox = Outbox(path)
        assert not outbox.is_durable
        assert len(take(outbox, firing())) == 1
        outbox.close()
    assert str(path) in caplog.text
    assert "what was kept in memory is lost" in caplog.text
    assert "Traceback" not in caplog.text
    Outbox(path).close()


def test_without_space_a_broken_outbox_is_kept_as_well(
    path: Path, full_disk: Callable[[], AbstractContextManager[None]], caplog: pytest.LogCaptureFixture
) -> None:
    """A broken file on a full disk refuses no alarm either."""
    _garbage(path)
    with full_disk():
        outbox = Outbox(path)
    assert not outbox.is_durable
    assert len(take(outbox, firing())) == 1
    outbox.close()
    assert "It was moved to" in caplog.text
    assert "Alarms go on from memory" in caplog.text
    with closing(Outbox(path)) as again:
        assert again.count_waiting() == {"a": 1}


def test_without_a_directory_firings_are_kept_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A place where no file can be made refuses no alarm."""
    (tmp_path / "file").touch()
    outbox = Outbox(tmp_path / "file" / "outbox.db")
    assert len(take(outbox, firing())) == 1
    outbox.close()
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2  # at the beginning, and at the end


def test_a_locked_outbox_fails_soon(outbox: Outbox, path: Path) -> None:
    """Another process that locks the file holds nobody up: it is tried again later."""
    take(outbox, firing())
    (entry,) = outbox.waiting("a", after=0, limit=1)
    failed = threading.Event()

    def work() -> None:
        try:
            outbox.settle(Settlement([entry], DELIVERED))
        except sqlite3.OperationalError:
            failed.set()

    with closing(sqlite3.connect(path, isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        thread = threading.Thread(target=work)
        thread.start()
        has_failed = failed.wait(30.0)
        blocker.execute("ROLLBACK")
        thread.join(20.0)
    assert has_failed
    outbox.settle(Settlement([entry], DELIVERED))
    assert complaints(outbox) == []


def test_waiting_for_a_pause_has_a_limit(outbox: Outbox) -> None:
    """Whoever cannot have the outbox for itself in time is told."""
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with outbox.still():
            held.set()
            release.wait(30.0)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30.0)
    with pytest.raises(TimeoutError), outbox.still(0.01):
        pass
    release.set()
    thread.join(30.0)


def test_closing_never_fails(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An outbox that cannot be written is closed all the same, and the log tells what is lost."""
    outbox = Outbox(path)
    outbox.ledger.source("stdout", "lines")
    alter(path, "DROP TABLE ledger")
    outbox.close()
    assert "the last counts are lost" in caplog.text


OLD_SCHEMA = """
CREATE TABLE firings (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, alarm TEXT NOT NULL, state TEXT NOT NULL,
    firing BLOB NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT ''
);
CREATE TABLE ledger (
    scope TEXT NOT NULL, name TEXT NOT NULL, col TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (scope, name, col)
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""


def test_an_outbox_of_an_older_release_goes_on(path: Path) -> None:
    """What waits in it is delivered, and counts from the upgrade on."""
    one = firing(identity="old")
    with closing(sqlite3.connect(path)) as database:
        database.executescript(OLD_SCHEMA)
        row = (one.id, one.alarm, State.WAITING, encode(one))
        database.execute("INSERT INTO firings (id, alarm, state, firing) VALUES (?, ?, ?, ?)", row)
        database.execute("INSERT INTO ledger VALUES ('alarm', 'a', 'fired', 1)")
        database.commit()
    outbox = Outbox(path)
    (entry,) = outbox.waiting("a", after=0, limit=10)
    assert entry.firing == one
    assert entry.before < 60.0
    assert outbox.fault == ""
    outbox.close()
    assert alter(path, "PRAGMA user_version") == [(2,)]


@pytest.mark.parametrize(
    ("reopened", "before"),
    [(1030.0, 30.0), (1000.0 + 1e8, 1e8), (0.0, 20.0)],
    ids=["a restart", "the clock was set forwards", "the clock was set back"],
)
def test_an_age_goes_on_over_restarts(path: Path, reopened: float, before: float) -> None:
    """A firing is as old as it was known to be, and older by what the clocks say has gone by since."""
    now = [1000.0]
    outbox = Outbox(path, now=lambda: now[0])
    take(outbox, firing())
    now[0] = 1020.0
    (entry,) = outbox.waiting("a", after=0, limit=1)
    assert (entry.before, entry.since) == (0.0, 20.0)
    outbox.note_failure([entry], 4, "busy")
    outbox.close()
    now[0] = reopened
    again = Outbox(path, now=lambda: now[0])
    now[0] += 7.0
    (entry,) = again.waiting("a", after=0, limit=1)
    assert (entry.before, entry.since, entry.attempts) == (before, 7.0, 4)
    again.close()


def test_a_clock_between_restarts_buries_nothing() -> None:
    """Whatever clocks say, a firing is tried for a while after a restart; in one process each second counts."""
    policy = DeliveryPolicy(give_up_after=3600.0)
    assert policy.age(before=10.0, since=5.0) == 15.0
    assert policy.age(before=1e9, since=0.0) == 3600.0 - GRACE
    assert policy.age(before=1e9, since=GRACE) == 3600.0
    assert DeliveryPolicy(give_up_after=10.0).age(before=1e9, since=0.0) == 5.0


def test_the_clock_does_not_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the process lives, a system clock that is set anew changes nothing."""
    clock = SteadyClock()
    before = clock()
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert 0.0 <= clock() - before < 60.0


def test_an_age_that_cannot_be_corrected_is_no_obstacle(path: Path) -> None:
    """With no room on the disk the outbox opens all the same, or is replaced by one in memory."""
    outbox = Outbox(path, now=lambda: 1000.0)
    take(outbox, firing())
    outbox.note_failure(outbox.waiting("a", after=0, limit=1), 1, "busy")
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TRIGGER full BEFORE UPDATE ON firings BEGIN SELECT RAISE(ABORT, 'full'); END")
        outbox.close()
        again = Outbox(path, now=lambda: 0.0)
        assert again.count_waiting() == {"a": 1}
        again.close()


WRITER = """
import sys
from pathlib import Path
from alarm_mw.delivery.outbox.entries import Outcome, Settlement
from alarm_mw.delivery.outbox.limits import State
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.types import Firing, Record

outbox, number = Outbox(Path(sys.argv[1])), 0

def book(one, is_new):
    outbox.ledger.alarm("a", "matched")
    outbox.ledger.alarm("a", "fired")

while True:
    record = Record(b"x" * 3000, "stdout", 1.0, "k")
    outbox.take([Firing(f"{number}.{n}", "a", b"y", record, 1.0) for n in range(5)], book)
    for entry in outbox.waiting("a", after=0, limit=3):
        outbox.settle(Settlement([entry], Outcome(State.DELIVERED, 1)))
    print(number, flush=True)
    number += 1
"""


def test_a_power_cut_at_any_moment_leaves_a_whole_outbox(path: Path, tmp_path: Path) -> None:
    """The files, as they are at any moment of a writer's life, open, and the ledger balances."""
    copies = [tmp_path / f"copy{number}.db" for number in range(20)]
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    for copy in copies:
        assert select.select([writer.stdout], [], [], 30.0)[0], "it does not write"
        writer.send_signal(signal.SIGSTOP)
        os.waitpid(writer.pid, os.WUNTRACED)
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
        os.read(writer.stdout.fileno(), 1 << 20)  # what it said so far: what it says next is of what it writes next
        writer.send_signal(signal.SIGCONT)
    writer.kill()
    writer.communicate()
    taken = []
    for copy in copies:
        opened = Outbox(copy)
        assert opened.fault == ""
        assert complaints(opened) == []
        taken.append(opened.ledger.books()["alarms"]["a"]["fired"])
        opened.close()
    assert 0 < taken[0] < taken[-1]


def test_history_is_kept_for_its_days(path: Path) -> None:
    """What was delivered longer ago is forgotten, now and then; dead letters and what waits stay."""
    now = [1000.0]
    outbox = Outbox(path, now=lambda: now[0])
    outbox.limit(OutboxOptions(history_days=2.0))
    take(outbox, *(firing() for _ in range(5)))
    settle(outbox, DELIVERED, 2)
    settle(outbox, REFUSED)
    now[0] += 2.5 * 86_400.0
    settle(outbox, DELIVERED)
    assert outbox.query("SELECT state, COUNT(*) FROM firings GROUP BY state ORDER BY state") == [
        ("dead", 1),
        ("delivered", 1),
        ("waiting", 1),
    ]
    assert outbox.stock == outbox.read_stock()
    assert complaints(outbox) == []
    outbox.close()


def test_a_limit_that_changes_counts_from_then_on(outbox: Outbox) -> None:
    """A configuration that is read again changes how much may wait."""
    outbox.limit(OutboxOptions(waiting=1))
    assert len(take(outbox, firing(), firing())) == 1
    outbox.limit(OutboxOptions())
    assert len(take(outbox, firing(), firing())) == 2
    assert complaints(outbox) == []


def test_a_database_that_was_opened_before_can_be_used(tmp_path: Path) -> None:
    """Whoever has opened the file in a way of his own gives it to the outbox."""
    path = tmp_path / "outbox"
    with closing(Outbox(path)):
        pass
    with closing(Outbox(path, opened=open_database(path, 1.0))) as outbox:
        assert outbox.is_durable


def test_an_acknowledgment_leaves_the_beginning_of_an_episode(outbox: Outbox) -> None:
    """Of what waits about an episode only what would urge people again is dropped, and is counted."""
    waiting = [
        structs.replace(
            firing(identity=f"thread-{status}"),
            trigger=Trigger(incident=IncidentNotice("id", status, 1, "thread", 1.0)),
        )
        for status in ("firing", "reminder", "escalated")
    ]
    take(outbox, *waiting)
    with outbox.transaction() as transaction:
        assert outbox.cancel(transaction, "thread") == waiting[1:]
    assert [entry.firing for entry in outbox.waiting("a", after=0, limit=9)] == waiting[:1]
    assert outbox.ledger.books()["alarms"]["a"]["dropped"] == {Reason.ACKNOWLEDGED: 2}
    assert complaints(outbox) == []
