"""What a rule measures over a time: its incidents begin and end by that, instead of by single matches."""

from __future__ import annotations

import fnmatch

import msgspec

#: The source of the records that are heartbeats, and the field of their name, which is the key of their incidents.
HEARTBEAT = "heartbeat"


class Heartbeat(msgspec.Struct, frozen=True, tag=True):
    """Heartbeats that are expected every so many seconds: an incident begins when one is overdue."""

    every: float
    #: Seconds beyond `every` after which it is overdue.
    grace: float
    #: Those that are expected from the start, and patterns with ``*``, ``?`` and ``[…]``, for names that are expected
    #: from their first heartbeats on. Empty: any name.
    names: tuple[str, ...] = ()

    def takes(self, name: str) -> bool:
        """Return whether a heartbeat of this name is among those that are expected."""
        return not self.names or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.names)

    def expected(self) -> tuple[str, ...]:
        """Return the names that are expected from the start."""
        return tuple(name for name in self.names if not any(mark in name for mark in "*?["))


Measure = Heartbeat
