"""What waits for one lane, in order: each firing once, and mostly without a look into the outbox."""

from __future__ import annotations

import asyncio

from alarm_mw.delivery.outbox.entries import Entry
from alarm_mw.delivery.outbox.outbox import Outbox

#: How many firings are read from the outbox, or kept as they come, at a time.
PAGE = 64


class Inbox:
    """What waits for one lane: read from the outbox, or, where nothing can be missed, as it was just taken into it.

    Lives on the event loop.
    """

    def __init__(self, alarm: str, outbox: Outbox) -> None:
        self._alarm = alarm
        self._outbox = outbox
        #: The highest number that was given out.
        self._last = 0
        #: What was offered since.
        self._offered: list[Entry] = []
        #: Whether nothing waits in the outbox after that number but what was offered.
        self._is_current = False
        #: The outbox's `bypasses` when it was read.
        self._bypasses = -1
        #: Set when there is something new.
        self.arrival = asyncio.Event()

    def wake(self) -> None:
        """Read from the outbox the next time."""
        self._is_current = False
        self._offered.clear()
        self.arrival.set()

    def offer(self, entries: list[Entry], bypasses: int) -> None:
        """Give out what was just taken into the outbox, in that order; see `Taken`."""
        if self._is_current and bypasses == self._bypasses and len(self._offered) + len(entries) <= PAGE:
            self._offered += [entry for entry in entries if entry.seq > self._last]
            self.arrival.set()
        else:
            self.wake()

    def look(self) -> list[Entry]:
        """Return the first entry that waits, and leave it there. Raises `sqlite3.Error`."""
        return [] if self._is_current else self._outbox.waiting(self._alarm, after=self._last, limit=1)

    def take(self, limit: int) -> list[Entry]:
        """Return the next entries, at most `limit`. Raises `sqlite3.Error`."""
        self.arrival.clear()
        if self._is_current:
            page, self._offered = self._offered, []
        else:
            self._bypasses = self._outbox.bypasses
            page = self._outbox.waiting(self._alarm, after=self._last, limit=limit)
            self._is_current = len(page) < limit
        if page:
            self._last = page[-1].seq
        return page
