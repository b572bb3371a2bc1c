"""A pace: how many may come at once, and how many per second after that (token bucket)."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Admits `burst` at once, and after that `rate` per second. Lives on one event loop."""

    def __init__(self, burst: float, rate: float, now: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._rate = rate
        self._now = now
        self._left = burst
        self._looked = now()

    def take(self) -> float:
        """Take one turn, and return the seconds until it comes; the turns of others that wait come before."""
        now = self._now()
        self._left = min(self._left + (now - self._looked) * self._rate, self._burst) - 1
        self._looked = now
        return max(-self._left / self._rate, 0.0)
