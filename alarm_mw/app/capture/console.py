"""Which lines the application's own logging prints for a record."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import TextIO

from alarm_mw.app.capture.tee import Tee
from alarm_mw.app.log_calls import Showing, logger_name

#: Standard output and error.
_STANDARD = (1, 2)


def console_lines(record: logging.LogRecord, *, certain: bool = True) -> list[bytes]:
    """Return the lines that handlers of `logging` print for this record on standard output and error.

    With `certain`, handlers with filters are left out: they are not asked, since they may keep count, and a line that
    is announced and not printed would hold back a later one.
    """
    lines: list[bytes] = []
    handlers: Sequence[logging.Handler | None] = handlers_of(logger_of(record)) or [logging.lastResort]
    for handler in handlers:
        if isinstance(handler, logging.StreamHandler) and not (certain and handler.filters):
            lines += _lines_of(handler, record)
    return lines


def logger_of(record: logging.LogRecord) -> logging.Logger:
    """Return the logger that has made a record, without the lock of `logging`: who configures it may hold that long."""
    name = logger_name(record)
    found = logging.Logger.manager.loggerDict.get(name)
    return found if isinstance(found, logging.Logger) else logging.getLogger(name)


def handlers_of(logger: logging.Logger) -> list[logging.Handler]:
    """Return the handlers that get a logger's records."""
    found = logger.handlers.copy()
    while logger.propagate and logger.parent is not None:
        logger = logger.parent
        found += logger.handlers
    return found


def _lines_of(handler: logging.StreamHandler[TextIO], record: logging.LogRecord) -> list[bytes]:
    """Return the lines that a handler prints for a record; none where it prints to another place."""
    level = record.levelno or logging.NOTSET  # a record that was made by hand may have none
    if level < handler.level or not _is_console(handler):
        return []
    stream = handler.stream
    try:
        with Showing(record):
            text = handler.format(record)
        encoding = getattr(stream, "encoding", None) or "utf-8"
        return text.encode(encoding, getattr(stream, "errors", None) or "strict").splitlines()
    except Exception:  # noqa: BLE001  # it will not print the record either
        return []


def _is_console(handler: logging.StreamHandler[TextIO]) -> bool:
    try:
        if isinstance(handler.stream, Tee):
            return True
        descriptor = handler.stream.fileno()
    except (AttributeError, OSError, ValueError):
        return False
    return descriptor in _STANDARD or any(_is_same(descriptor, standard) for standard in _STANDARD)


def _is_same(descriptor: int, other: int) -> bool:
    try:
        return os.path.sameopenfile(descriptor, other)
    except OSError:
        return False
