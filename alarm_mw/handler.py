"""The `logging` handler: add it to the logging configuration, and the rules see every record."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterable
from typing import TextIO, Unpack

from alarm_mw.app import client, current_master
from alarm_mw.app.capture.console import console_lines, handlers_of, logger_of
from alarm_mw.app.client import Keywords
from alarm_mw.app.current_master import attach
from alarm_mw.app.log_calls import Showing, call_of, is_being_shown, logger_name
from alarm_mw.model.origin import OUR_LOGGER
from alarm_mw.transports.records import as_fields

SOURCE = "logging"


#: What a record has of itself; anything else was given as ``extra``.
_STANDARD = frozenset({*vars(logging.LogRecord("", 0, "", 0, "", None, None)), "message", "asctime", "taskName"})


#: The bare message of a record, and a traceback or a stack below it: what the rules see where nobody asks for more.
PLAIN = logging.Formatter()


class AlarmHandler(logging.Handler):
    """Gives log records to the master.

    Usable from ``dictConfig`` and ``fileConfig`` as ``alarm_mw.AlarmHandler``. The rules see what the handler's
    formatter makes of a record (by default the message, and a traceback below it), as if it had been printed. What was
    given as ``extra`` becomes the record's fields. Level and filters are those of every handler. The keywords beside
    `level` are those of `alarm_mw.init`; what they configure starts with the first record.

    `emit` neither blocks nor raises; it may be called from any thread, in forked children and in signal handlers.
    """

    def __init__(self, level: int | str = logging.NOTSET, **keywords: Unpack[Keywords]) -> None:
        super().__init__(level)
        # `basicConfig` gives its own format to handlers that have none.
        self.setFormatter(PLAIN)
        attach()
        _Unheard.add()
        if any(value is not None for value in keywords.values()):
            client.init_later(**keywords)

    def createLock(self) -> None:  # noqa: N802  # logging's name
        """Have no lock: nothing here needs one, and a forked child or a signal handler could find it held."""
        self.lock = contextlib.nullcontext()  # type: ignore[assignment]  # since 3.13 `handle` enters it

    def acquire(self) -> None:
        """Take no lock."""

    def release(self) -> None:
        """Release no lock."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Apply the rules to the record, unless a filter rejects it."""
        if not self.filters:
            self.emit(record)
            return True
        kept = self.filter(record)
        if kept:  # since 3.12 it may be another record
            self.emit(kept if isinstance(kept, logging.LogRecord) else record)
        return kept

    def emit(self, record: logging.LogRecord) -> None:
        """Apply the rules to the record."""
        try:
            show = _plain if self.formatter is PLAIN else self._format
            name = record.name if isinstance(record.name, str) else logger_name(record)
            screened = client.screened(SOURCE, record.levelno, name, show, record, _names)
            if screened is not None:
                way, message = screened
                way.submit(
                    current_master.this.records.make(
                        message,
                        source=SOURCE,
                        level=record.levelno,
                        logger=name,
                        fields=None if _STANDARD.issuperset(vars(record)) else as_fields(_extra(record)),
                        time=record.created,
                        echoes=tuple(console_lines(record)) if way.prints_are_read() else (),
                        call=call_of(record),
                        event="" if show is _plain else _message(record),
                    )
                )
        except Exception:  # noqa: BLE001  # as every handler of logging: a mistake in a log call must not break the application
            self.handleError(record)

    def _format(self, record: logging.LogRecord) -> str:
        """Return what the formatter makes of a record; one that logs is not asked for what it logs."""
        if is_being_shown():
            return _plain(record)
        with Showing(record):
            return self.format(record)


def _plain(record: logging.LogRecord) -> str:
    """Return what `PLAIN` makes of a record; mostly that is its message."""
    if not (record.exc_info or record.exc_text or record.stack_info):
        return record.getMessage()
    with Showing(record):
        return PLAIN.format(record)


def _message(record: logging.LogRecord) -> str:
    """Return the message that a formatter has left in the record: to make it again could log again."""
    message: object = vars(record).get("message")
    return message if isinstance(message, str) else ""


def _names(record: logging.LogRecord) -> Iterable[str]:
    """Return the names of what was given as ``extra``."""
    return vars(record).keys() - _STANDARD


def _extra(record: logging.LogRecord) -> Iterable[tuple[str, object]]:
    """Return what was given as ``extra``; names that begin with an underscore are their owners' business."""
    return ((name, value) for name, value in vars(record).items() if name not in _STANDARD and name[:1] != "_")


class _Unheard(logging.StreamHandler[TextIO]):
    """Prints the warnings of our own loggers where nobody else shows them: an `AlarmHandler` passes them over.

    `logging` itself prints what has no handler at all.
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self, logging.WARNING)
        self.addFilter(_is_unheard)

    @classmethod
    def add(cls) -> None:
        """Have one."""
        logger = logging.getLogger(OUR_LOGGER)
        if not any(isinstance(handler, cls) for handler in logger.handlers):
            logger.addHandler(cls())

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # as in logging.lastResort
        """Standard error, as it is now."""
        return sys.stderr


_SILENT = (AlarmHandler, _Unheard, logging.NullHandler)


def _is_unheard(record: logging.LogRecord) -> bool:
    return all(isinstance(handler, _SILENT) for handler in handlers_of(logger_of(record)))
