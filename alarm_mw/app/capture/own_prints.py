"""What the application's logging prints for records of alarm code, in a process that reads its own output.

Such a line is not the application's: put to the rules, it could raise the alarm whose delivery it tells of.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from alarm_mw.app.capture.console import console_lines
from alarm_mw.engine.echo import LineCounts
from alarm_mw.model.origin import is_by_alarm
from alarm_mw.system.forks import new_lock

#: All own lines are remembered under one name.
_OURS = ""


class OwnPrints:
    """Learns of each record where it is made: `logging` has no other place that all of them pass."""

    def __init__(self) -> None:
        self._lines = LineCounts()
        #: Any thread logs or prints.
        self._lock = new_lock()
        self._before: Callable[..., logging.LogRecord] = logging.getLogRecordFactory()

    def start(self) -> None:
        """Begin to learn."""
        self._before = logging.getLogRecordFactory()
        logging.setLogRecordFactory(self._make)

    def stop(self) -> None:
        """End; a factory that was set since then stays."""
        if logging.getLogRecordFactory() == self._make:
            logging.setLogRecordFactory(self._before)

    def takes(self, line: bytes) -> bool:
        """Return whether a printed line is one of ours; each record excuses its lines once."""
        with self._lock:
            return self._lines.take(_OURS, line.rstrip(b"\r\n"), time.monotonic())

    def _make(self, *args: object, **kwargs: object) -> logging.LogRecord:
        record = self._before(*args, **kwargs)
        # `makeLogRecord` gives the name afterwards.
        if is_by_alarm(record.name or ""):
            for line in console_lines(record, certain=False):
                with self._lock:
                    self._lines.add(_OURS, line, time.monotonic())
        return record
