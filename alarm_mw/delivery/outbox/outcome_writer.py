"""Writes outcomes into the outbox: those of nearly the same time share a transaction."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable

from alarm_mw.delivery.outbox.entries import Settlement
from alarm_mw.delivery.outbox.outbox import Outbox

log = logging.getLogger(__name__)

#: Seconds for which outcomes are gathered, and their number. What is not written is delivered again after a kill.
GATHER = 0.002
GATHERED = 8

#: Seconds before the next try where the outbox cannot be written.
PAUSE = 1.0


class OutcomeWriter:
    """Keeps outcomes until the outbox can be written: otherwise firings would be delivered twice.

    `wake(alarm)` is called when a firing has been handed over to an alarm. Lives on the event loop.
    """

    def __init__(self, outbox: Outbox, wake: Callable[[str], None]) -> None:
        self._outbox = outbox
        self._wake = wake
        self._waiting: list[tuple[Settlement, Callable[[], None]]] = []
        self._timer: asyncio.TimerHandle | None = None
        #: Set while nothing waits.
        self._is_done = asyncio.Event()
        self._is_done.set()
        #: Whether the last write has failed.
        self.is_failing = False

    def add(self, settlement: Settlement, then: Callable[[], None]) -> None:
        """Write an outcome soon, and call `then` when it is written."""
        self._waiting.append((settlement, then))
        self._is_done.clear()
        if self._timer is None:
            self._write_later(GATHER)
        elif len(self._waiting) == GATHERED:
            self.write()

    async def done(self) -> None:
        """Return when everything is written."""
        await self._is_done.wait()

    def write(self) -> None:
        """Write what waits now; a failed write is repeated as long as the loop runs."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        try:
            self._outbox.settle(*(settlement for settlement, _ in self._waiting))
        except sqlite3.Error as error:
            log.error("the outbox cannot be written: %s", error)  # a traceback would say no more
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
            if settlement.successor is not None:
                self._wake(settlement.successor.alarm)
