"""How much lies in the outbox, and how much may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a firing is on its way."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"
    DROPPED = "dropped"
    #: Another alarm delivers it, as a firing of its own.
    HANDED_OVER = "handed_over"


@dataclass(frozen=True, slots=True)
class Amount:
    """A number of firings, and the bytes that they take."""

    count: int = 0
    size: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.count + other.count, self.size + other.size)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.count - other.count, self.size - other.size)

    def fits(self, bound: Amount) -> bool:
        """Return whether it is neither more nor larger than `bound`."""
        return self.count <= bound.count and self.size <= bound.size


#: The amount in each state, or the bound of each.
Stock = dict[State, Amount]
Bounds = Mapping[State, Amount]

MIB = 2**20

#: How many firings that are done are kept, the newest of them: a history, and the memory that finds duplicates.
HISTORY = 10_000

#: A file may hold this much. Of what is done, dead letters are kept longest: somebody may want to know.
ON_DISK: Bounds = {
    State.WAITING: Amount(100_000, 256 * MIB),
    State.DEAD: Amount(2 * HISTORY, 128 * MIB),
    State.DELIVERED: Amount(HISTORY, 64 * MIB),
    State.DROPPED: Amount(HISTORY, 64 * MIB),
    State.HANDED_OVER: Amount(HISTORY, 64 * MIB),
}

#: The memory of the application's process may hold this much.
IN_MEMORY: Bounds = {
    State.WAITING: Amount(20_000, 64 * MIB),
    State.DEAD: Amount(2 * HISTORY, 16 * MIB),
    State.DELIVERED: Amount(HISTORY, 8 * MIB),
    State.DROPPED: Amount(HISTORY, 8 * MIB),
    State.HANDED_OVER: Amount(HISTORY, 8 * MIB),
}


def with_slack(bound: Amount) -> Amount:
    """Return a tenth more: so much may gather before it is cut back, which is work."""
    return Amount(bound.count + bound.count // 10, bound.size + bound.size // 10)
