"""The lanes of a master: those of the alarms in force, and of former ones for as long as they have something left."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Iterable, Mapping

from alarm_mw.config.settings import Alarm
from alarm_mw.delivery.breaker import Failing
from alarm_mw.delivery.dispatcher import Dispatcher, Route
from alarm_mw.delivery.outbox.outbox import Outbox, Taken

#: Seconds between looks at whether the last firing of an alarm that is configured no more was delivered.
RETIRE_EVERY = 1.0

#: Seconds beyond which an attempt takes long.
LONG = 30.0

#: An alarm and how it is delivered, by its name.
Routed = Mapping[str, tuple[Alarm, Route]]


class Lanes:
    """Lives on the event loop, between `start` and `stop`.

    Only `wake`, `offer`, `hasten` and `failing` may be called from other threads.
    """

    def __init__(self, outbox: Outbox, current: Routed, retired: Routed) -> None:
        self._outbox = outbox
        self._current = current
        self._retired = dict(retired)
        #: Those of them that nobody fires any more.
        self._settled = frozenset(retired)
        self._retiring: asyncio.Task[None] | None = None
        self._dispatcher: Dispatcher | None = None

    async def start(self) -> None:
        """Deliver what waits in the outbox since earlier, and what comes."""
        self._dispatcher = Dispatcher(self._outbox, self._routes())
        self._dispatcher.start()
        self._retire_later()

    async def exchange(self, fresh: Routed) -> None:
        """Deliver these from now on; those that are not among them deliver what they have, until `settle` and then."""
        known = {**self._retired, **self._current}
        self._retired = {name: entry for name, entry in known.items() if name not in fresh}
        self._current = fresh
        self._settled -= fresh.keys()
        await self._exchange()

    async def settle(self) -> None:
        """Let lanes end whose alarms nobody fires any more, each when nothing waits for it."""
        self._settled = frozenset(self._retired)
        self._retire_later()

    @property
    def retired(self) -> tuple[Alarm, ...]:
        """The alarms that are configured no more, and still deliver what was fired before."""
        return tuple(alarm for alarm, _ in self._retired.values())

    def names(self) -> set[str]:
        """Return the names of all alarms that have a lane."""
        return {*self._retired, *self._current}

    def failing(self) -> dict[str, Failing]:
        """Return how receivers fail, by alarm, those that do."""
        return self._dispatcher.failing() if self._dispatcher is not None else {}

    def long_since(self) -> dict[str, float]:
        """Return since when attempts go on that take long, in seconds since the epoch, by alarm."""
        return self._dispatcher.long_since(LONG) if self._dispatcher is not None else {}

    def wake(self, alarms: Iterable[str]) -> None:
        """Tell the lanes of these alarms that there is something new in the outbox."""
        if self._dispatcher is not None:
            self._dispatcher.submit(alarms)

    def hasten(self, alarms: Iterable[str]) -> None:
        """Have the next attempt at what waits for these alarms made now."""
        if self._dispatcher is not None:
            self._dispatcher.hasten(alarms)

    def offer(self, taken: Taken) -> None:
        """Give the lanes what was just taken into the outbox."""
        if self._dispatcher is not None:
            self._dispatcher.offer(taken)

    async def drain(self, deadline: float, *, wait_for_retries: bool) -> bool:
        """Return whether everything was delivered by `deadline` (`time.monotonic`); see `Dispatcher.drain`."""
        if self._dispatcher is None:
            return False
        left = max(deadline - time.monotonic(), 0.0)
        return await self._dispatcher.drain(left, wait_for_retries=wait_for_retries)

    async def stop(self, timeout: float) -> None:
        """Stop within about `timeout` seconds; what is not delivered stays in the outbox."""
        if self._retiring is not None:
            self._retiring.cancel()
        if self._dispatcher is not None:
            await self._dispatcher.stop(timeout)

    def _routes(self) -> dict[str, Route]:
        return {name: route for name, (_, route) in {**self._retired, **self._current}.items()}

    async def _exchange(self) -> None:
        assert self._dispatcher is not None
        await self._dispatcher.exchange(self._routes())

    def _retire_later(self) -> None:
        if self._retired and (self._retiring is None or self._retiring.done()):
            self._retiring = asyncio.create_task(self._retire(), name="alarm-mw-retire")

    async def _retire(self) -> None:
        while self._retired:
            await asyncio.sleep(RETIRE_EVERY)
            with contextlib.suppress(sqlite3.Error):  # which the lanes report
                done = self._settled - self._outbox.count_waiting().keys()
                self._retired = {name: entry for name, entry in self._retired.items() if name not in done}
                await self._exchange()
