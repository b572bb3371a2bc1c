"""While the outbox's file cannot be written, a copy of it in memory takes its place; later that is written back."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable

from alarm_mw.delivery.database import open_database

#: Seconds for which writing must have failed before the copy is made: less than anybody tries again for.
FLEE_AFTER = 1.0

#: Seconds between two attempts to write it back.
RETURN_EVERY = 5.0

#: What SQLite says where the disk is at fault, or somebody who locks the file, and not what is in it.
_UNWRITABLE = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
    }
)

#: What is done is history: of it only the ids are taken along, by which duplicates are found.
_TAKEN_ALONG = """
SELECT seq, id, alarm, state, CASE WHEN state IN ('waiting', 'dead') THEN firing ELSE x'' END,
    attempts, error, reason, taken, age, done FROM firings
"""
_WRITTEN_BACK = """
SELECT seq, id, alarm, state, firing, attempts, error, reason, taken, age, done FROM firings WHERE LENGTH(firing) > 0
"""
_INSERT = """
INSERT OR REPLACE INTO firings
    (seq, id, alarm, state, firing, attempts, error, reason, taken, age, done) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


class Refuge:
    """The database that is in use: the file's, or the copy. Whoever calls it has the store's lock."""

    def __init__(self, file: sqlite3.Connection, now: Callable[[], float]) -> None:
        self.database = file
        self._file = file
        self._now = now
        self._failing_since: float | None = None
        self._return_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the copy is in use."""
        return self.database is not self._file

    def worked(self) -> None:
        """Note that a transaction was written."""
        self._failing_since = None

    def failed(self, error: sqlite3.Error) -> bool:
        """Note that a transaction was not written; return True where the copy is in use from now on."""
        if self.is_open or getattr(error, "sqlite_errorcode", 0) & 0xFF not in _UNWRITABLE:
            return False
        now = self._now()
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since < FLEE_AFTER:
            return False
        with contextlib.suppress(sqlite3.Error):  # it cannot be read either
            self.database = _copied(self._file)
        self._return_at = now + RETURN_EVERY
        return self.is_open

    def is_return_due(self) -> bool:
        """Return whether it is time to try the file again."""
        return self.is_open and self._now() >= self._return_at

    def try_return(self) -> bool:
        """Write what has changed into the file; return True where that is in use from now on."""
        self._return_at = self._now() + RETURN_EVERY
        try:
            _write_back(self.database, self._file)
        except sqlite3.Error:
            return False
        self.database.close()
        self.database, self._failing_since = self._file, None
        return True

    def close(self) -> None:
        """Close what is open."""
        self.database.close()
        self._file.close()


def _copied(file: sqlite3.Connection) -> sqlite3.Connection:
    memory = open_database(":memory:").database
    try:
        memory.execute("BEGIN")
        memory.executemany(_INSERT, file.execute(_TAKEN_ALONG))
        _copy_rest(file, memory)
        memory.execute("COMMIT")
    except BaseException:
        memory.close()
        raise
    return memory


def _write_back(memory: sqlite3.Connection, file: sqlite3.Connection) -> None:
    file.execute("BEGIN IMMEDIATE")
    try:
        file.execute("DELETE FROM firings WHERE state IN ('waiting', 'dead')")
        file.executemany(_INSERT, memory.execute(_WRITTEN_BACK))
        _copy_rest(memory, file)
        file.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back by itself
            file.execute("ROLLBACK")
        raise


def _copy_rest(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    target.executemany(
        "INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?)", source.execute("SELECT scope, name, col, n FROM ledger")
    )
    target.executemany("INSERT OR REPLACE INTO memory VALUES (?, ?)", source.execute("SELECT one, data FROM memory"))
    # Lanes know up to which number they have looked: none must come again.
    target.execute("DELETE FROM sqlite_sequence")
    target.executemany(
        "INSERT INTO sqlite_sequence VALUES (?, ?)", source.execute("SELECT name, seq FROM sqlite_sequence")
    )
