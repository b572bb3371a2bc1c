"""Keeps the transactions of a database in memory in a memory file that outlives the master, even when it is killed."""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

log = logging.getLogger(__name__)

#: Bytes beyond which the journal is compacted.
LIMIT = 64 * 2**20

#: The head of the file: its token, its kind, and the end of its last transaction.
_HEAD = struct.Struct("3q")
_SIZE = struct.Struct("I")

_CHANGES = ("INSERT", "UPDATE", "DELETE")

Statement = tuple[str, list[tuple[Any, ...]]]

_decoder = msgspec.msgpack.Decoder(list[tuple[str, list[tuple[Any, ...]]]])


class Journal:
    """Transactions in a memory file; `hand_over` gives a new file's descriptor to the supervisor.

    The outbox's file holds its token once all of it is written there. Callers hold the outbox's lock.
    """

    def __init__(self, inherited: int | None, hand_over: Callable[[int], object]) -> None:
        self._hand_over = hand_over
        self._fd = inherited
        self._token, self._kind, self._end = 0, 0, 0
        self._limit = LIMIT
        #: Whether it waits for a file that cannot be read now; nothing is added meanwhile.
        self.is_held = False
        if inherited is not None and len(head := os.pread(inherited, _HEAD.size, 0)) == _HEAD.size:
            self._token, self._kind, self._end = _HEAD.unpack(head)

    @property
    def token(self) -> int:
        """The number that a file holds once it has all of this; 0 for an empty journal."""
        return self._token

    @property
    def is_beside(self) -> bool:
        """Whether these are changes of a database that began empty, beside a file that could not be read."""
        return self._kind == 1

    @property
    def is_long(self) -> bool:
        """Whether it is to be compacted."""
        return self._end > self._limit

    def begin(self, statements: Iterable[Statement] = (), *, is_beside: bool = False) -> None:
        """Start a new journal with one transaction; until that is complete, the former one is valid."""
        if self.is_held:
            return
        former, self._fd = self._fd, None
        try:
            self._fd = os.memfd_create("alarm-mw-outbox")
            self._token, self._kind, self._end = secrets.randbits(31) | 1, int(is_beside), _HEAD.size
            self.append(list(statements))
        except OSError as error:  # no memory, or a limit on file sizes
            log.error("what the outbox keeps in memory is lost with this process: %s", error)
            self.clear()
            return
        finally:
            if former is not None:
                os.close(former)
        self._limit = max(LIMIT, 2 * self._end)
        self._hand_over(self._fd)

    def append(self, statements: list[Statement]) -> None:
        """Add a transaction atomically. Raises `OSError` where there is no memory for it."""
        if self._fd is None or self.is_held:
            return
        data = msgspec.msgpack.encode(statements)
        block = memoryview(_SIZE.pack(len(data)) + data)
        at = self._end
        while block:
            written = os.pwrite(self._fd, block, at)
            block, at = block[written:], at + written
        os.pwrite(self._fd, _HEAD.pack(self._token, self._kind, at), 0)
        self._end = at

    def clear(self) -> None:
        """Delete everything: it is written into the file."""
        self.is_held = False
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
        self.close()
        self._token, self._end = 0, 0

    def close(self) -> None:
        """Close it here; the supervisor keeps its descriptor."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None

    def replay(self, database: sqlite3.Connection) -> None:
        """Apply all changes to another database. Raises `sqlite3.Error`."""
        database.execute("BEGIN")
        for statements in self._transactions():
            for sql, rows in statements:
                database.executemany(sql, rows)
        database.execute("COMMIT")

    def _transactions(self) -> Iterator[list[Statement]]:
        at = _HEAD.size
        while self._fd is not None and at < self._end:
            (size,) = _SIZE.unpack(os.pread(self._fd, _SIZE.size, at))
            yield _decoder.decode(os.pread(self._fd, size, at + _SIZE.size))
            at += _SIZE.size + size


class JournaledConnection(sqlite3.Connection):
    """A database in memory that writes its transactions into a journal, once `record` was called."""

    _journal: Journal | None = None
    _statements: list[Statement]

    def record(self, journal: Journal) -> None:
        """Write each transaction into a journal before it is committed."""
        self._journal, self._statements = journal, []

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:  # noqa: ANN401  # the signature of sqlite3
        """Execute a statement."""
        if self._journal is not None:
            self._note(self._journal, sql, parameters)
        return super().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        """Execute a statement for each of the rows."""
        rows = list(map(tuple, parameters))
        if self._journal is not None and rows:
            self._statements.append((sql, rows))
        return super().executemany(sql, rows)

    def _note(self, journal: Journal, sql: str, parameters: Any) -> None:  # noqa: ANN401  # as above
        if sql.lstrip().startswith(_CHANGES):
            self._statements.append((sql, [tuple(parameters)]))
        elif sql == "COMMIT" and self._statements:
            try:
                journal.append(self._statements)
            except OSError as error:
                raise sqlite3.OperationalError(f"the memory file cannot be written: {error.strerror}") from error
            self._statements = []
        elif sql.startswith(("BEGIN", "ROLLBACK")):
            self._statements = []
