"""A clock for what is written down: it tells the time of day, and does not jump while the process lives."""

from __future__ import annotations

import time


class SteadyClock:
    """The time of day as it was when this was made, and what has gone by since, whatever the system's clock does."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        """Return seconds since the epoch."""
        return time.monotonic() + self._offset
