"""The breaker keeps attempts away from a receiver that is down: while it fails, one is made at a time, after pauses."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TypedDict

from alarm_mw.delivery.policy import Delivery
from alarm_mw.delivery.waiting import is_set_within
from alarm_mw.model.errors import ActionError

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
    #: When the next attempt is due, in seconds since the epoch.
    next_at: float


class Breaker:
    """One alarm's. Lives on the event loop."""

    def __init__(self, policy: Delivery) -> None:
        self._policy = policy
        self._turn = asyncio.Lock()
        #: Wakes those who wait for their turn, to see whether they still have to.
        self._news = asyncio.Event()
        #: Ends pauses.
        self._hurry = asyncio.Event()
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

    def worked(self) -> None:
        """Note that the receiver answers."""
        self._failures, self._next, self.failing_since = 0, 0.0, None
        _pulse(self._news)

    def hasten(self) -> None:
        """Have the next attempt made now, whatever the receiver asked for."""
        self._next = 0.0
        _pulse(self._hurry)
        _pulse(self._news)

    def release(self) -> None:
        """Let nobody wait any more."""
        self._is_released = True
        self._hurry.set()
        self._news.set()

    async def rest(self, seconds: float) -> None:
        """Wait so long, or until `hasten` or `release` is called."""
        await is_set_within(self._hurry, seconds)

    async def admit(self) -> None:
        """Return when an attempt may be made: at once, or in the order of the calls, one after each pause."""
        if not self._holds_back():
            return
        async with self._turn:
            while self._holds_back() and (left := self._next - time.monotonic()) > 0.0:
                await is_set_within(self._news, left)
            self._next = time.monotonic() + self._pause()

    def state(self) -> Failing | None:
        """Return how the receiver fails; None while all is well. From any thread."""
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
    """Wake those who wait for it now, and nobody who comes later."""
    if not event.is_set():
        event.set()
        event.clear()
