"""Makes records in the application."""

from __future__ import annotations

import itertools
import logging
import os
import time as clock
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping

from alarm_mw.model.types import Record, Stated
from alarm_mw.transports.wire import MAX_ECHOES, MAX_FACTS, MAX_MESSAGE, MAX_NAME, MAX_PARTS

#: How many fields of a record are sent, and how many characters of each; the rest is left out.
MAX_FIELDS = 64
MAX_FIELD = 1024

#: How many characters of a log call are remembered for the records behind it.
MAX_RECENT = 500

#: How deep dictionaries in fields are taken apart.
MAX_DEPTH = 5


def to_bytes(text: str) -> bytes:
    """Return text as the bytes that printing it would give, and for what cannot be printed its escapes."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        pass  # half as fast
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


def to_text(value: object) -> str:
    """Return a value as text that can be sent and stored; what cannot be encoded becomes an escape."""
    text = str(value)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def shown(value: object, form: Callable[[object], str] = str) -> str:
    """Return `str` or `repr` of a value; where that raises, what kind of value it is."""
    try:
        return form(value)
    except Exception:  # noqa: BLE001  # a value that cannot be shown must not keep the record from the rules
        return f"<{type(value).__name__}>"


def as_fields(facts: Iterable[tuple[object, object]]) -> dict[str, str]:
    """Return facts of any kind as text: the first `MAX_FIELDS`, each cut to `MAX_FIELD` characters.

    A dictionary becomes a field for each of its values: ``user.plan``.
    """
    some = itertools.islice(_leaves(facts, "", 1), MAX_FIELDS)
    return {name[:MAX_FIELD]: shown(value)[:MAX_FIELD] for name, value in some}


def _leaves(facts: Iterable[tuple[object, object]], prefix: str, depth: int) -> Iterator[tuple[str, object]]:
    for name, value in facts:
        if type(value) is dict and value and depth < MAX_DEPTH:
            yield from _leaves(value.items(), f"{prefix}{shown(name)}.", depth + 1)
        else:
            yield prefix + shown(name), value


def _remembered(text: str, level: int | None) -> bytes:
    """Return a log call as one line with its time and level."""
    name = "" if level is None else f"{logging.getLevelName(level):<8} "
    return to_bytes(f"{clock.strftime('%H:%M:%S')} {name}{text.partition(chr(10))[0][:MAX_RECENT]}\n")


class RecordMaker:
    """Numbers this process's records."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._prefix = f"{self.pid}-{clock.time_ns():x}"
        self._numbers = itertools.count()
        #: The last log calls of this process; None as long as no rule has wanted them.
        self._recent: deque[bytes] | None = None

    def remember(self, most: int, text: str, level: int | None) -> None:
        """Note a log call, for the `most` lines before a record."""
        if self._recent is None or self._recent.maxlen != most:
            self._recent = deque(self._recent or (), most)
        self._recent.append(_remembered(text, level))

    def make(
        self,
        message: bytes,
        *,
        source: str,
        level: int | None = None,
        logger: str = "",
        fields: Mapping[str, str] | None = None,
        time: float | None = None,
        echoes: tuple[bytes, ...] = (),
        loose_echo: tuple[bytes, ...] = (),
        context: bytes = b"",
        held: tuple[str, ...] = (),
        call: str = "",
        event: str = "",
    ) -> Record:
        """Return a record of this process; a message of more than `MAX_MESSAGE` bytes loses its end.

        It has the log calls before it, if they are remembered. `event` says what happened if the message says more.
        """
        recent, before = self._recent, b""
        if recent is not None:
            before = b"".join(recent)
            recent.append(_remembered(message.decode("utf-8", "replace"), level))
        return Record(
            before=before,
            message=message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + b"\n",
            source=source,
            time=clock.time() if time is None else time,
            key=f"{self._prefix}-{next(self._numbers)}",
            pid=self.pid,
            level=level,
            logger=to_text(logger)[:MAX_NAME],
            fields={to_text(key): to_text(value) for key, value in fields.items()} if fields else {},
            echoes=echoes[:MAX_ECHOES],
            loose_echo=loose_echo if len(loose_echo) <= MAX_PARTS else (),
            context=context,
            held=held[:MAX_FACTS],
            call=to_text(call)[:MAX_NAME],
            stated=Stated(to_text(event)[:MAX_FIELD]) if event else None,
        )
