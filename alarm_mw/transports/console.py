"""Which lines the application's own logging prints for a record."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from typing import TextIO

from alarm_mw.transports.calls import Showing

#: Standard output and error.
_STANDARD = (1, 2)


def console_lines(record: logging.LogRecord, *, certain: bool = True) -> Iterator[bytes]:
    """Yield the lines that handlers of `logging` print for this record on standard output and error.

    With `certain`, handlers with filters are left out: they are not asked, since they may keep count, and a line that
    is announced and not printed would hold back a later one.
    """
    for handler in _consoles(record):
        if certain and handler.filters:
            continue
        stream = handler.stream
        with contextlib.suppress(Exception):  # it will not print the record either
            with Showing(record):
                text = handler.format(record)
            encoding = getattr(stream, "encoding", None) or "utf-8"
            yield from text.encode(encoding, getattr(stream, "errors", None) or "strict").splitlines()


def logger_of(record: logging.LogRecord) -> logging.Logger:
    """Return the logger that has made a record, without the lock of `logging`: who configures it may hold that long."""
    found = logging.Logger.manager.loggerDict.get(record.name)
    return found if isinstance(found, logging.Logger) else logging.getLogger(record.name)


def handlers_of(logger: logging.Logger) -> list[logging.Handler]:
    """Return the handlers that get a logger's records."""
    found = logger.handlers.copy()
    while logger.propagate and logger.parent is not None:
        logger = logger.parent
        found += logger.handlers
    return found


def _consoles(record: logging.LogRecord) -> Iterator[logging.StreamHandler[TextIO]]:
    """Yield the handlers that show a record on standard output or error."""
    level = record.levelno or logging.NOTSET  # a record that was made by hand may have none
    handlers: Sequence[logging.Handler | None] = handlers_of(logger_of(record)) or [logging.lastResort]
    for handler in handlers:
        if isinstance(handler, logging.StreamHandler) and level >= handler.level and _is_console(handler):
            yield handler


def _is_console(handler: logging.StreamHandler[TextIO]) -> bool:
    try:
        descriptor = handler.stream.fileno()
    except (AttributeError, OSError, ValueError):
        return False
    return descriptor in _STANDARD or any(_is_same(descriptor, standard) for standard in _STANDARD)


def _is_same(descriptor: int, other: int) -> bool:
    try:
        return os.path.sameopenfile(descriptor, other)
    except OSError:
        return False
