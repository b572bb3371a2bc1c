"""The limits that tests wait with, and waiting for what can only be asked for again and again."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

#: Seconds for anything to happen. On an idle machine all of it takes less than a second or two: what reaches the limit
#: is a failure. It is this long for machines that have ten times as much to do as they can.
LIMIT = 90.0

#: Seconds for a whole test suite of a framework, and for what a test has stopped to be gone.
SUITE_LIMIT = 240.0
LEFTOVER_LIMIT = 10.0

#: Seconds that a server which a test has asked to end may take before it is killed.
END_LIMIT = 10.0

#: Seconds between two looks.
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
