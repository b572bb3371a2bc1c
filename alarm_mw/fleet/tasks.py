"""Ends background tasks, and waits for events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

#: Seconds after which a task that goes on is canceled once more.
_AGAIN = 0.05


async def end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks, and wait for their end. What they have raised is not looked at.

    redis-py loses a cancellation that comes while it connects; so one is not enough.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_AGAIN)


async def is_set(event: asyncio.Event, timeout: float) -> bool:
    """Wait for an event, so many seconds; return whether it is set."""
    if timeout > 0.0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await event.wait()
    return event.is_set()
