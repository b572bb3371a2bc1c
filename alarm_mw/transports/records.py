"""Makes records in the application."""

from __future__ import annotations

import itertools
import os
import time as clock
from collections.abc import Mapping

from alarm_mw.transports.wire import MAX_MESSAGE, MAX_NAME
from alarm_mw.types import Record


def to_bytes(text: str) -> bytes:
    """Return text as the bytes that printing it would give, and for what cannot be printed its escapes."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


def to_text(value: object) -> str:
    """Return a value as text that can be sent and stored; what cannot be encoded becomes an escape."""
    text = str(value)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


class RecordMaker:
    """Numbers this process's records."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._prefix = f"{self.pid}-{clock.time_ns():x}"
        self._numbers = itertools.count()

    def make(  # a record's facts  # noqa: PLR0913
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
    ) -> Record:
        """Return a record of this process; a message of more than `MAX_MESSAGE` bytes loses its end."""
        return Record(
            message=message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + b"\n",
            source=source,
            time=clock.time() if time is None else time,
            key=f"{self._prefix}-{next(self._numbers)}",
            pid=self.pid,
            level=level,
            logger=to_text(logger)[:MAX_NAME],
            fields={to_text(key): to_text(value) for key, value in fields.items()} if fields else {},
            echoes=echoes,
            loose_echo=loose_echo,
            context=context,
            held=held,
        )
