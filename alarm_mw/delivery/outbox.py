"""The outbox: firings wait here until they are delivered, and the ledger's counts are written down with them.

SQLite in both forms: a file under a master process, memory in-process. What one transaction took survives the death
of the process; what the file cannot take (disk full) raises, and the caller counts it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal, cast

import msgspec

from alarm_mw.engine.ledger import Key, Ledger
from alarm_mw.types import Firing, Reason

#: How many firings that are done are kept, the newest of them: a history, and the memory that finds duplicates.
HISTORY = 10_000

#: History is cut back after this many firings were settled.
PRUNE_EVERY = 1_000

SCHEMA = """
CREATE TABLE IF NOT EXISTS firings (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    alarm TEXT NOT NULL,
    state TEXT NOT NULL,
    firing BLOB NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS by_state ON firings (state, alarm, seq);
CREATE TABLE IF NOT EXISTS ledger (
    scope TEXT NOT NULL, name TEXT NOT NULL, col TEXT NOT NULL, n INTEGER NOT NULL,
    PRIMARY KEY (scope, name, col)
) WITHOUT ROWID;
"""


class State(StrEnum):
    """Where a firing is on its way."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Entry:
    """A firing in the outbox. `seq` grows with the order in which firings were taken."""

    seq: int
    firing: Firing


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a firing in the end."""

    state: State
    attempts: int
    error: str = ""
    reason: Reason | None = None


class Outbox:
    """Safe to use from any thread; every call may block for the time of a disk write."""

    def __init__(self, path: Path | Literal[":memory:"]) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._settled = 0
        self._database = sqlite3.connect(str(path), isolation_level=None, check_same_thread=False, timeout=10.0)
        self._database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + SCHEMA)
        self.ledger = Ledger(self._read_ledger())

    def take(self, firings: Sequence[Firing], book: Callable[[Firing, bool], None]) -> list[Firing]:
        """Write firings down, in one transaction with the ledger, and return those that were new.

        `book(firing, is_new)` is called for each before the ledger is written, to enter it there. Raises
        `sqlite3.Error` when nothing could be written.
        """
        new = []
        with self._lock, self._transaction():
            for firing in firings:
                is_new = self._insert(firing)
                book(firing, is_new)
                if is_new:
                    new.append(firing)
        return new

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """Let no transaction begin or end while the context lasts."""
        with self._lock:
            yield

    def flush(self) -> None:
        """Write the ledger down."""
        with self._lock, self._transaction():
            pass

    def waiting(self, alarm: str, *, after: int, limit: int) -> list[Entry]:
        """Return the first `limit` waiting firings of an alarm that were taken after number `after`, in order."""
        rows = self._query(
            "SELECT seq, firing FROM firings WHERE state = ? AND alarm = ? AND seq > ? ORDER BY seq LIMIT ?",
            (State.WAITING, alarm, after, limit),
        )
        return [Entry(cast("int", seq), _decode(cast("bytes", blob))) for seq, blob in rows]

    def count_waiting(self) -> dict[str, int]:
        """Return how many firings wait, by alarm."""
        rows = self._query("SELECT alarm, COUNT(*) FROM firings WHERE state = ? GROUP BY alarm", (State.WAITING,))
        return {cast("str", alarm): cast("int", n) for alarm, n in rows}

    def settle(self, entry: Entry, outcome: Outcome) -> None:
        """Write down what became of a firing, in one transaction with the ledger.

        Raises `sqlite3.Error` when it could not be written; then nothing is counted, and it may be tried again.
        """
        alarm = entry.firing.alarm
        with self._lock:
            self.ledger.alarm(alarm, outcome.state, reason=outcome.reason)
            try:
                with self._transaction():
                    self._write_outcome(entry, outcome)
            except sqlite3.Error:
                self.ledger.alarm(alarm, outcome.state, -1, reason=outcome.reason)
                raise

    def _write_outcome(self, entry: Entry, outcome: Outcome) -> None:
        self._database.execute(
            "UPDATE firings SET state = ?, attempts = ?, error = ?, reason = ? WHERE seq = ?",
            (outcome.state, outcome.attempts, outcome.error, outcome.reason or "", entry.seq),
        )
        self._settled += 1
        if self._settled % PRUNE_EVERY == 0:
            self._prune()

    def drop_waiting(self, reason: Reason) -> dict[str, int]:
        """Give up what waits, and return how much of each alarm that was."""
        with self._lock, self._transaction():
            dropped = self.count_waiting()
            self._database.execute(
                "UPDATE firings SET state = ?, reason = ? WHERE state = ?", (State.DROPPED, reason, State.WAITING)
            )
            for alarm, n in dropped.items():
                self.ledger.alarm(alarm, State.DROPPED, n, reason=reason)
            return dropped

    def close(self) -> None:
        """Write the ledger down and close the database."""
        with self._lock:
            self.flush()
            self._database.close()

    def _insert(self, firing: Firing) -> bool:
        cursor = self._database.execute(
            "INSERT OR IGNORE INTO firings (id, alarm, state, firing) VALUES (?, ?, ?, ?)",
            (firing.id, firing.alarm, State.WAITING, _encoder.encode(firing)),
        )
        return cursor.rowcount > 0

    def _prune(self) -> None:
        self._database.execute(
            "DELETE FROM firings WHERE state IN (?, ?) AND seq <= (SELECT MAX(seq) FROM firings) - ?",
            (State.DELIVERED, State.DROPPED, HISTORY),
        )

    def _query(self, sql: str, arguments: tuple[object, ...]) -> list[tuple[object, ...]]:
        with self._lock:
            return self._database.execute(sql, arguments).fetchall()

    def _read_ledger(self) -> dict[Key, int]:
        return {
            cast("Key", (scope, name, column)): cast("int", n)
            for scope, name, column, n in self._query("SELECT scope, name, col, n FROM ledger", ())
        }

    def _transaction(self) -> _Transaction:
        return _Transaction(self._database, self.ledger)


class _Transaction:
    """BEGIN … COMMIT; the ledger's changes go with it, or stay changed when it fails."""

    def __init__(self, database: sqlite3.Connection, ledger: Ledger) -> None:
        self._database = database
        self._ledger = ledger

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._database.execute("ROLLBACK")
            return
        changes = self._ledger.take_changes()
        try:
            self._database.executemany(
                "INSERT INTO ledger VALUES (?, ?, ?, ?) ON CONFLICT (scope, name, col) DO UPDATE SET n = excluded.n",
                [(*key, n) for key, n in changes.items()],
            )
            self._database.execute("COMMIT")
        except sqlite3.Error:
            self._ledger.restore_changes(changes)
            with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back by itself
                self._database.execute("ROLLBACK")
            raise


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Firing)


def _decode(blob: bytes) -> Firing:
    return _decoder.decode(blob)
