"""The pace at which an alarm's backlog is delivered: its rate holds for what earlier processes have fired, too."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable


class Pace:
    """At most `count` firings in any `window` seconds. Times are those of one clock, in seconds."""

    def __init__(self, count: int, window: float, sent: Iterable[float] = ()) -> None:
        """Begin with the times at which firings were sent before, the oldest first."""
        self._window = window
        self._slots = deque(sent, maxlen=count)

    def reserve(self, now: float) -> float:
        """Return when the next firing of a backlog may be sent; that time is taken."""
        is_free = len(self._slots) < (self._slots.maxlen or 0)
        slot = now if is_free else max(now, self._slots[0] + self._window)
        self._slots.append(slot)
        return slot

    def note(self, now: float) -> None:
        """Note that a firing is sent that flood control has let pass."""
        self._slots.append(max(now, self._slots[-1]) if self._slots else now)
