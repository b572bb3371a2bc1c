"""Waits for what nobody tells of, and can only be asked for again and again: never for long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

#: Seconds.
LIMIT = 60.0
PAUSE = 0.02


def wait_until(condition: Callable[[], object], timeout: float = LIMIT) -> None:
    """Return when `condition` holds, which another thread or process has to bring about; raise `TimeoutError`."""
    pause, deadline = threading.Event(), time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        pause.wait(PAUSE)


async def until(condition: Callable[[], object]) -> None:
    """Do the same on an event loop."""
    async with asyncio.timeout(LIMIT):
        while not condition():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(PAUSE)
