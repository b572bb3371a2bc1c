"""The structlog processor: put it at any place of the chain, and every event is put to the rules."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TypeVar, cast

from alarm_mw import client
from alarm_mw.transports.origin import is_by_alarm
from alarm_mw.transports.prints import attach
from alarm_mw.transports.records import to_bytes
from alarm_mw.types import Reason

SOURCE = "structlog"

#: Keys that become facts of the record rather than text of the line.
FACTS = frozenset({"event", "level", "logger", "timestamp", "exc_info", "exception", "stack"})

#: structlog's method names which logging knows under another name.
LEVELS = {"exception": "ERROR", "warn": "WARNING", "fatal": "CRITICAL", "msg": "INFO"}

Event = TypeVar("Event")


class AlarmProcessor:
    """Gives events to the master, and gives every event on unchanged.

    Before the renderer the rules see ``event key=value …``; after it, the line as it was rendered. Neither blocks nor
    raises; may be called from any thread, in forked children and in signal handlers.
    """

    def __init__(self) -> None:
        attach()

    def __call__(self, logger: object, method_name: str, event: Event) -> Event:
        """Put the event to the rules and return it."""
        try:
            self._submit(logger, method_name, event)
        except Exception:  # nothing of ours may break a log call; what went wrong is told once per place
            logging.getLogger("alarm_mw.structlog").exception("an event could not be put to the rules")
        return event

    def _submit(self, logger: object, method_name: str, event: object) -> None:
        name = _logger_name(logger, event)
        if is_by_alarm(name):
            client.skip(SOURCE, Reason.ALARM_ORIGIN)
            return
        level = _level(method_name)
        if isinstance(event, Mapping):
            client.submit(
                to_bytes("\n".join(_text(event))) + b"\n",
                source=SOURCE,
                level=level,
                logger=name,
                fields={str(key): shown(value, str) for key, value in event.items() if key not in FACTS},
                loose_echo=tuple(_parts(event)),
            )
        else:
            line = event if isinstance(event, bytes) else to_bytes(shown(event, str))
            client.submit(
                line + b"\n", source=SOURCE, level=level, logger=name, echoes=lambda: tuple(line.splitlines())
            )


def _logger_name(logger: object, event: object) -> str:
    named = event.get("logger") if isinstance(event, Mapping) else None
    return str(named or getattr(logger, "name", None) or "")


def _level(method_name: str) -> int | None:
    level = logging.getLevelNamesMapping().get(LEVELS.get(method_name, method_name.upper()))
    return level or None


def _text(event: Mapping[str, object]) -> Iterator[str]:
    """Yield the line, and the lines of an exception or a stack below it."""
    pairs = (f"{key}={shown(value, repr)}" for key, value in _keys(event))
    yield " ".join([shown(event.get("event", ""), str), *pairs])
    yield from (shown(event[key], str) for key in ("exception", "stack") if event.get(key))
    if error := _exception(event.get("exc_info")):
        yield "".join(traceback.format_exception(*error)).rstrip("\n")


def _parts(event: Mapping[str, object]) -> Iterator[bytes]:
    """Yield what every renderer's line for this event holds."""
    yield to_bytes(shown(event.get("event", ""), str))
    yield from (to_bytes(shown(value, str)) for _, value in _keys(event) if isinstance(value, (str, int)))


def _keys(event: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    return ((key, value) for key, value in event.items() if key not in FACTS and not key.startswith("_"))


def shown(value: object, form: Callable[[object], str]) -> str:
    """Return `str` or `repr` of a value; where that raises, what kind of value it is."""
    try:
        return form(value)
    except Exception:  # noqa: BLE001  # a value that cannot be shown must not keep the event from the rules
        return f"<{type(value).__name__}>"


ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


def _exception(exc_info: object) -> ExcInfo | None:
    if isinstance(exc_info, BaseException):
        return type(exc_info), exc_info, exc_info.__traceback__
    if isinstance(exc_info, tuple):
        return cast("ExcInfo", exc_info)
    if exc_info:
        return sys.exc_info()
    return None
