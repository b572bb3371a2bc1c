"""The breaker keeps attempts away from a receiver that is down: while it fails, one is made at a time, after pauses."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TypedDict

from alarm_mw.delivery.policy import Delivery
from alarm_mw.errors import ActionError

#: After so many attempts in vain, with no success between them, whoever made them.
OPEN_AFTER = 5


class Failing(TypedDict):
    """How a receiver fails."""

    #: Seconds since the epoch.
    since: float
    #: Attempts in a row.
    failures: int
    #: What the last one said.
    error: str
    #: Attempts are made one at a time, after pauses.
    is_open: bool


class Breaker:
    """One alarm's. Lives on the event loop."""

    def __init__(self, policy: Delivery) -> None:
        self._policy = policy
        self._turn = asyncio.Lock()
        #: Set while nobody has to wait.
        self._go = asyncio.Event()
        self._go.set()
        self._is_released = False
        self._failures = 0
        #: What the last one in vain said.
        self.error = ""
        #: When the next attempt is due.
        self._next = 0.0
        #: Since when there has been no success, in `time.monotonic`'s seconds; None while all is well.
        self.failing_since: float | None = None

    @property
    def is_open(self) -> bool:
        """Return whether attempts are kept back."""
        return self._failures >= OPEN_AFTER

    def takes_probe(self) -> bool:
        """Return whether it is time to find out how the receiver does; who asks makes the attempt then."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._pause()
        return True

    def failed(self, error: ActionError) -> None:
        """Note an attempt in vain that may be repeated."""
        now = time.monotonic()
        self._failures += 1
        self.error = str(error)
        self._next = max(self._next, now + max(error.after or 0.0, self._pause()))
        if self.failing_since is None:
            self.failing_since = now
        if self.is_open and not self._is_released:
            self._go.clear()

    def worked(self) -> None:
        """Note that the receiver answers."""
        self._failures, self._next, self.failing_since = 0, 0.0, None
        self._go.set()

    def release(self) -> None:
        """Let nobody wait any more."""
        self._is_released = True
        self._go.set()

    async def admit(self) -> None:
        """Return when an attempt may be made: at once, or in the order of the calls, one after each pause."""
        if self._go.is_set():
            return
        async with self._turn:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._next - time.monotonic()):
                    await self._go.wait()
            self._next = time.monotonic() + self._pause()

    def state(self) -> Failing | None:
        """Return how the receiver fails; None while all is well. From any thread."""
        if (failing_since := self.failing_since) is None:
            return None
        since = time.time() - (time.monotonic() - failing_since)
        return Failing(since=since, failures=self._failures, error=self.error, is_open=self.is_open)

    def _pause(self) -> float:
        return self._policy.pause(self._failures, random.random())
