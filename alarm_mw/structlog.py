"""The structlog processor: put it anywhere in the chain, and the rules see every event."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import TypeVar, cast

from structlog.contextvars import get_contextvars

from alarm_mw.app import client, current_master
from alarm_mw.app.current_master import attach
from alarm_mw.app.log_calls import call_of, give_on, is_being_shown, logger_name
from alarm_mw.transports.client import Client
from alarm_mw.transports.records import as_fields, shown, to_bytes

SOURCE = "structlog"

#: Keys that become facts of the record rather than text of the line.
FACTS = frozenset({"event", "level", "logger", "timestamp", "exc_info", "exception", "msg", "stack"})

#: The level of each method of a logger, where it has one.
_LEVELS = {
    **{name.lower(): level for name, level in logging.getLevelNamesMapping().items() if level},
    "exception": logging.ERROR,
    "msg": logging.INFO,
}

#: The keys whose values stand below the line.
_BELOW = frozenset({"exc_info", "exception", "stack"})

Event = TypeVar("Event")


class AlarmProcessor:
    """Gives events to the master, and gives every event on unchanged.

    Before the renderer the rules see ``event key=value …``; after it, the line as it was rendered. The event's keys and
    structlog's context variables become the record's fields. An event that `AlarmHandler` sees as well, as a record of
    `logging`, fires once. Neither blocks nor raises; may be called from any thread, in forked children and in signal
    handlers.
    """

    def __init__(self) -> None:
        attach()

    def __call__(self, logger: object, method_name: str, event: Event) -> Event:
        """Apply the rules to the event, and return it."""
        try:
            self._submit(logger, method_name, event)
        except Exception:  # nothing of ours may break a log call; what went wrong is logged once per place
            logging.getLogger("alarm_mw.structlog").exception("an event could not be evaluated")
        return event

    def _submit(self, logger: object, method_name: str, given: object) -> None:
        event = given if type(given) is dict else _event(given)  # nearly always it is
        record = _foreign_record(event)
        if record is None:
            name = _logger_name(logger, event)
        elif is_being_shown(record):
            return  # the handler that has it formatted applies the rules
        else:
            name = logger_name(record)
        level = _LEVELS.get(method_name.lower())
        screened = client.screened(SOURCE, level, name, _show, event, _names)
        if screened is not None:
            _send(*screened, event, level=level, logger=name)


def _show(event: Mapping[str, object] | bytes) -> str:
    """Return what the rules see of an event."""
    return event.decode(errors="surrogateescape") if isinstance(event, bytes) else "\n".join(_lines(event))


def _send(way: Client, message: bytes, event: Mapping[str, object] | bytes, *, level: int | None, logger: str) -> None:
    """Send an event to the master, with its fields and what identifies its other appearances."""
    lines: tuple[bytes, ...] = ()
    parts: tuple[bytes, ...] = ()
    if isinstance(event, bytes):
        text, fields = event.decode(errors="surrogateescape"), {}
        lines = tuple(event.splitlines()) if way.prints_are_read() else ()
    else:
        text, fields, parts = _headline(event), dict(_keys(event)), tuple(_parts(event))
    record = _foreign_record(event)
    way.submit(
        current_master.this.records.make(
            message,
            source=SOURCE,
            level=level,
            logger=logger,
            fields=as_fields({**get_contextvars(), **fields}.items()),
            echoes=lines,
            loose_echo=parts,
            call=give_on(logger, text) if record is None else call_of(record),
            event="" if isinstance(event, bytes) else text,
        )
    )


def _names(event: Mapping[str, object] | bytes) -> Iterable[str]:
    """Return the names of an event's fields."""
    return get_contextvars().keys() | (set() if isinstance(event, bytes) else event.keys() - FACTS)


def _event(given: object) -> Mapping[str, object] | bytes:
    """Return the event's keys, or the line that a renderer made of them."""
    match given:
        case bytes():
            return given
        case Mapping():
            return given
        case ((Mapping() as event, *_), _):  # from `ProcessorFormatter.wrap_for_formatter`
            return event
    return to_bytes(shown(given))


def _foreign_record(event: Mapping[str, object] | bytes) -> logging.LogRecord | None:
    """Return the record of `logging` whose formatter calls us, inside of a `ProcessorFormatter`."""
    record = None if isinstance(event, bytes) else event.get("_record")
    return record if isinstance(record, logging.LogRecord) else None


def _logger_name(logger: object, event: Mapping[str, object] | bytes) -> str:
    named = None if isinstance(event, bytes) else event.get("logger")
    return str(named or getattr(logger, "name", None) or "")


def _headline(event: Mapping[str, object]) -> str:
    return shown(event.get("event", event.get("msg", "")))  # `render_to_log_kwargs` renames it


def _lines(event: Mapping[str, object]) -> list[str]:
    """Return the line, and the lines of an exception or a stack below it."""
    try:
        pairs = [f"{key}={value!r}" for key, value in event.items() if key not in FACTS and key[:1] != "_"]
    except Exception:  # noqa: BLE001  # a value that cannot be shown, which is seldom, must not keep the rest from the rules
        pairs = [f"{key}={shown(value, repr)}" for key, value in _keys(event)]
    line = " ".join([_headline(event), *pairs])
    return [line] if _BELOW.isdisjoint(event) else [line, *_below(event)]


def _below(event: Mapping[str, object]) -> Iterator[str]:
    """Yield the lines of an exception or a stack."""
    if exception := event.get("exception"):
        yield from _structured(exception) if isinstance(exception, list) else (shown(exception),)
    if event.get("stack"):
        yield shown(event["stack"])
    if error := _exception(event.get("exc_info")):
        yield "".join(traceback.format_exception(*error)).rstrip("\n")


def _structured(exceptions: Iterable[object]) -> Iterator[str]:
    """Yield what Python would print for the traceback that `dict_tracebacks` made."""
    for exception in exceptions:
        if not isinstance(exception, Mapping):
            yield shown(exception)
            continue
        yield "Traceback (most recent call last):"
        for frame in exception.get("frames", ()):
            yield f'  File "{frame.get("filename")}", line {frame.get("lineno")}, in {frame.get("name")}'
        yield f"{exception.get('exc_type')}: {exception.get('exc_value')}"


def _parts(event: Mapping[str, object]) -> Iterator[bytes]:
    """Yield what every renderer's line for this event holds."""
    yield to_bytes(_headline(event))
    yield from (to_bytes(shown(value)) for _, value in _keys(event) if isinstance(value, (str, int)))


def _keys(event: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    return ((key, value) for key, value in event.items() if key not in FACTS and key[:1] != "_")


ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


def _exception(exc_info: object) -> ExcInfo | None:
    if isinstance(exc_info, BaseException):
        return type(exc_info), exc_info, exc_info.__traceback__
    if isinstance(exc_info, tuple):
        return cast("ExcInfo", exc_info)
    if exc_info:
        return sys.exc_info()
    return None
