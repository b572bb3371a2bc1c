"""While the outbox's file cannot be written, a copy of it in memory takes its place; later that is written back."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

from alarm_mw.delivery.outbox.database import Opened, open_memory

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

    def __init__(self, opened: Opened, reopen: Callable[[], sqlite3.Connection], now: Callable[[], float]) -> None:
        self.database = opened.database
        #: None until it could be opened.
        self._file = None if opened.is_copy else opened.database
        self._reopen = reopen
        self._now = now
        self._failing_since: float | None = None
        self._return_at = now() + RETURN_EVERY

    @property
    def is_open(self) -> bool:
        """Whether the copy is in use."""
        return self.database is not self._file

    def worked(self) -> None:
        """Note that a transaction was written."""
        self._failing_since = None

    def failed(self, error: sqlite3.Error) -> bool:
        """Note that a transaction was not written; return True where the copy is in use from now on."""
        if self._file is None or self.is_open or getattr(error, "sqlite_errorcode", 0) & 0xFF not in _UNWRITABLE:
            return False
        now = self._now()
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since < FLEE_AFTER:
            return False
        with contextlib.suppress(sqlite3.Error):  # it cannot be read either
            self.database = copied(self._file)
        self._return_at = now + RETURN_EVERY
        return self.is_open

    def is_return_due(self) -> bool:
        """Return whether it is time to try the file again."""
        return self.is_open and self._now() >= self._return_at

    def try_return(self) -> bool:
        """Write what has changed into the file; return True where that is in use from now on."""
        self._return_at = self._now() + RETURN_EVERY
        try:
            self._file = self._file or self._reopen()
            _write_back(self.database, self._file)
        except (sqlite3.Error, OSError):
            return False
        self.database.close()
        self.database, self._failing_since = self._file, None
        return True

    def close(self) -> None:
        """Close what is open."""
        self.database.close()
        if self._file is not None:
            self._file.close()


def unwritable(path: Path, error: sqlite3.Error | OSError) -> str:
    """Return what it means for people that the file cannot be written."""
    return (
        f"the outbox {path} cannot be written: {error}. Alarms go on from memory, and are written down as soon as that "
        f"is possible: see that {path.parent} can be written and has free space. Should this process be killed before, "
        "what has come meanwhile is lost, and what was delivered may come again"
    )


def copied(file: sqlite3.Connection) -> sqlite3.Connection:
    """Return a copy in memory. Raises `sqlite3.Error` where the file cannot be read, or has other tables than ours."""
    memory = open_memory()
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
