"""How the outbox begins: in its file, in memory with what can be read of the file, or in memory alone."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import Literal

from alarm_mw.delivery.outbox.database import Opened, open_file, open_memory, reading
from alarm_mw.delivery.outbox.memory_failover import copied, unwritable

log = logging.getLogger(__name__)


def open_database(path: Path | Literal[":memory:"]) -> Opened:
    """Open a database with our schema.

    Never raises for what is wrong with the file, but logs it and says so: no alarm must be refused because
    of that. May block for `OPEN_TIMEOUT` seconds, twice, and for as long as it takes to read the file twice.
    """
    if path == ":memory:":
        return Opened(open_memory(), has_file=False)
    try:
        return open_file(path)
    except (sqlite3.Error, OSError) as error:
        opened = _read_once(path, error)
    log.error("%s", opened.fault)
    return opened


def _read_once(path: Path, error: sqlite3.Error | OSError) -> Opened:
    """Return a copy of a file that cannot be written; where it cannot be read either, an empty database."""
    try:
        with reading(path) as file:
            copy = copied(file) if _is_begun(file) else open_memory()
    except sqlite3.Error:
        fault = (
            f"the outbox {path} cannot be used: {error}. Firings are kept in memory until the next start: what is "
            "not delivered when this process ends is lost, what waits in the file is not delivered, and the counts "
            f"begin at zero. See that {path.parent} is a directory that can be written and has free space"
        )
        return Opened(open_memory(), has_file=False, fault=fault)
    return Opened(copy, has_file=True, is_copy=True, fault=unwritable(path, error))


def _is_begun(file: sqlite3.Connection) -> bool:
    return file.execute("SELECT 1 FROM sqlite_schema").fetchall() != []
