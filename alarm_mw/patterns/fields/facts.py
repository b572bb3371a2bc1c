"""The facts of a record, from the record itself and from what its line states."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache

from msgspec import structs

from alarm_mw.model.types import FieldNames, Record, Stated
from alarm_mw.patterns.fields.lines import Fields, read_fields, storable, text_of, texts_of

#: How many fields of a line are shown and stored, and how many characters of each.
MOST_FIELDS = 64
LONGEST_FIELD = 1024

#: How many characters of a message, and of a traceback.
LONGEST_EVENT = 10_000
LONGEST_EXCEPTION = 32_768

#: How deep nested objects are shown.
_DEEPEST = 5

#: Seconds between the time that a line states and the time at which it was read.
MOST_AWAY = 86_400.0

#: A larger number is in milliseconds.
_MILLISECONDS = 1e11

#: The names of levels in small letters, of Python's `logging` and of others, as numbers of `logging`.
LEVELS = {
    "trace": 5,
    "verbose": 5,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "information": logging.INFO,
    "informational": logging.INFO,
    "success": 25,
    "notice": 25,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "err": logging.ERROR,
    "error": logging.ERROR,
    "severe": logging.ERROR,
    "crit": logging.CRITICAL,
    "critical": logging.CRITICAL,
    "fatal": logging.CRITICAL,
    "panic": logging.CRITICAL,
    "dpanic": logging.CRITICAL,
    "alert": logging.CRITICAL,
    "emerg": logging.CRITICAL,
    "emergency": logging.CRITICAL,
}


def level_of(name: str) -> int | None:
    """Return the number of a level by its name; None for any other text, numbers included.

    A number is no name of a level: 40 is an error in Python's `logging`, and a warning in other languages.
    """
    return LEVELS.get(name.lower()) if name.isascii() else None


_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
#: Integers of more digits are compared as floats.
_MOST_DIGITS = 40


def number_of(text: str) -> float | None:
    """Return the number that a text is, as in JSON; None for other text."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    return int(text) if found[1] is found[2] is None and len(text) <= _MOST_DIGITS else float(text)


class Facts:
    """What is known of a record. Its own facts come first, then those that its message states."""

    __slots__ = ("_record", "_stated", "names")

    def __init__(self, record: Record, names: FieldNames) -> None:
        self._record = record
        self.names = names
        self._stated: Fields | None = None

    @property
    def _fields(self) -> Fields:
        if self._stated is None:
            self._stated = read_fields(self._record.message) or {}
        return self._stated

    @property
    def level(self) -> int | None:
        """The level's number; None if it is not known."""
        if self._record.level is not None:
            return self._record.level
        levels = (level_of(text) for text in self._first(self.names.level))
        return next((level for level in levels if level is not None), None)

    @property
    def logger(self) -> str:
        """The logger's name; empty if it is not known."""
        return self._record.logger or next(iter(self._first(self.names.logger)), "")

    @property
    def event(self) -> str:
        """What happened: the message in the line, or the line."""
        return next(iter(self._events()), "")

    def texts(self, field: str) -> Sequence[str]:
        """Return the value of a field as text: several for an array, none if there is no such field."""
        own = self._record.fields.get(field)
        if own is not None:
            return (own,)
        return texts_of(self._fields, field) or self._same(field)

    def _same(self, field: str) -> Sequence[str]:
        """Return the value of a fact that has several names."""
        names, record = self.names, self._record
        if field in names.message:
            return self._events()
        if field in names.level:
            own = record.level
            return self._first(names.level) if own is None else (logging.getLevelName(own).lower(), str(own))
        if field in names.logger and (logger := self.logger):
            return (logger,)
        return ()

    def _events(self) -> Sequence[str]:
        if self._fields:
            return self._first(self.names.message)
        stated = self._record.stated
        event = stated.event if stated is not None and stated.event else ""
        return (event or self._record.text.partition("\n")[0],)

    def _first(self, names: Iterable[str]) -> Sequence[str]:
        """Return the value of the first of these fields that the message has."""
        return next((found for name in names if (found := texts_of(self._fields, name))), ())


@lru_cache(maxsize=8)
def facts_of_line(line: bytes, names: FieldNames) -> Facts:
    """Return the facts of a printed line."""
    return Facts(Record(line, "", 0.0, ""), names)


def understood(record: Record, names: FieldNames) -> Record:
    """Return a record with the facts that its message states; any other record as it is."""
    stated = read_fields(record.message)
    if not stated:
        return record
    facts = Facts(record, names)
    exception, exception_name = _exception(stated, names.exception)
    time, time_name = _time(stated, names.time, record.time)
    told = {exception_name, time_name, *(_name(stated, each) for each in (names.message, names.level, names.logger))}
    return structs.replace(
        record,
        level=facts.level,
        logger=storable(facts.logger)[:LONGEST_FIELD],
        time=time,
        fields={**dict(_flat(stated)), **record.fields},
        stated=Stated(
            storable(facts.event)[:LONGEST_EVENT],
            storable(exception)[:LONGEST_EXCEPTION],
            tuple(sorted(storable(name) for name in told if name)),
        ),
    )


def _name(fields: Fields, names: Iterable[str]) -> str:
    """Return the first of the names that has a value; empty if none has."""
    return next((name for name in names if texts_of(fields, name)), "")


def _flat(fields: Fields) -> Iterator[tuple[str, str]]:
    """Yield the fields as text, nested ones by names with dots, as many as are stored."""
    for count, (name, value) in enumerate(_leaves(fields, "", 1)):
        if count == MOST_FIELDS:
            return
        yield storable(name)[:LONGEST_FIELD], storable(text_of(value))[:LONGEST_FIELD]


def _leaves(fields: Fields, prefix: str, depth: int) -> Iterator[tuple[str, object]]:
    """Yield names and values that are no objects; one that lies too deep remains an object."""
    for name, value in fields.items():
        if isinstance(value, dict) and depth < _DEEPEST:
            yield from _leaves(value, f"{prefix}{name}.", depth + 1)
        elif value is not None:
            yield prefix + name, value


def _exception(fields: Fields, names: Iterable[str]) -> tuple[str, str]:
    """Return a traceback, and the name of its field; both empty if there is none."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, list):
            return "\n".join(_traceback(value)), name
        text = next(iter(texts_of(fields, name)), "")
        if "\n" in text or ":" in text:
            return text.strip("\n"), name
    return "", ""


def _traceback(exceptions: Iterable[object]) -> Iterator[str]:
    """Yield the lines of a traceback that structlog's `dict_tracebacks` has written."""
    for exception in exceptions:
        if not isinstance(exception, dict):
            yield text_of(exception)
            continue
        yield "Traceback (most recent call last):"
        frames = exception.get("frames")
        for frame in frames if isinstance(frames, list) else ():
            if isinstance(frame, dict):
                place = [text_of(frame.get(key, "")) for key in ("filename", "lineno", "name")]
                yield '  File "{}", line {}, in {}'.format(*place)
        yield f"{text_of(exception.get('exc_type', ''))}: {text_of(exception.get('exc_value', ''))}"


def _time(fields: Fields, names: Iterable[str], read_at: float) -> tuple[float, str]:
    """Return the time that a line states, and the name of its field; when it was read if there is no plausible one."""
    for name in names:
        for text in texts_of(fields, name)[:1]:
            for read in (_number, _iso):
                time = read(text)
                if abs(time - read_at) <= MOST_AWAY:
                    return time, name
    return read_at, ""


def _number(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        return math.nan
    return seconds / 1000 if seconds > _MILLISECONDS else seconds


def _iso(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return math.nan
