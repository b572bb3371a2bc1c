"""While the outbox's file cannot be written, a copy in memory replaces it, and is written back later."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

from alarm_mw.delivery.outbox.database import Opened, Watch, is_broken, is_foreign, move_aside
from alarm_mw.delivery.outbox.journal import Journal, JournaledConnection, Statement
from alarm_mw.delivery.outbox.rescue import merge, open_file, sequence_of, statements_of, write_back, write_in

#: Seconds for which writes must have failed before the copy is made: shorter than any caller's retries.
FAIL_OVER_AFTER = 1.0

#: Seconds between attempts to write it back.
FAIL_BACK_EVERY = 5.0

#: Seconds between checks of the first bytes of the file.
LOOK_EVERY = 1.0

#: SQLite's codes for a disk that fails or a file that is locked, but whose content is intact.
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


class MemoryFailover:
    """The database in use: the file's, or the copy. Callers hold the outbox's lock."""

    def __init__(self, opened: Opened, path: Path, now: Callable[[], float], journal: Journal | None = None) -> None:
        self.database: sqlite3.Connection = opened.database
        self._journal = journal
        #: None until it could be opened.
        self._file = None if opened.is_copy else opened.database
        self._path = path
        self._now = now
        self._failing_since: float | None = None
        self._fail_back_at = now() + FAIL_BACK_EVERY
        #: Whether the file holds firings that the copy has never seen.
        self.is_beside = opened.is_beside
        #: Whether the file holds dead letters that the copy lacks.
        self._is_partial = False
        self._watch: Watch | None = None
        self._look_at = 0.0
        if opened.has_file and not opened.is_copy:
            self._watch_file()
        if isinstance(opened.database, JournaledConnection):
            is_new = journal is not None and not journal.token
            self._record(opened.database, sequence_of(opened.database) if is_new else None)

    @property
    def is_open(self) -> bool:
        """Whether the copy is in use."""
        return self.database is not self._file

    def fault(self) -> str:
        """Return why the file is no longer the one that was opened; empty where it is."""
        if self._watch is None or self.is_open:
            return ""
        fault, now = self._watch.fault(), self._now()
        if not fault and now >= self._look_at:
            self._look_at = now + LOOK_EVERY
            fault = self._watch.damage()
        return fault

    def look_again(self) -> None:
        """Check the first bytes of the file in the next `fault`, even if they were checked a moment ago."""
        self._look_at = 0.0

    def _watch_file(self) -> None:
        with contextlib.suppress(OSError):  # then it is not watched
            if self._watch is None:
                self._watch = Watch(self._path)
            self._watch.refresh()

    def _record(self, copy: JournaledConnection, statements: Iterable[Statement] | None) -> None:
        """Record the changes of a copy in the journal, which is restarted with these statements if there are any."""
        if self._journal is not None:
            if statements is not None:
                self._journal.begin(statements, is_beside=self.is_beside)
            copy.record(self._journal)

    def shorten_journal(self) -> None:
        """Compact the journal where it has grown too long."""
        if self.is_open and self._journal is not None and self._journal.is_long:
            self._journal.begin(statements_of(self.database, is_partial=self._is_partial), is_beside=self.is_beside)

    def worked(self) -> None:
        """Note that a transaction was written."""
        self._failing_since = None

    def failed(self, error: sqlite3.Error) -> bool:
        """Note that a transaction was not written into the file; return whether to fail over to a copy."""
        is_transient = getattr(error, "sqlite_errorcode", 0) & 0xFF in _UNWRITABLE or is_foreign(error)
        if not is_transient:
            return False
        if not (is_busy(error) or is_foreign(error)):  # the kernel may report a disk error only once
            return True
        now = self._now()
        if self._failing_since is None:
            self._failing_since = now
        return now - self._failing_since >= FAIL_OVER_AFTER

    def fail_over(self, copy: JournaledConnection, *, is_partial: bool) -> None:
        """Use the copy; `is_partial` means that the file could not be read for it."""
        self.database, self._is_partial = copy, is_partial
        self._record(copy, sequence_of(copy))
        self._fail_back_at = self._now() + FAIL_BACK_EVERY

    def replace(self, copy: JournaledConnection) -> str:
        """Use the copy and move the file aside; return what was done with the file, in a sentence."""
        self._record(copy, statements_of(copy))
        try:
            aside = move_aside(self._path)
        except OSError as error:
            text = f"It cannot be moved aside: {error.strerror}"
        else:
            text = f"It was moved to {aside}" if aside is not None else "Nothing is left of it"
        self.database, self._is_partial = copy, False
        # Closed after it was moved: otherwise SQLite would remove the side files of a new one.
        self._close_file()
        self._fail_back_at = self._now()
        return text

    def is_fail_back_due(self) -> bool:
        """Return whether to try the file again."""
        return self.is_open and self._now() >= self._fail_back_at

    def fail_back(self) -> bool:
        """Write all changes into the file; return whether the file is in use again."""
        self._fail_back_at = self._now() + FAIL_BACK_EVERY
        try:
            self._file = self._file or open_file(self._path).database
            self._write(self._file)
        except OSError:
            return False
        except sqlite3.Error as error:
            if is_broken(error) or is_foreign(error) or is_io_error(error):
                self._close_file()  # it is checked completely when it is opened the next time
            return False
        if self._journal is not None:
            self._journal.clear()
        self.database.close()
        self.database, self._failing_since = self._file, None
        self._watch_file()
        return True

    def _write(self, file: sqlite3.Connection) -> None:
        token = 0
        if self._journal is not None and self._journal.is_held:
            write_in(file, self._journal)
            self._journal.clear()
        elif self._journal is not None:
            token = self._journal.token
        if self.is_beside:
            merge(self.database, file, token)
        else:
            write_back(self.database, file, is_partial=self._is_partial, token=token)

    def close(self) -> None:
        """Close what is open."""
        self.database.close()
        self._close_file()
        if self._watch is not None:
            self._watch.close()
        if self._journal is not None:
            self._journal.close()

    def _close_file(self) -> None:
        if self._file is not None:
            with contextlib.suppress(sqlite3.Error):
                self._file.close()
        self._file = None


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether another process has locked the file, which may end soon."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def is_io_error(error: sqlite3.Error) -> bool:
    """Return whether a system call failed."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR
