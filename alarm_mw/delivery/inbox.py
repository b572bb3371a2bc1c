"""What waits for one lane: read from the outbox, or, where nothing can lie between, as it was just taken into it."""

from __future__ import annotations

import asyncio

from alarm_mw.delivery.outbox.outbox import Entry, Outbox

#: How many firings are read from the outbox, or kept as they come, at a time.
PAGE = 64


class Inbox:
    """Belongs to one lane. Lives on the event loop."""

    def __init__(self, alarm: str, outbox: Outbox) -> None:
        self._alarm = alarm
        self._outbox = outbox
        #: Up to which number all has been given out.
        self._last = 0
        #: What was offered since.
        self._offered: list[Entry] = []
        #: Whether nothing else waits behind that number, as far as `take` of the outbox is concerned.
        self._is_current = False
        #: How often something had come into the outbox by another way when it was read.
        self._detours = -1
        #: Set when there is something new.
        self.arrival = asyncio.Event()

    def wake(self) -> None:
        """Look into the outbox the next time."""
        self._is_current = False
        self._offered.clear()
        self.arrival.set()

    def offer(self, entries: list[Entry], detours: int) -> None:
        """Give out what was just taken into the outbox, in the order in which it was; see `Taken`."""
        if self._is_current and detours == self._detours and len(self._offered) + len(entries) <= PAGE:
            self._offered += [entry for entry in entries if entry.seq > self._last]
            self.arrival.set()
        else:
            self.wake()

    def look(self) -> list[Entry]:
        """Return the first that waits, and leave it there. Raises `sqlite3.Error`."""
        return [] if self._is_current else self._outbox.waiting(self._alarm, after=self._last, limit=1)

    def take(self, limit: int) -> list[Entry]:
        """Return what waits next, at most `limit`. Raises `sqlite3.Error`."""
        self.arrival.clear()
        if self._is_current:
            page, self._offered = self._offered, []
        else:
            self._detours = self._outbox.detours
            page = self._outbox.waiting(self._alarm, after=self._last, limit=limit)
            self._is_current = len(page) < limit
        if page:
            self._last = page[-1].seq
        return page
