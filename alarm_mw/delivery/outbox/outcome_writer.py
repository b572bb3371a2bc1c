"""Outcomes on their way into the outbox: those that come about at nearly the same time share a transaction."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable

from alarm_mw.delivery.outbox.outbox import Outbox, Settlement

log = logging.getLogger(__name__)

#: Seconds for which outcomes are gathered, and how many. What is not written down comes again after a kill.
GATHER = 0.002
GATHERED = 8

#: Seconds before it is tried again, where the outbox cannot be written.
PAUSE = 1.0


class Settler:
    """Writes down what became of firings, however long the outbox cannot: else they would be delivered twice.

    Lives on the event loop.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._waiting: list[tuple[Settlement, Callable[[], None]]] = []
        self._timer: asyncio.TimerHandle | None = None
        #: Set while nothing waits.
        self._is_done = asyncio.Event()
        self._is_done.set()
        #: Whether the outbox could not be written the last time.
        self.is_failing = False

    def add(self, settlement: Settlement, then: Callable[[], None]) -> None:
        """Write it down soon, and call `then` when it is written."""
        self._waiting.append((settlement, then))
        self._is_done.clear()
        if self._timer is None:
            self._write_later(GATHER)
        elif len(self._waiting) == GATHERED:
            self.write()

    async def done(self) -> None:
        """Return when all is written."""
        await self._is_done.wait()

    def write(self) -> None:
        """Write down what waits now; where that is impossible, it is tried again for as long as the loop runs."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        try:
            self._outbox.settle(*(settlement for settlement, _ in self._waiting))
        except sqlite3.Error as error:
            log.error("the outbox cannot be written: %s", error)  # no news in a traceback
            self.is_failing = True
            self._write_later(PAUSE)
        else:
            self._written()

    def _write_later(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self.write)

    def _written(self) -> None:
        written, self._waiting = self._waiting, []
        self.is_failing = False
        self._is_done.set()
        for settlement, then in written:
            if self._outbox.under_way is not None:
                self._outbox.under_way.end(entry.seq for entry in settlement.entries)
            then()
