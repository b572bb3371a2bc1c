"""A circuit breaker: while a receiver fails, attempts are made one at a time, with pauses between them."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TypedDict

from alarm_mw.delivery.policy import DeliveryPolicy
from alarm_mw.model.errors import ActionError

#: Number of consecutive failed attempts, of any firings, after which it opens.
OPEN_AFTER = 5


class Failing(TypedDict):
    """How a receiver is failing."""

    #: Seconds since the epoch.
    since: float
    #: Failed attempts in a row.
    failures: int
    #: The error of the last attempt.
    error: str
    #: Whether attempts are made one at a time, with pauses.
    is_open: bool
    #: When the next attempt is due, in seconds since the epoch.
    next_at: float


class Breaker:
    """The breaker of one alarm. Lives on the event loop."""

    def __init__(self, policy: DeliveryPolicy) -> None:
        self._policy = policy
        self._turn = asyncio.Lock()
        #: Wakes attempts that wait for their turn, to check whether they still have to.
        self._changed = asyncio.Event()
        #: Ends pauses.
        self._retry_now = asyncio.Event()
        self._is_released = False
        self._failures = 0
        #: The error of the last failed attempt.
        self.error = ""
        #: When the next attempt is due.
        self._next = 0.0
        #: Since when there has been no success, in `time.monotonic`'s seconds; None while it works.
        self.failing_since: float | None = None

    @property
    def is_open(self) -> bool:
        """Return whether attempts are held back."""
        return self._failures >= OPEN_AFTER

    def takes_probe(self) -> bool:
        """Return whether it is time to probe the receiver; if so, the caller makes the attempt."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._pause()
        return True

    def failed(self, error: ActionError) -> None:
        """Note a failed attempt that may be repeated."""
        now = time.monotonic()
        self._failures += 1
        self.error = str(error)
        self._next = max(self._next, now + max(error.after or 0.0, self._pause()))
        if self.failing_since is None:
            self.failing_since = now

    def succeeded(self) -> None:
        """Note that the receiver responds."""
        self._failures, self._next, self.failing_since = 0, 0.0, None
        _pulse(self._changed)

    def retry_now(self) -> None:
        """Make the next attempt now, whatever the receiver asked for."""
        self._next = 0.0
        _pulse(self._retry_now)
        _pulse(self._changed)

    def release(self) -> None:
        """End all waits."""
        self._is_released = True
        self._retry_now.set()
        self._changed.set()

    async def rest(self, seconds: float) -> None:
        """Wait for `seconds`, or until `retry_now` or `release` is called."""
        await is_set_within(self._retry_now, seconds)

    async def admit(self) -> None:
        """Return when an attempt may be made: at once, or in the order of the calls, one after each pause."""
        if not self._holds_back():
            return
        async with self._turn:
            while self._holds_back() and (left := self._next - time.monotonic()) > 0.0:
                await is_set_within(self._changed, left)
            self._next = time.monotonic() + self._pause()

    def state(self) -> Failing | None:
        """Return how the receiver is failing; None while it is not. From any thread."""
        if (failing_since := self.failing_since) is None:
            return None
        clock = time.time() - time.monotonic()
        return Failing(
            since=clock + failing_since,
            failures=self._failures,
            error=self.error,
            is_open=self.is_open,
            next_at=clock + self._next,
        )

    def _holds_back(self) -> bool:
        return self.is_open and not self._is_released

    def _pause(self) -> float:
        return self._policy.pause(self._failures, random.random())


def _pulse(event: asyncio.Event) -> None:
    """Wake what waits for it now, but nothing that waits later."""
    if not event.is_set():
        event.set()
        event.clear()


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event for at most `seconds`, and return whether it was set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
