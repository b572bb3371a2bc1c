"""Notices a master that lives and does not answer: somebody has stopped it, or an extension keeps the GIL."""

from __future__ import annotations

import math
from collections.abc import Mapping

VARIABLE = "ALARM_MW_WATCHDOG"

#: Seconds that a master may leave a question unanswered, unless the environment says otherwise.
PATIENCE = 10.0
#: The same, until it has said that it works: thousands of rules take their time.
PATIENCE_AT_START = 120.0

#: How many looks in a row must find no answer.
LOOKS = 2


class Watchdog:
    """Counts looks at which nothing had been heard since the one before. Times are of ``time.monotonic()``.

    Only looks that were taken in time count: when this process was stopped or starved itself, so may have been the
    master, and counting begins anew. That clock stands still while the machine is suspended.
    """

    def __init__(self, patience: float, now: float) -> None:
        self._pause = patience / LOOKS if patience > 0 else math.inf
        #: When to look next; never for a patience of 0.
        self.due = now + self._pause
        self._misses = 0

    def heard(self) -> None:
        """Note that the master has said something."""
        self._misses = 0

    def look(self, now: float) -> bool:
        """Return whether the master is to be given up. If not, it has to be asked once more."""
        is_late = now > self.due + self._pause
        self._misses = 0 if is_late else self._misses + 1
        self.due = now + self._pause
        return self._misses > LOOKS


def patience_of(environ: Mapping[str, str]) -> float:
    """Return the seconds that the environment asks for; 0 for no watch."""
    try:
        patience = float(environ.get(VARIABLE, ""))
    except ValueError:
        return PATIENCE
    return patience if 0 <= patience < math.inf else PATIENCE
