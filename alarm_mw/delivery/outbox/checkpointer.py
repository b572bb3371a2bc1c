"""The checkpointer moves what the outbox's log has into the file itself, in its own time: no firing waits for that.

The log begins anew with the next transaction that finds all of it moved (sqlite.org/wal.html, "Checkpointing").
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alarm_mw.system.forks import new_lock

log = logging.getLogger(__name__)

#: How often it looks, in a row, whether more was written meanwhile.
PASSES = 3

#: Seconds until it tries again what has failed.
RETRY_EVERY = 60.0


class Checkpointer:
    """`run` belongs to a thread of its own, which may block for a slow disk; `want` and `stop` to any, and never do."""

    def __init__(self, path: Path, retry_every: float = RETRY_EVERY) -> None:
        self._path = path
        self._retry_every = retry_every
        self._wanted = threading.Event()
        self._is_ending = False
        self._is_renewed = False
        self._lock = new_lock()
        #: Kept: should somebody put another file in the place of the outbox's, that goes on with the one it has, until
        #: `renew`.
        self._connections: tuple[sqlite3.Connection, sqlite3.Connection] | None = None
        #: What keeps it from its work, in a sentence; empty for nothing.
        self.fault = ""

    def want(self) -> None:
        """Have it done soon."""
        self._wanted.set()

    def renew(self) -> None:
        """Work on another file from now on, which has taken the place of the outbox's. From any thread."""
        self._is_renewed = True

    def stop(self) -> None:
        """Let `run` return as soon as what it does at the moment is done."""
        self._is_ending = True
        self._wanted.set()

    def run(self) -> None:
        """Do it whenever it is wanted, until `stop`."""
        while not self._is_ending:
            self._wanted.wait(self._retry_every if self.fault else None)
            self._wanted.clear()
            if not self._is_ending:
                self.work()
        self._close()

    def work(self) -> None:
        """Move what there is; the log and `fault` tell where that is impossible."""
        try:
            with self._lock:
                if self._is_renewed:
                    self._close()
                    self._is_renewed = False
                self._connections = self._connections or (self._open(), self._open())
                _move(*self._connections)
        except sqlite3.Error as error:
            if not self.fault:
                log.error("the log of the outbox %s grows, and cannot be moved into the file: %s", self._path, error)
            self.fault = f"its log grows, and cannot be moved into the file: {error}"
        else:
            self.fault = ""

    def _close(self) -> None:
        for connection in self._connections or ():
            connection.close()
        self._connections = None

    def _open(self) -> sqlite3.Connection:
        # One that is not there is not made.
        return sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)


def _move(moving: sqlite3.Connection, reading: sqlite3.Connection) -> None:
    pages, before = 0, -1
    for _ in range(PASSES):
        with _kept(reading):
            # Lets others write, and waits for nobody; what they have written meanwhile is not among the pages.
            ((_, pages, _),) = moving.execute("PRAGMA wal_checkpoint(PASSIVE)")
        if pages == before:
            return
        before = pages


@contextmanager
def _kept(reading: sqlite3.Connection) -> Iterator[None]:
    """Let the log not begin anew, as nobody may who has a reader.

    Else SQLite before 3.51.3 may take part of the new log for moved (sqlite.org/wal.html, "The WAL-Reset Bug").
    """
    reading.execute("BEGIN")
    try:
        reading.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()  # it reads from now on
        yield
    finally:
        reading.execute("ROLLBACK")
