"""Limiters hold firings back, and remember how many until the next one can tell."""

from __future__ import annotations


class SameMessage:
    """uWSGI's ``alarm-freq``: an alarm is not fired again with the same message as its last one within some seconds.

    Exactly as there: only the last message of an alarm is compared, repeats do not prolong the time, 0 turns it off.
    """

    def __init__(self, freq: float) -> None:
        self._freq = freq
        self._last: dict[str, tuple[bytes, float]] = {}

    def holds(self, alarm: str, message: bytes, now: float) -> bool:
        """Return whether this firing is to be held back at `now` (seconds of a clock that never goes back)."""
        last = self._last.get(alarm)
        return last is not None and last[0] == message and now - last[1] < self._freq

    def fired(self, alarm: str, message: bytes, now: float) -> None:
        """Note that the alarm was fired."""
        self._last[alarm] = (message, now)


class HeldBack:
    """Counts what was held back of each alarm since its last firing."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[int, float]] = {}

    def add(self, alarm: str, time: float) -> None:
        """Note one more held back at `time` (seconds since the epoch)."""
        count, since = self._held.get(alarm, (0, time))
        self._held[alarm] = (count + 1, since)

    def take(self, alarm: str) -> tuple[int, float | None]:
        """Return how many were held back, and when the first of them; start again from none."""
        return self._held.pop(alarm, (0, None))
