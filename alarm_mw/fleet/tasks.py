"""Ends background tasks, and waits for events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

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
