"""The outbox's database: its schema, and its file, which is begun anew where it is broken."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

log = logging.getLogger(__name__)

#: Seconds to wait at the opening for another process that has locked the file, such as a backup.
OPEN_TIMEOUT = 5.0

#: Milliseconds to wait for such a process later: the event loop waits as well.
BUSY_TIMEOUT = 200

#: Pages of 4 KB in the log after which the next transaction moves them into the file itself, which waits for the disk.
#: It comes to that where there is no `Checkpointer`, or while so much is written that it never sees all of it moved.
AUTOCHECKPOINT = 6_000

#: The number of the schema below, kept in the file; a file with a higher one is not touched.
VERSION = 2

SCHEMA = """
CREATE TABLE IF NOT EXISTS firings (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    alarm TEXT NOT NULL,
    state TEXT NOT NULL,
    firing BLOB NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    taken REAL NOT NULL DEFAULT 0,
    age REAL NOT NULL DEFAULT 0,
    done REAL NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS by_state ON firings (state, alarm, seq);
CREATE TABLE IF NOT EXISTS ledger (
    scope TEXT NOT NULL, name TEXT NOT NULL, col TEXT NOT NULL, n INTEGER NOT NULL,
    PRIMARY KEY (scope, name, col)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS memory (one INTEGER PRIMARY KEY CHECK (one = 1), data BLOB NOT NULL);
"""

#: From each version to the next one; what has no time yet gets the present one.
_UPGRADES = {
    1: """
ALTER TABLE firings ADD COLUMN taken REAL NOT NULL DEFAULT 0;
ALTER TABLE firings ADD COLUMN age REAL NOT NULL DEFAULT 0;
ALTER TABLE firings ADD COLUMN done REAL NOT NULL DEFAULT 0;
UPDATE firings SET taken = strftime('%s', 'now'), done = strftime('%s', 'now');
""",
}

#: What SQLite says of a file that is damaged, is no database, or has other tables than ours.
_BROKEN = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})

#: The files of a database in WAL mode.
_SUFFIXES = ("", "-wal", "-shm")


class UnusableError(Exception):
    """What is asked for cannot be had of this file."""


class _BrokenError(Exception):
    """The file is there and cannot be used, today or later."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A database with our schema."""

    database: sqlite3.Connection
    #: Whether there is a file to which all that it holds belongs.
    has_file: bool
    #: Whether it is a copy of that file, in memory, since the file cannot be written.
    is_copy: bool = False
    #: What is wrong with the file, in a sentence; empty for nothing.
    fault: str = ""


def open_memory() -> sqlite3.Connection:
    """Open an empty database in memory."""
    return _open(":memory:")


def open_existing(path: Path) -> Opened:
    """Open the database of another process that has ended, as it is.

    Raises `UnusableError` where it is missing, broken, or a newer release's: then nothing is changed.
    """
    try:
        if not path.exists():
            raise UnusableError(f"there is no outbox {path}")
        return Opened(_open(path), has_file=True)
    except (sqlite3.Error, OSError, _BrokenError) as error:
        raise UnusableError(f"the outbox {path} cannot be used: {error}") from error


def open_file(path: Path) -> Opened:
    """Open a file, or begin a new one in the place of one that is broken, which is logged.

    Raises `sqlite3.Error` or `OSError` where it cannot be written. May block for `OPEN_TIMEOUT` seconds, and for as
    long as it takes to read the file once.
    """
    # Messages are nobody else's business; SQLite gives the files beside it the same mode.
    path.touch(mode=0o600)
    database = _connect(path)
    try:
        _prepare(database)
    except _BrokenError as error:
        # Moved before it is closed: that would tidy up beside it.
        with contextlib.closing(database):
            aside = _move_aside(path)
        fault = (
            f"the outbox {path} cannot be read: {error}. It was moved to {aside}, and a new one is begun: what waited "
            "in it is not delivered, and the counts begin at zero"
        )
        log.error("%s", fault)
        return Opened(_open(path), has_file=True, fault=fault)
    except sqlite3.Error:
        database.close()
        raise
    return Opened(database, has_file=True)


def reopen(path: Path) -> sqlite3.Connection:
    """Open a file that was read before. Raises `sqlite3.Error` or `OSError` where it cannot be written."""
    path.touch(mode=0o600)
    database = _connect(path)
    try:
        _set_up(database)
    except BaseException:
        database.close()
        raise
    return database


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a file that cannot be written, to read it; nobody else can open it meanwhile. Raises `sqlite3.Error`."""
    # One that is not there is not made.
    name = f"{path.absolute().as_uri()}?mode=rw"
    with contextlib.closing(sqlite3.connect(name, uri=True, isolation_level=None, timeout=OPEN_TIMEOUT)) as database:
        # Else it would need a file beside it, for which there may be no space (sqlite.org/wal.html#noshm).
        database.execute("PRAGMA locking_mode=EXCLUSIVE")
        yield database


def _move_aside(path: Path) -> Path:
    """Rename the files so that they still are one database, and return its new path."""
    aside = path.with_name(f"{path.name}.broken-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    for suffix in reversed(_SUFFIXES):  # should it fail in between, the next start finds the database still broken
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def _open(path: Path | Literal[":memory:"]) -> sqlite3.Connection:
    database = _connect(path)
    try:
        _prepare(database)
    except BaseException:
        database.close()
        raise
    return database


def _connect(path: Path | Literal[":memory:"]) -> sqlite3.Connection:
    return sqlite3.connect(str(path), isolation_level=None, check_same_thread=False, timeout=OPEN_TIMEOUT)


def _prepare(database: sqlite3.Connection) -> None:
    """Make it ours. Raises `_BrokenError` for a file that has to make way, `sqlite3.Error` for other faults."""
    try:
        _upgrade(database, _check(database))
        _set_up(database)
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF in _BROKEN:  # the higher bits are detail
            raise _BrokenError(str(error)) from error
        raise


def _set_up(database: sqlite3.Connection) -> None:
    database.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {SCHEMA}")
    database.execute(
        "SELECT seq, id, alarm, state, firing, attempts, error, reason, taken, age, done FROM firings LIMIT 0"
    )
    database.execute("SELECT scope, name, col, n FROM ledger LIMIT 0")
    database.execute("SELECT one, data FROM memory LIMIT 0")
    # Written even where it is there already: a file that cannot be written is found out now.
    database.executescript(f"BEGIN IMMEDIATE; PRAGMA user_version = {VERSION}; COMMIT;")
    database.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")
    database.execute(f"PRAGMA wal_autocheckpoint = {AUTOCHECKPOINT}")


def _check(database: sqlite3.Connection) -> int:
    """Return the version of the file, 0 for a new one."""
    ((version,),) = database.execute("PRAGMA user_version")
    if version > VERSION:
        raise _BrokenError(f"a newer release of this program has written it (schema {version}, known is {VERSION})")
    ((result,),) = database.execute("PRAGMA quick_check(1)")
    if result != "ok":
        raise _BrokenError(" ".join(result.split()))
    return int(version)


def _upgrade(database: sqlite3.Connection, version: int) -> None:
    for step in sorted(step for step in _UPGRADES if 0 < version <= step):
        database.executescript(f"BEGIN IMMEDIATE; {_UPGRADES[step]} PRAGMA user_version = {step + 1}; COMMIT;")
