"""The alarms that the program fires itself, `own_alarms`: people are notified of what is wrong with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from alarm_mw.master.worker.batch import Batch, Item
from alarm_mw.transports.records import RecordMaker, to_bytes

#: The source of these records, which no record of an application has.
SOURCE = "alarm_mw"

#: Minimum seconds between two alarms with the same key.
EVERY = 3600.0

#: Maximum number of keys; the oldest is forgotten.
MAX_KEYS = 100


class OwnAlarms:
    """Fires without the rules, so that none of our texts raises another one. Safe to use from any thread; never blocks.

    `names` are the alarms, none for an installation that reads the log; they may be replaced at any time.
    """

    def __init__(
        self, submit: Callable[[Batch], None], names: tuple[str, ...], now: Callable[[], float] = time.monotonic
    ) -> None:
        self.names = names
        self._submit = submit
        self._now = now
        self._records = RecordMaker()
        self._fired: dict[str, float] = {}
        self._lock = threading.Lock()

    def fire(self, text: str, key: str) -> bool:
        """Fire ``alarm_mw: TEXT``, at most once in `EVERY` seconds for each `key`; return whether it was fired.

        `text` is a sentence for people, without the program's name and without secrets. The caller
        has logged the same.
        """
        if not self.names or not self._is_due(key):
            return False
        record = self._records.make(b"alarm_mw: %s\n" % to_bytes(text), source=SOURCE)
        self._submit(Batch([Item(record, alarm) for alarm in self.names]))
        return True

    def _is_due(self, key: str) -> bool:
        now = self._now()
        with self._lock:
            if now - self._fired.get(key, -EVERY) < EVERY:
                return False
            self._fired.pop(key, None)
            if len(self._fired) >= MAX_KEYS:
                del self._fired[next(iter(self._fired))]
            self._fired[key] = now
            return True
