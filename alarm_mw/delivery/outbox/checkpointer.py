"""The checkpointer moves the pages of the outbox's write-ahead log into the file, in a thread: no firing waits for it.

On an idle SSD a checkpoint takes 7 ms, at worst 120 ms, and on a disk that hangs it does not end, while taking a firing
needs 0.04 ms and no answer of the disk: on the worker's thread it would stop all alarms for that time. The
log restarts with the next transaction that finds all of it moved (sqlite.org/wal.html, "Checkpointing").
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

#: Maximum number of passes in a row, while more is written.
PASSES = 3

#: Seconds before a failed checkpoint is repeated.
RETRY_EVERY = 60.0


class Checkpointer:
    """`run` belongs to a thread of its own, and may block for a slow disk; the other methods belong to any thread."""

    def __init__(self, path: Path, retry_every: float = RETRY_EVERY) -> None:
        self._path = path
        self._retry_every = retry_every
        self._requested = threading.Event()
        self._is_ending = False
        self._is_renewed = False
        self._lock = new_lock()
        #: Kept open: where another file takes the place of the outbox's, the outbox uses the one it has, until `renew`.
        self._connections: tuple[sqlite3.Connection, sqlite3.Connection] | None = None
        #: The reason why it does not work, in a sentence; empty if it does.
        self.fault = ""

    def request(self) -> None:
        """Ask for a checkpoint soon."""
        self._requested.set()

    def renew(self) -> None:
        """Open the file again: another one has taken its place."""
        self._is_renewed = True

    def stop(self) -> None:
        """End `run` after the present checkpoint."""
        self._is_ending = True
        self._requested.set()

    def run(self) -> None:
        """Make the checkpoints that are requested, until `stop`."""
        while not self._is_ending:
            self._requested.wait(self._retry_every if self.fault else None)
            self._requested.clear()
            if not self._is_ending:
                self.work()
        self._close()

    def work(self) -> None:
        """Make a checkpoint; a failure is logged, and set as `fault`."""
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
        # A missing file is not created.
        return sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)


def _move(moving: sqlite3.Connection, reading: sqlite3.Connection) -> None:
    pages, before = 0, -1
    for _ in range(PASSES):
        with kept_open(reading):
            # Passive: others may write meanwhile, and their pages are not moved.
            ((_, pages, _),) = moving.execute("PRAGMA wal_checkpoint(PASSIVE)")
        if pages == before:
            return
        before = pages


@contextmanager
def kept_open(reading: sqlite3.Connection) -> Iterator[None]:
    """Keep the log from restarting, which it cannot while there is a reader.

    Otherwise SQLite before 3.51.3 may take part of the new log for moved (sqlite.org/wal.html, "The WAL-Reset Bug").
    """
    reading.execute("BEGIN")
    try:
        reading.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()  # it reads from now on
        yield
    finally:
        reading.execute("ROLLBACK")
