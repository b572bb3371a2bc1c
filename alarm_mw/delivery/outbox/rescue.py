"""Opens the outbox, and copies it: into memory while its file cannot be written, or from a damaged file."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, cast

from alarm_mw.delivery.outbox.database import (
    INSERT_FIRING,
    MOSTLY_EMPTY,
    BrokenError,
    Opened,
    UnusableError,
    connect,
    move_aside,
    open_memory,
    open_new,
    prepare,
    reading,
)
from alarm_mw.delivery.outbox.journal import Journal, JournaledConnection, Statement
from alarm_mw.delivery.outbox.limits import Amount, State
from alarm_mw.engine.ledger import Key

log = logging.getLogger(__name__)

#: A firing as it lies in the outbox, all columns in their order.
Row = tuple[int, str, str, str, bytes, int, str, str, float, float, float]

#: How many waiting firings are also kept in memory, and their bytes.
KNOWN = Amount(10_000, 8 * 2**20)

#: Seconds for which a damaged file is read; no firing can be taken meanwhile.
SALVAGE_LIMIT = 2.0

#: How many rows are read at a time; one by one where some of them cannot be read.
BLOCK = 500

#: Of settled firings only the ids are copied, to find duplicates.
_TAKEN_ALONG = """
SELECT seq, id, alarm, state, CASE WHEN state IN ('waiting', 'dead') THEN firing ELSE x'' END,
    attempts, error, reason, taken, age, done FROM firings
"""
_WRITTEN_BACK = """
SELECT seq, id, alarm, state, firing, attempts, error, reason, taken, age, done FROM firings WHERE LENGTH(firing) > 0
"""

_LAST = "SELECT seq FROM sqlite_sequence WHERE name = 'firings'"

_STATES = frozenset(State)
_TYPES = (int, str, str, str, bytes, int, str, str, float, float, float)

#: Where the highest number cannot be read, firings are searched below this one.
UNKNOWN_LAST = 1_000_000

_READ = (
    "SELECT seq, id, alarm, state, firing, attempts, error, reason, taken, age, done FROM firings"
    " WHERE seq BETWEEN ? AND ?"
)


class KnownWaiting:
    """Copies of the waiting firings, as many as `KNOWN` allows: those in a damaged file may be unreadable.

    Changes take effect with `commit`.
    """

    def __init__(self) -> None:
        self._rows: dict[int, Row] = {}
        self._size = 0
        self._added: list[Row] = []
        self._removed: list[int] = []

    def begin(self) -> None:
        """Forget changes that were not committed."""
        self._added.clear()
        self._removed.clear()

    def add(self, row: Row) -> None:
        """Note that a firing waits."""
        self._added.append(row)

    def remove(self, seqs: Iterable[int]) -> None:
        """Note that firings no longer wait."""
        self._removed.extend(seqs)

    def clear(self) -> None:
        """Note that no firing waits."""
        self._removed.extend(self._rows)

    def commit(self) -> None:
        """Apply the changes."""
        for row in self._added:
            if len(self._rows) < KNOWN.count and self._size + len(row[4]) <= KNOWN.size:
                self._rows[row[0]] = row
                self._size += len(row[4])
        for seq in self._removed:
            if (gone := self._rows.pop(seq, None)) is not None:
                self._size -= len(gone[4])
        self.begin()

    def fill(self, rows: Iterable[Row]) -> None:
        """Add the waiting firings of a file that was opened."""
        for row in rows:
            self.add(row)
        self.commit()

    def rows(self) -> list[Row]:
        """Return all copies, in no order."""
        return list(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)


def copied(file: sqlite3.Connection) -> JournaledConnection:
    """Return a copy in memory. Raises `sqlite3.Error` where the file cannot be read, or has other tables than ours."""
    memory = open_memory(JournaledConnection)
    try:
        memory.execute("BEGIN")
        memory.executemany(INSERT_FIRING, file.execute(_TAKEN_ALONG))
        for sql, rows in _statements_of_rest(file):
            memory.executemany(sql, rows)
        memory.execute(f"PRAGMA application_id = {token_of(file)}")
        memory.execute("COMMIT")
    except BaseException:
        memory.close()
        raise
    return memory


def statements_of(memory: sqlite3.Connection, *, is_partial: bool = False) -> Iterator[Statement]:
    """Yield what makes a file equal to a copy; where `is_partial`, the copy lacks the file's dead letters."""
    states = "('waiting')" if is_partial else "('waiting', 'dead')"
    yield f"DELETE FROM firings WHERE state IN {states}", [()]  # noqa: S608  # no user input
    yield INSERT_FIRING, memory.execute(_WRITTEN_BACK).fetchall()
    yield from _statements_of_rest(memory)


def write_back(
    memory: sqlite3.Connection, file: sqlite3.Connection, *, is_partial: bool = False, token: int = 0
) -> None:
    """Write a copy into a file, with the token of the copy's journal; `is_partial` as above."""
    with _transaction(file):
        for sql, rows in statements_of(memory, is_partial=is_partial):
            file.executemany(sql, rows)
        file.execute(f"PRAGMA application_id = {token}")


def token_of(file: sqlite3.Connection) -> int:
    """Return the token of the last journal that was written into a file."""
    ((token,),) = file.execute("PRAGMA application_id")
    return int(token)


@contextlib.contextmanager
def _transaction(file: sqlite3.Connection) -> Iterator[None]:
    file.execute("BEGIN IMMEDIATE")
    try:
        yield
        file.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back by itself
            file.execute("ROLLBACK")
        raise


def open_beside(now: float) -> JournaledConnection:
    """Open an empty database in memory, with higher numbers than those of a file that cannot be read now."""
    memory = open_memory(JournaledConnection)
    _set_sequence(memory, int(now * 1000))
    return memory


def merge(memory: sqlite3.Connection, file: sqlite3.Connection, token: int = 0) -> None:
    """Add all of a database that `open_beside` has opened to a file; the ledger gets the sums.

    What waits in the file gets higher numbers: lanes have looked up to those of the other.
    """
    with _transaction(file):
        last = memory.execute(_LAST).fetchone()
        file.execute("UPDATE firings SET seq = seq + ? WHERE state = 'waiting'", last)
        file.executemany(INSERT_FIRING.replace("REPLACE", "IGNORE"), memory.execute(_WRITTEN_BACK))
        file.executemany(
            "INSERT INTO ledger VALUES (?, ?, ?, ?) ON CONFLICT (scope, name, col) DO UPDATE SET n = n + excluded.n",
            memory.execute("SELECT scope, name, col, n FROM ledger"),
        )
        file.executemany("INSERT OR REPLACE INTO memory VALUES (?, ?)", memory.execute("SELECT one, data FROM memory"))
        for sql, rows in _statements_of_mostly_empty(memory):
            file.executemany(sql, rows)
        ((highest,),) = file.execute("SELECT COALESCE(MAX(seq), 0) FROM firings")
        _set_sequence(file, max(highest, *last))
        file.execute(f"PRAGMA application_id = {token}")


def write_in(database: sqlite3.Connection, journal: Journal) -> None:
    """Apply a journal to the database that it was recorded for. Raises `sqlite3.Error`."""
    memory = open_beside(0.0) if journal.is_beside else copied(database)
    with contextlib.closing(memory):
        journal.replay(memory)
        if journal.is_beside:
            merge(memory, database, journal.token)
        else:
            write_back(memory, database, token=journal.token)


def _set_sequence(database: sqlite3.Connection, last: int) -> None:
    # Lanes remember the highest number that they have read: none may be used twice.
    database.execute("DELETE FROM sqlite_sequence")
    database.execute("INSERT INTO sqlite_sequence VALUES ('firings', ?)", (last,))


def sequence_of(database: sqlite3.Connection) -> Iterator[Statement]:
    """Yield what continues the numbering in another database."""
    yield "DELETE FROM sqlite_sequence", [()]
    yield "INSERT INTO sqlite_sequence VALUES (?, ?)", database.execute("SELECT * FROM sqlite_sequence").fetchall()


def _statements_of_rest(source: sqlite3.Connection) -> Iterator[Statement]:
    """Yield what copies everything except the firings."""
    yield "INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?)", source.execute("SELECT * FROM ledger").fetchall()
    yield "INSERT OR REPLACE INTO memory VALUES (?, ?)", source.execute("SELECT * FROM memory").fetchall()
    yield from _statements_of_mostly_empty(source)
    yield from sequence_of(source)


def _statements_of_mostly_empty(source: sqlite3.Connection) -> Iterator[Statement]:
    for table in MOSTLY_EMPTY:
        rows = source.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608  # our own words
        yield f"DELETE FROM {table}", [()]  # noqa: S608  # our own words
        if rows:
            yield f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows  # noqa: S608  # as above


def open_file(path: Path) -> Opened:
    """Open a file; replace a broken one by a new one with what can be read of it, and log that.

    Raises `sqlite3.Error` or `OSError` where it cannot be written. May block for `OPEN_TIMEOUT` seconds, and for as
    long as it takes to read the file once, or twice where it is broken.
    """
    # Messages are private; SQLite gives its side files the same mode.
    path.touch(mode=0o600)
    database = connect(path)
    try:
        prepare(database)
    except BrokenError as error:
        _read_through(path)
        # Moved before it is closed: closing would remove its side files.
        with contextlib.closing(database):
            rest = _left(database)
            aside = move_aside(path)
        with contextlib.closing(rest):
            ((waiting,),) = rest.execute("SELECT COUNT(*) FROM firings WHERE state = 'waiting'")
            fault = (
                f"the outbox {path} cannot be read: {error}. It was moved to {aside}, and a new one is started with "
                f"{waiting:,} waiting firings; others that waited in it are not delivered"
            )
            log.error("%s", fault)
            fresh = open_new(path)
            write_back(rest, fresh)
        return Opened(fresh, has_file=True, fault=fault)
    except sqlite3.Error:
        database.close()
        raise
    return Opened(database, has_file=True)


def _read_through(path: Path) -> None:
    """Raise `OSError` where the disk cannot be read: SQLite may mistake that for damage."""
    with path.open("rb", buffering=0) as file:
        while file.read(2**20):
            pass


def _left(file: sqlite3.Connection) -> JournaledConnection:
    """Return a copy of the readable part of a damaged file; the ledger starts at zero where part of it is lost."""
    counts = {
        cast("Key", tuple(key)): cast("int", n)
        for *key, n in _readable(file, "SELECT scope, name, col, n FROM ledger") or ()
    }
    memory = _readable(file, "SELECT data FROM memory")
    last = _readable(file, _LAST)
    return rescued(
        file,
        KnownWaiting(),
        counts,
        cast("bytes", memory[0][0]) if memory else None,
        cast("int", last[0][0]) if last else UNKNOWN_LAST,
        is_all_known=False,
    )


def _readable(file: sqlite3.Connection, sql: str) -> list[tuple[object, ...]] | None:
    """Return all rows of a query; None where some are unreadable."""
    try:
        return file.execute(sql).fetchall()
    except (sqlite3.Error, UnicodeError):
        return None


def rescued(
    file: sqlite3.Connection | None,
    known: KnownWaiting,
    counts: Mapping[Key, int],
    memory: bytes | None,
    last: int,
    *,
    is_all_known: bool,
) -> JournaledConnection:
    """Return a new database in memory with what is known, and what else is readable in the file.

    `counts` are those of the ledger, `memory` is what the limiters remember, `last` the highest number of a firing.
    Where `is_all_known`, a firing that waits in the file and is not known is settled.
    """
    database = open_memory(JournaledConnection)
    database.execute("BEGIN")
    for row in salvaged(file, last) if file is not None else ():
        if not (is_all_known and row[3] == State.WAITING):
            database.execute(INSERT_FIRING, row)
    database.executemany(INSERT_FIRING, known.rows())
    database.executemany("INSERT INTO ledger VALUES (?, ?, ?, ?)", [(*key, n) for key, n in counts.items()])
    if memory is not None:
        database.execute("INSERT INTO memory VALUES (1, ?)", (memory,))
    _set_sequence(database, last)
    database.execute("COMMIT")
    return database


def salvaged(file: sqlite3.Connection, last: int) -> Iterator[Row]:
    """Yield the firings that can be read, the newest first, for `SALVAGE_LIMIT` seconds at most."""
    try:
        file.execute(f"EXPLAIN {_READ}", (1, 1))
    except sqlite3.Error:  # not a database, or without these columns: no attempt can succeed
        return
    deadline = time.monotonic() + SALVAGE_LIMIT
    for end in range(last, 0, -BLOCK):
        if time.monotonic() > deadline:
            return
        yield from _block(file, max(end - BLOCK + 1, 1), end)


def _block(file: sqlite3.Connection, first: int, last: int) -> list[Row]:
    try:
        return [row for row in file.execute(_READ, (first, last)) if _is_sound(row)]
    except (sqlite3.Error, UnicodeError):
        if first == last:
            return []
        middle = (first + last) // 2
        return [*_block(file, first, middle), *_block(file, middle + 1, last)]


def _is_sound(row: Row) -> bool:
    return row[3] in _STATES and all(map(isinstance, row, _TYPES))


def difference(counts: Mapping[str, int], found: Mapping[str, int]) -> dict[str, int]:
    """Return how many waiting firings of each alarm are missing; a negative number for extra ones."""
    missing = Counter(counts)
    missing.subtract(found)
    return {alarm: n for alarm, n in missing.items() if n}


def open_database(path: Path | Literal[":memory:"], now: float) -> Opened:
    """Open a database with our schema.

    Never raises for a faulty file, but logs and reports the fault: no alarm may be refused because of it.
    May block for `OPEN_TIMEOUT` seconds, twice, and for as long as it takes to read the file twice.
    """
    if path == ":memory:":
        return Opened(open_memory(), has_file=False)
    try:
        return open_file(path)
    except (sqlite3.Error, OSError) as error:
        opened = opened_without(path, error, now)
    log.error("%s", opened.fault)
    return opened


def open_for_reading(path: Path) -> Opened:
    """Open a copy in memory of the database of another process that has ended; nothing is written back.

    For a file that cannot be written, such as on a full disk. Raises `UnusableError` if it cannot be read either.
    """
    try:
        with reading(path) as file:
            copy = copied(file) if _is_begun(file) else open_memory(JournaledConnection)
            return Opened(copy, has_file=False)
    except sqlite3.Error as error:
        raise UnusableError(f"the outbox {path} cannot be used: {error}") from error


def opened_without(path: Path, error: sqlite3.Error | OSError, now: float) -> Opened:
    """Return a copy of a file that cannot be written; an empty database where it cannot be read either."""
    try:
        with reading(path) as file:
            copy = copied(file) if _is_begun(file) else open_memory(JournaledConnection)
    except sqlite3.Error:
        fault = (
            f"the outbox {path} cannot be used: {error}. Alarms go on from memory, and are written down as soon as "
            "that is possible; until then, what waits in the file is not delivered, and is not among the counts. See "
            f"that {path.parent} is a directory that can be written and has free space"
        )
        return Opened(open_beside(now), has_file=True, is_copy=True, is_beside=True, fault=fault)
    return Opened(copy, has_file=True, is_copy=True, fault=unwritable(path, error))


def restored(path: Path, opened: Opened, journal: Journal) -> Opened:
    """Return the opened database with what a killed master had in memory.

    Where that cannot be added yet, the journal is held until it can.
    """
    if not journal.token:
        return opened
    if token_of(opened.database) == journal.token:
        journal.clear()
        return opened
    if opened.is_beside and not journal.is_beside:
        journal.is_held = True
        return opened
    if opened.is_copy and opened.is_beside == journal.is_beside:
        journal.replay(opened.database)
        return opened
    try:
        write_in(opened.database, journal)
    except sqlite3.Error as error:
        copy = copied(opened.database)
        opened.database.close()
        opened = Opened(copy, has_file=True, is_copy=True, fault=unwritable(path, error))
        write_in(copy, journal)
    if opened.is_copy:
        journal.begin(statements_of(opened.database))
    else:
        journal.clear()
    return opened


def _is_begun(file: sqlite3.Connection) -> bool:
    return file.execute("SELECT 1 FROM sqlite_schema").fetchall() != []


def unwritable(path: Path, error: sqlite3.Error | OSError) -> str:
    """Return the message for a file that cannot be written."""
    return (
        f"the outbox {path} cannot be written: {error}. Alarms go on from memory, and are written down as soon as that "
        f"is possible: see that {path.parent} can be written and has free space. Should the server end before, what "
        "has come meanwhile is lost, and what was delivered may come again"
    )
