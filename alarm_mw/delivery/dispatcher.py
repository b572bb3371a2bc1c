"""The dispatcher gives every alarm its lane and runs them on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from alarm_mw.delivery.lane import Lane
from alarm_mw.delivery.outbox import Outbox
from alarm_mw.delivery.policy import Delivery
from alarm_mw.interfaces import Action

log = logging.getLogger(__name__)

#: Seconds for the lanes to end, where nothing else is said.
STOP_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Route:
    """How one alarm is delivered."""

    action: Action
    policy: Delivery


class Dispatcher:
    """Lives on the event loop: only `submit` may be called from other threads."""

    def __init__(self, outbox: Outbox, routes: Mapping[str, Route]) -> None:
        self._outbox = outbox
        self._changed = asyncio.Event()
        self._lanes = {
            alarm: Lane(alarm, route.action, route.policy, outbox, self._changed.set) for alarm, route in routes.items()
        }
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Start the lanes; they begin with what waits in the outbox since earlier."""
        self._tasks = {
            alarm: asyncio.create_task(lane.run(), name=f"alarm-mw-lane-{alarm}") for alarm, lane in self._lanes.items()
        }

    def submit(self, alarms: Iterable[str]) -> None:
        """Tell the lanes of these alarms that there is something new in the outbox. From any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed; what is in the outbox waits there
            self._loop.call_soon_threadsafe(self._wake, frozenset(alarms))

    def _wake(self, alarms: Iterable[str]) -> None:
        for alarm in alarms:
            self._lanes[alarm].wake()

    async def drain(self, timeout: float, *, wait_for_retries: bool) -> bool:
        """Wait until nothing waits in the outbox; return whether that was so within `timeout` seconds.

        Without `wait_for_retries` it also ends when all that is left waits for its next attempt.
        """
        deadline = time.monotonic() + timeout
        while waiting := self._waiting():
            if not wait_for_retries and all(self._lanes[alarm].is_stuck() for alarm in waiting):
                return False
            self._changed.clear()
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self._changed.wait()
            except TimeoutError:
                return False
        return True

    def _waiting(self) -> list[str]:
        """Return the alarms with firings that wait; those that are configured no more are nobody's to deliver."""
        try:
            return [alarm for alarm in self._lanes if self._outbox.has_waiting(alarm)]
        except sqlite3.Error as error:
            log.error("the outbox cannot be read: %s", error)
            return list(self._lanes)

    async def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Stop the lanes within about `timeout` seconds; what is not delivered stays in the outbox.

        A lane whose action does not end is left behind, and named in the log.
        """
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=timeout)
        for alarm, task in self._tasks.items():
            if not task.done():
                log.warning("alarm %s: its action did not end within %.1f seconds and is left behind", alarm, timeout)
