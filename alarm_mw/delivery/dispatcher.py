"""The dispatcher gives every alarm its lane and runs them on one event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from alarm_mw.delivery.lane import Lane
from alarm_mw.delivery.outbox import Outbox
from alarm_mw.delivery.policy import Delivery
from alarm_mw.interfaces import Action


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
        self._tasks: list[asyncio.Task[None]] = []
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Start the lanes; they begin with what waits in the outbox since earlier."""
        self._tasks = [
            asyncio.create_task(lane.run(), name=f"alarm-mw-lane-{alarm}") for alarm, lane in self._lanes.items()
        ]

    def submit(self, alarms: Iterable[str]) -> None:
        """Tell the lanes of these alarms that there is something new in the outbox. From any thread."""
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
        return [alarm for alarm in self._outbox.count_waiting() if alarm in self._lanes]

    async def stop(self) -> None:
        """Stop the lanes; what is not delivered stays in the outbox."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
