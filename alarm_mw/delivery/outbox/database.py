"""The outbox's database: its schema, and how its file is opened, watched and moved aside."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

#: Seconds to wait, when opening, for another process that has locked the file, such as a backup.
OPEN_TIMEOUT = 5.0

#: Milliseconds to wait for such a process later: the event loop waits too.
BUSY_TIMEOUT = 200

#: Pages of 4 KB in the log after which the next transaction makes a checkpoint itself, and waits for the disk. That
#: happens without a `Checkpointer`, or while so much is written that the log never restarts.
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
CREATE TABLE IF NOT EXISTS incidents (
    id TEXT PRIMARY KEY, rule TEXT NOT NULL, state TEXT NOT NULL, data BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, time REAL NOT NULL, incident TEXT NOT NULL, data BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS judged (seq INTEGER PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS observed (name TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS measured (
    rule TEXT NOT NULL, id TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (rule, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (name TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deliveries (
    alarm TEXT PRIMARY KEY, known REAL NOT NULL, delivered REAL NOT NULL DEFAULT 0, drilled REAL NOT NULL DEFAULT 0
) WITHOUT ROWID;
"""

#: The tables of incidents and of followed logs, which most outboxes have empty.
MOSTLY_EMPTY = ("incidents", "events", "judged", "observed", "measured", "positions")

#: From each version to the next one; rows without a time get the present one.
_UPGRADES = {
    1: """
ALTER TABLE firings ADD COLUMN taken REAL NOT NULL DEFAULT 0;
ALTER TABLE firings ADD COLUMN age REAL NOT NULL DEFAULT 0;
ALTER TABLE firings ADD COLUMN done REAL NOT NULL DEFAULT 0;
UPDATE firings SET taken = strftime('%s', 'now'), done = strftime('%s', 'now');
""",
}

INSERT_FIRING = """
INSERT OR REPLACE INTO firings
    (seq, id, alarm, state, firing, attempts, error, reason, taken, age, done) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

#: What SQLite says of a file that is damaged, or is no database.
_BROKEN = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

#: The first bytes of a database (sqlite.org/fileformat2.html).
_MAGIC = b"SQLite format 3\0"

#: The files of a database in WAL mode.
_SUFFIXES = ("", "-wal", "-shm")


class UnusableError(Exception):
    """The file is missing or cannot be used."""


def is_broken(error: sqlite3.Error) -> bool:
    """Return whether the file is damaged, is no database, or was moved away."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in _BROKEN or code == sqlite3.SQLITE_READONLY_DBMOVED  # the higher bits are detail


def is_foreign(error: sqlite3.Error) -> bool:
    """Return whether the file may have other tables than ours, or undecodable text."""
    # Undecodable text has no code.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) == sqlite3.SQLITE_ERROR


class Watch:
    """Detects that a database's files were replaced since they were opened.

    Keeps the file open: closing it would release SQLite's locks on it (sqlite.org/howtocorrupt.html, 2.2).
    """

    def __init__(self, path: Path) -> None:
        self._names = (str(path), f"{path}-wal")
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._seen = self._look()

    def refresh(self) -> None:
        """Accept the files as they are now. Raises `OSError`."""
        self._seen = self._look()
        if os.fstat(self._fd).st_ino != self._seen[0]:
            fresh = os.open(self._names[0], os.O_RDONLY | os.O_CLOEXEC)
            os.close(self._fd)
            self._fd = fresh

    def fault(self) -> str:
        """Return what has happened to the files; empty for nothing. Takes two system calls."""
        found = self._look()
        if found == self._seen or None in found:
            return ""
        return "it was deleted" if 0 in found else "another file has taken its place"

    def damage(self) -> str:
        """Return what is wrong with the first bytes, which SQLite does not reread; empty for nothing."""
        try:
            head = os.pread(self._fd, len(_MAGIC), 0)
        except OSError:
            return ""
        return "" if head == _MAGIC else "it was overwritten"

    def close(self) -> None:
        """Close the file, after the last connection to it was closed."""
        os.close(self._fd)

    def _look(self) -> list[int | None]:
        """Return the inode of each file, 0 for one that is missing, None where that is unknown."""
        return [_inode(name) for name in self._names]


def _inode(name: str) -> int | None:
    try:
        return os.stat(name).st_ino  # noqa: PTH116  # a third of the time
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError:
        return None


class BrokenError(sqlite3.DatabaseError):
    """The file exists and can never be used."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A database with our schema."""

    database: sqlite3.Connection
    #: Whether it has a file.
    has_file: bool
    #: Whether it is a copy of the file in memory, because the file cannot be written.
    is_copy: bool = False
    #: Whether it began empty in memory, because the file cannot be read either.
    is_beside: bool = False
    #: What is wrong with the file, in a sentence; empty for nothing.
    fault: str = ""


C = TypeVar("C", bound=sqlite3.Connection)


def open_memory(factory: type[C] = sqlite3.Connection) -> C:  # type: ignore[assignment]  # mypy has no such defaults
    """Open an empty database in memory."""
    database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, factory=factory)
    prepare(database)
    return database


def open_existing(path: Path) -> Opened:
    """Open the database of another process that has ended, as it is.

    Raises `UnusableError` where it is missing, broken, or a newer release's: then nothing is changed.
    """
    try:
        if not path.exists():
            raise UnusableError(f"there is no outbox {path}")
        return Opened(open_new(path), has_file=True)
    except (sqlite3.Error, OSError, BrokenError) as error:
        raise UnusableError(f"the outbox {path} cannot be used: {error}") from error


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a file that cannot be written for reading, exclusively. Raises `sqlite3.Error`."""
    # A missing file is not created.
    name = f"{path.absolute().as_uri()}?mode=rw"
    with contextlib.closing(sqlite3.connect(name, uri=True, isolation_level=None, timeout=OPEN_TIMEOUT)) as database:
        # Otherwise it would need a second file, for which there may be no space (sqlite.org/wal.html#noshm).
        database.execute("PRAGMA locking_mode=EXCLUSIVE")
        yield database


def move_aside(path: Path) -> Path | None:
    """Rename the files of a database together, and return its new path; None where there is none."""
    aside = path.with_name(f"{path.name}.broken-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    was_there = False
    for suffix in reversed(_SUFFIXES):  # if this fails midway, the next start still finds a broken database
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
            was_there = True
    return aside if was_there else None


def open_new(path: Path) -> sqlite3.Connection:
    """Open an intact database. Raises `sqlite3.Error`."""
    database = connect(path)
    try:
        prepare(database)
    except BaseException:
        database.close()
        raise
    return database


def connect(path: Path) -> sqlite3.Connection:
    """Open a database without checking it."""
    return sqlite3.connect(str(path), isolation_level=None, check_same_thread=False, timeout=OPEN_TIMEOUT)


def prepare(database: sqlite3.Connection) -> None:
    """Create or upgrade the schema. Raises `BrokenError` where the file is to be replaced, or `sqlite3.Error`."""
    try:
        _upgrade(database, _check(database))
        _set_up(database)
    except sqlite3.Error as error:
        if is_broken(error) or is_foreign(error):
            raise BrokenError(str(error)) from error
        raise


def _set_up(database: sqlite3.Connection) -> None:
    database.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {SCHEMA}")
    database.execute(
        "SELECT seq, id, alarm, state, firing, attempts, error, reason, taken, age, done FROM firings LIMIT 0"
    )
    database.execute("SELECT scope, name, col, n FROM ledger LIMIT 0")
    database.execute("SELECT one, data FROM memory LIMIT 0")
    # Written even where it is set already: a file that cannot be written is detected now.
    database.executescript(f"BEGIN IMMEDIATE; PRAGMA user_version = {VERSION}; COMMIT;")
    database.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")
    database.execute(f"PRAGMA wal_autocheckpoint = {AUTOCHECKPOINT}")


def _check(database: sqlite3.Connection) -> int:
    """Return the version of the file, 0 for a new one."""
    ((version,),) = database.execute("PRAGMA user_version")
    if version > VERSION:
        raise BrokenError(f"a newer release of this program has written it (schema {version}, known is {VERSION})")
    ((result,),) = database.execute("PRAGMA quick_check(1)")
    if result != "ok":
        raise BrokenError(" ".join(result.split()))
    return int(version)


def _upgrade(database: sqlite3.Connection, version: int) -> None:
    for step in sorted(step for step in _UPGRADES if 0 < version <= step):
        database.executescript(f"BEGIN IMMEDIATE; {_UPGRADES[step]} PRAGMA user_version = {step + 1}; COMMIT;")
