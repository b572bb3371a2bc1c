"""Clocks for what is stored: they do not jump when the system's time of day is set."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from alarm_mw.system.boot import boot_id, since_boot

#: Seconds of suspension that are noticed.
LEAST_SUSPENSION = 0.5


class SteadyClock:
    """The time of day as it was when this was made, and what has gone by since, whatever the system's clock does."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        """Return seconds since the epoch."""
        return time.monotonic() + self._offset


class Reading(msgspec.Struct, frozen=True, array_like=True):
    """What a `LastingClock` showed at one moment, and the system's clocks beside it."""

    now: float
    #: Seconds since the machine has started, suspension included; and which start that was.
    since_boot: float
    boot: str
    wall: float
    #: Seconds in which no process was there to show it, all together.
    blind: float = 0.0


class LastingClock:
    """Goes on from a reading of a former process, by the time that has really passed since.

    That is exact within one start of the machine. Beyond that, the time of day counts, which may be set back: then no
    time has passed. A clock without a former reading begins with the time of day.
    """

    def __init__(
        self,
        before: Reading | None = None,
        wall: Callable[[], float] = time.time,
        boot_clock: Callable[[], float] = since_boot,
        boot: str | None = None,
        awake_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        #: The time of day.
        self.wall = wall
        self._boot_clock = boot_clock
        self._awake_clock = awake_clock
        self._suspended = boot_clock() - awake_clock()
        self._boot = boot_id() if boot is None else boot
        at = boot_clock()
        #: Seconds since the former reading.
        self.gap = 0.0
        if before is not None:
            is_same_boot = self._boot != "" and before.boot == self._boot
            self.gap = max(at - before.since_boot if is_same_boot else wall() - before.wall, 0.0)
        #: Seconds in which no process was there, this gap included.
        self.blind = self.gap + (0.0 if before is None else before.blind)
        self._offset = (wall() if before is None else before.now + self.gap) - at

    def __call__(self) -> float:
        """Return seconds since the epoch, as they would be had the time of day never been set."""
        return self._boot_clock() + self._offset

    def advance(self, seconds: float) -> None:
        """Set it forward, as in tests."""
        self._offset += seconds

    def suspension(self) -> float:
        """Return for how many seconds the machine was suspended since the last call: nobody could see anything."""
        gap = self._unnoticed()
        self._suspended += gap
        self.blind += gap
        return gap

    def _unnoticed(self) -> float:
        gap = self._boot_clock() - self._awake_clock() - self._suspended
        return gap if gap >= LEAST_SUSPENSION else 0.0  # the clocks are read one after the other

    def read(self) -> Reading:
        """Return what a later process goes on from."""
        return Reading(self(), self._boot_clock(), self._boot, self.wall(), self.blind + self._unnoticed())
