"""How the outbox begins: in its file, in memory with what can be read of the file, or in memory alone."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import Literal

from alarm_mw.delivery.outbox.database import Opened, open_memory, reading
from alarm_mw.delivery.outbox.journal import Journal, JournaledConnection
from alarm_mw.delivery.outbox.memory_failover import unwritable
from alarm_mw.delivery.outbox.rescue import copied, open_beside, open_file, statements_of, token_of, write_in

log = logging.getLogger(__name__)


def open_database(path: Path | Literal[":memory:"], now: float) -> Opened:
    """Open a database with our schema.

    Never raises for what is wrong with the file, but logs it and says so: no alarm must be refused because
    of that. May block for `OPEN_TIMEOUT` seconds, twice, and for as long as it takes to read the file twice.
    """
    if path == ":memory:":
        return Opened(open_memory(), has_file=False)
    try:
        return open_file(path)
    except (sqlite3.Error, OSError) as error:
        opened = opened_without(path, error, now)
    log.error("%s", opened.fault)
    return opened


def opened_without(path: Path, error: sqlite3.Error | OSError, now: float) -> Opened:
    """Return a copy of a file that cannot be written; where it cannot be read either, an empty database."""
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
    """Return what was opened, with what a master that was killed had in memory.

    Where that cannot be added to it, the journal is held until it can.
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
