"""Where followed logs stand: written with every transaction, and never behind or before the counts."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.engine.ledger import Ledger


def move(outbox: Outbox, **positions: bytes | None) -> None:
    with outbox.still():
        outbox.positions().update(positions)


def reopened(path: Path) -> dict[str, bytes]:
    """Return what the next process finds."""
    outbox = Outbox(path)
    try:
        return outbox.positions().all()
    finally:
        outbox.close()


def test_positions_outlive_the_process(tmp_path: Path) -> None:
    """What was moved is found by the next process, what was forgotten is not."""
    outbox = Outbox(tmp_path / "outbox.db")
    move(outbox, a=b"1", b=b"2", c=None)
    move(outbox, a=b"3", b=None)
    outbox.close()
    assert reopened(tmp_path / "outbox.db") == {"a": b"3"}


def test_whoever_writes_the_counts_writes_the_positions(tmp_path: Path) -> None:
    """A line that is counted lies before the position, in whatever transaction that is written."""
    outbox = Outbox(tmp_path / "outbox.db")
    with outbox.still():
        outbox.ledger.source("file", "lines")
        outbox.positions().update({"a": b"1"})
    outbox.note_failure([], 1, "")  # a lane's transaction
    with sqlite3.connect(tmp_path / "outbox.db") as other:
        assert other.execute("SELECT name, data FROM positions").fetchall() == [("a", b"1")]
        assert other.execute("SELECT n FROM ledger WHERE col = 'lines'").fetchall() == [(1,)]
    other.close()
    outbox.close()


def test_a_transaction_that_fails_leaves_positions_to_the_next_one(tmp_path: Path) -> None:
    """They are written when the disk takes them again."""
    outbox = Outbox(tmp_path / "outbox.db")
    move(outbox, a=b"1")
    with outbox.transaction():
        pass
    move(outbox, a=b"2")
    refused = sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)
    refused.execute("CREATE TRIGGER refuse BEFORE INSERT ON positions BEGIN SELECT RAISE(ABORT, 'refused'); END")
    with pytest.raises(sqlite3.IntegrityError), outbox.transaction():
        pass
    refused.execute("DROP TRIGGER refuse")
    refused.close()
    with outbox.transaction():
        pass
    outbox.close()
    assert reopened(tmp_path / "outbox.db") == {"a": b"2"}


@pytest.mark.parametrize("is_followed", [False, True])
def test_a_file_that_was_deleted_gets_all_positions_again(tmp_path: Path, is_followed: bool) -> None:
    """The new file has all of them, also those that have not moved since."""
    outbox = Outbox(tmp_path / "outbox.db")
    if is_followed:
        move(outbox, a=b"1")
    outbox.flush()
    for file in tmp_path.iterdir():
        file.unlink()
    outbox.flush()
    outbox.close()
    assert reopened(tmp_path / "outbox.db") == ({"a": b"1"} if is_followed else {})


def test_an_outbox_without_followed_logs_reads_no_positions(tmp_path: Path) -> None:
    """They are read when they are asked for."""
    outbox = Outbox(tmp_path / "outbox.db")
    outbox.flush()
    assert isinstance(outbox.ledger, Ledger)
    assert outbox.positions() is outbox.positions()
    outbox.close()
