"""How often something is asked for: often while things happen, seldom while nothing does."""

from __future__ import annotations

import math


class Pace:
    """Pure: times are in seconds, of any clock that does not jump."""

    def __init__(self, lively: float, quiet: float, calm: float) -> None:
        """Pause for `lively` seconds, and for `quiet` ones when nothing has happened for `calm` seconds."""
        self._lively, self._quiet, self._calm = lively, quiet, calm
        self._happened = -math.inf

    def note(self, now: float) -> None:
        """Note that something has happened."""
        self._happened = now

    def pause(self, now: float) -> float:
        """Return the seconds until the next question."""
        return self._lively if now < self._happened + self._calm else self._quiet
