"""What the outbox keeps."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from alarm_mw.delivery import outbox as module
from alarm_mw.delivery.outbox import Outbox, Outcome, State
from alarm_mw.types import Firing, Reason, Record

_numbers = itertools.count()


def firing(alarm: str = "a", message: bytes = b"x\n", identity: str | None = None) -> Firing:
    identity = identity or f"id{next(_numbers)}"
    return Firing(identity, alarm, message, Record(message, "stdout", 1.0, identity, fields={"k": "v"}), 1.0)


def book(outbox: Outbox, one: Firing, *, is_new: bool) -> None:
    outbox.ledger.alarm(one.alarm, "fired" if is_new else "matched")


def take(outbox: Outbox, *firings: Firing) -> list[Firing]:
    return outbox.take(firings, lambda one, is_new: book(outbox, one, is_new=is_new))


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
    outbox.settle(entry, Outcome(State.DELIVERED, 1))
    assert outbox.count_waiting() == {}
    assert outbox.ledger.books()["alarms"]["a"]["delivered"] == 1


def test_a_dead_letter_keeps_its_reason(outbox: Outbox) -> None:
    """A dead letter is counted under its reason."""
    take(outbox, firing())
    (entry,) = outbox.waiting("a", after=0, limit=1)
    outbox.settle(entry, Outcome(State.DEAD, 3, "404", Reason.REFUSED))
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


def test_history_is_bounded(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delivered firings are kept for a while, dead letters and waiting ones until somebody decides."""
    monkeypatch.setattr(module, "HISTORY", 5)
    monkeypatch.setattr(module, "PRUNE_EVERY", 10)
    take(outbox, *(firing() for _ in range(21)))
    entries = outbox.waiting("a", after=0, limit=30)
    outbox.settle(entries[0], Outcome(State.DEAD, 1, "no", Reason.REFUSED))
    for entry in entries[1:20]:
        outbox.settle(entry, Outcome(State.DELIVERED, 1))
    with sqlite3.connect(outbox.path) as database:
        states = [state for (state,) in database.execute("SELECT state FROM firings ORDER BY seq")]
    database.close()
    assert states == ["dead", *["delivered"] * 4, "waiting"]


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

    def fail(_: Firing, is_new: bool) -> None:  # noqa: FBT001  # the outbox's callback
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
