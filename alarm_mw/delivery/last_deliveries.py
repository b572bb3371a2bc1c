"""When each alarm last delivered something, and when a drill last did: one that is never used may have stopped working.

Kept in the outbox, beside the history of firings, in which a busy alarm leaves no room for the last one of a quiet one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple, cast

from alarm_mw.delivery.outbox.outbox import Outbox

_DELIVERED = """
INSERT INTO deliveries (alarm, known, delivered) VALUES (?, ?, ?)
    ON CONFLICT (alarm) DO UPDATE SET delivered = excluded.delivered
"""
_DRILLED = """
INSERT INTO deliveries (alarm, known, drilled) VALUES (?, ?, ?)
    ON CONFLICT (alarm) DO UPDATE SET drilled = excluded.drilled
"""


class LastDelivery(NamedTuple):
    """Of one alarm, in seconds since the epoch; 0 for never."""

    #: Since when it is watched.
    known: float
    #: When something real was delivered, and when a drill was.
    delivered: float
    drilled: float

    @property
    def last(self) -> float:
        """When it was last seen to work; 0 for never."""
        return max(self.delivered, self.drilled)

    def idle(self, now: float) -> float:
        """Return for how many seconds it has not been seen to work, as far as is known."""
        return now - (self.last or self.known)


def read(query: Callable[[str], Iterable[tuple[object, ...]]]) -> dict[str, LastDelivery]:
    """Return what an outbox knows, by alarm; `query` returns its rows."""
    rows = query("SELECT alarm, known, delivered, drilled FROM deliveries")
    return {cast("str", alarm): LastDelivery(*map(float, cast("list[float]", times))) for alarm, *times in rows}


class LastDeliveries:
    """From any thread; each call may block for the time of a disk write.

    As long as `warn_after` is None, nothing is written, and nothing is known.
    """

    def __init__(self, outbox: Outbox, wall: Callable[[], float] = time.time) -> None:
        self._outbox = outbox
        self._wall = wall
        self._warn_after: float | None = None

    def watch(self, alarms: Collection[str], warn_after: float | None) -> None:
        """Watch these alarms from now on, and forget others. Raises `sqlite3.Error`."""
        self._warn_after = warn_after
        self._outbox.on_delivered = self._note if warn_after is not None else None
        if warn_after is not None:
            self._keep(alarms)

    def _keep(self, alarms: Collection[str]) -> None:
        known, now = self.all(), self._wall()
        gone = [(name,) for name in known.keys() - set(alarms)]
        new = [(name, now) for name in alarms if name not in known]
        if gone or new:
            with self._outbox.transaction():
                self._outbox.change_all("DELETE FROM deliveries WHERE alarm = ?", gone)
                self._outbox.change_all("INSERT INTO deliveries (alarm, known) VALUES (?, ?)", new)

    def _note(self, alarms: Iterable[str]) -> None:
        """Note, within the transaction that settles them, that something was delivered."""
        now = self._wall()
        self._outbox.change_all(_DELIVERED, [(alarm, now, now) for alarm in alarms])

    def note_drill(self, alarms: Iterable[str]) -> int:
        """Note that a drill was delivered, and return by how many alarms that are watched. Raises `sqlite3.Error`."""
        known, now = self.all(), self._wall()
        rows = [(alarm, now, now) for alarm in alarms if alarm in known]
        with self._outbox.transaction():
            self._outbox.change_all(_DRILLED, rows)
        return len(rows)

    def all(self) -> Mapping[str, LastDelivery]:
        """Return what is known, by alarm; nothing while nothing is watched. Raises `sqlite3.Error`."""
        return {} if self._warn_after is None else read(self._outbox.query)

    def overdue(self) -> list[str]:
        """Return a sentence for each alarm that was not seen to work for too long. Raises `sqlite3.Error`."""
        if self._warn_after is None:
            return []
        idle = {alarm: each.idle(self._wall()) for alarm, each in sorted(self.all().items())}
        return [
            f"alarm {alarm} has delivered nothing for {_shown(seconds)}, not even a drill: "
            f"`alarm-mw drill --only {alarm}` tries it"
            for alarm, seconds in idle.items()
            if seconds > self._warn_after
        ]


def _shown(seconds: float) -> str:
    """Return a time in the largest unit of which it has at least two."""
    unit, name = next((each for each in _UNITS if seconds >= 2 * each[0]), _UNITS[-1])
    return f"{seconds / unit:.0f} {name}"


_UNITS = ((86_400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))
