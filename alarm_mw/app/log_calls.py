"""Which records are made of one log call: several sources may see it, and an alarm is fired once for it."""

from __future__ import annotations

import logging
import os
import time as clock
from contextvars import ContextVar
from dataclasses import dataclass

from alarm_mw.transports.records import shown

#: Seconds between an event that a processor gave on and the log record that is made of it.
GIVEN_ON_WINDOW = 0.1

#: The call whose record is being formatted for us, by formatters that may hold sources or loggers of their own.
_shown: ContextVar[str] = ContextVar("alarm_mw_shown", default="")


@dataclass(slots=True)
class _GivenOn:
    """An event that structlog is about to make a log record of."""

    call: str
    logger: str
    text: str
    time: float
    #: The log record that it has become; empty until then.
    record: str = ""


_given_on: ContextVar[_GivenOn | None] = ContextVar("alarm_mw_given_on", default=None)


def id_of(record: logging.LogRecord) -> str:
    """Return what a record of `logging` and its copies have in common."""
    # The same number in each process, but for None's, which takes a third of the time of writing all three of them.
    return f"{hash((record.process or 0, record.thread or 0, record.created))}-{record.name}"


def logger_name(record: logging.LogRecord) -> str:
    """Return the name of a record's logger; of one that was made by hand it may be None or no text."""
    name: object = record.name
    return name if isinstance(name, str) else "" if name is None else shown(name)


def call_of(record: logging.LogRecord) -> str:
    """Return the call that a record was made of: that of structlog, where it has come that way."""
    own = id_of(record)
    event = _given_on.get()
    if event is None or event.record not in ("", own) or not _is_of(event, record):
        return own
    event.record = own
    return event.call


def _is_of(event: _GivenOn, record: logging.LogRecord) -> bool:
    in_time = 0 <= record.created - event.time < GIVEN_ON_WINDOW
    return in_time and event.logger == record.name and event.text in str(record.msg)


def give_on(logger: str, text: str) -> str:
    """Say that an event was sent which is about to become a record of this logger; return its call."""
    now = clock.time()
    event = _GivenOn(f"{os.getpid()}-{now!r}-{logger}", logger, text, now)
    _given_on.set(event)
    return event.call


class Showing:
    """Marks in a `with` that a record is formatted for us: what sources see of it meanwhile is no record of its own.

    A formatter leaves its traceback in the record, where the next handler's formatter finds it and makes none of its
    own. Afterwards the record has the traceback that it had before.
    """

    __slots__ = ("_exc_text", "_record", "_token")

    def __init__(self, record: logging.LogRecord) -> None:
        self._record = record

    def __enter__(self) -> None:
        self._exc_text = self._record.exc_text
        self._token = _shown.set(id_of(self._record))

    def __exit__(self, *exc: object) -> None:
        _shown.reset(self._token)
        self._record.exc_text = self._exc_text


def is_being_shown(record: logging.LogRecord | None = None) -> bool:
    """Return whether this record, or any where None is given, is being formatted for us."""
    shown = _shown.get()
    return bool(shown) and (record is None or shown == id_of(record))
