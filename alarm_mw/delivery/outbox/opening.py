"""How the outbox begins: in its file, in memory with what can be read of the file, or in memory alone."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import Literal

from alarm_mw.delivery.outbox.database import Opened, open_memory, reading
from alarm_mw.delivery.outbox.memory_failover import unwritable
from alarm_mw.delivery.outbox.rescue import copied, open_beside, open_file

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
            copy = copied(file) if _is_begun(file) else open_memory()
    except sqlite3.Error:
        fault = (
            f"the outbox {path} cannot be used: {error}. Alarms go on from memory, and are written down as soon as "
            "that is possible; until then, what waits in the file is not delivered, and is not among the counts. See "
            f"that {path.parent} is a directory that can be written and has free space"
        )
        return Opened(open_beside(now), has_file=True, is_copy=True, is_beside=True, fault=fault)
    return Opened(copy, has_file=True, is_copy=True, fault=unwritable(path, error))


def _is_begun(file: sqlite3.Connection) -> bool:
    return file.execute("SELECT 1 FROM sqlite_schema").fetchall() != []
