"""Runs background tasks and ends them, and waits for events."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from alarm_mw.fleet.store import FleetUnreachableError

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds after which a task that goes on is canceled once more.
_AGAIN = 0.05


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait for their end. What they raise is dropped.

    redis-py loses a cancellation that comes while it connects; so one is not enough.
    """
    given, canceled = list(tasks), None
    while pending := [task for task in given if not task.done()]:
        for task in pending:
            task.cancel()
        try:
            await asyncio.wait(pending, timeout=_AGAIN)
        except asyncio.CancelledError as error:  # the caller is to end as well, but leaves none of them behind
            canceled = error
    for task in given:
        if not task.cancelled():
            task.exception()  # or asyncio logs that nobody has looked
    if canceled is not None:
        raise canceled


class Tasks:
    """What a member runs in the background. Lives on the event loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        """Run something until it ends, the fleet cannot be reached, or `stop`."""
        task = asyncio.create_task(coroutine, name="alarm-mw-fleet-task")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, FleetUnreachableError):
            log.error("fleet: unexpected failure", exc_info=error)

    async def wait(self, timeout: float) -> None:
        """Wait until all have ended, at most so many seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)

    async def stop(self) -> None:
        """End all."""
        await end(self._tasks)


#: In how many parts a time limit passes.
_PARTS = 20


async def within(call: Coroutine[object, object, T], seconds: float) -> T:
    """Return the result of a call. Raise `TimeoutError` after so many seconds in which this loop could have taken it.

    The time counts in parts: a process that was kept from running for a while looks for the result first.
    """
    task = asyncio.create_task(call)
    try:
        for _ in range(_PARTS):
            if (await asyncio.wait({task}, timeout=seconds / _PARTS))[0]:
                return task.result()
        raise TimeoutError
    finally:
        await end([task])


async def is_set(event: asyncio.Event, timeout: float) -> bool:
    """Wait for an event, so many seconds; return whether it is set."""
    if timeout > 0.0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await event.wait()
    return event.is_set()
