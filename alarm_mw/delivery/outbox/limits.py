"""How much may lie in the outbox: the states of firings, and the limits of each."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import msgspec


class State(StrEnum):
    """The state of a firing."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"
    DROPPED = "dropped"
    #: Another alarm delivers it, as a firing of its own.
    HANDED_OVER = "handed_over"


class Amount(msgspec.Struct, frozen=True):
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

#: How many settled firings are kept, the newest: as history, and to find duplicates.
HISTORY = 10_000

#: The limits of a file. Of what is settled, dead letters are kept longest.
ON_DISK: Bounds = {
    State.WAITING: Amount(100_000, 256 * MIB),
    State.DEAD: Amount(2 * HISTORY, 128 * MIB),
    State.DELIVERED: Amount(HISTORY, 64 * MIB),
    State.DROPPED: Amount(HISTORY, 64 * MIB),
    State.HANDED_OVER: Amount(HISTORY, 64 * MIB),
}

#: The limits of an outbox in the application's memory.
IN_MEMORY: Bounds = {
    State.WAITING: Amount(20_000, 64 * MIB),
    State.DEAD: Amount(2 * HISTORY, 16 * MIB),
    State.DELIVERED: Amount(HISTORY, 8 * MIB),
    State.DROPPED: Amount(HISTORY, 8 * MIB),
    State.HANDED_OVER: Amount(HISTORY, 8 * MIB),
}


_Count = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
_Mib = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class OutboxOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[outbox]``: its limits. Missing keys have the defaults of a file or of memory."""

    waiting: Annotated[_Count | None, msgspec.Meta(description="firings that may wait")] = None
    waiting_mib: Annotated[_Mib | None, msgspec.Meta(description="MiB of them")] = None
    dead: Annotated[_Count | None, msgspec.Meta(description="dead letters that are kept")] = None
    dead_mib: Annotated[_Mib | None, msgspec.Meta(description="MiB of them")] = None
    history: Annotated[
        _Count | None,
        msgspec.Meta(description="firings that are kept after they were delivered, handed over or dropped"),
    ] = None
    history_mib: Annotated[_Mib | None, msgspec.Meta(description="MiB of each of these")] = None
    history_days: Annotated[
        Annotated[float, msgspec.Meta(gt=0, le=36500)] | None,
        msgspec.Meta(description="days for which they are kept at most; without it only their number and size count"),
    ] = None

    def bounds(self, defaults: Bounds) -> Bounds:
        """Return the limit of each state, from `defaults` where a key is missing."""
        said = {
            State.WAITING: (self.waiting, self.waiting_mib),
            State.DEAD: (self.dead, self.dead_mib),
            **dict.fromkeys((State.DELIVERED, State.DROPPED, State.HANDED_OVER), (self.history, self.history_mib)),
        }
        return {state: _bound(*said[state], default) for state, default in defaults.items()}


def _bound(count: int | None, mib: int | None, default: Amount) -> Amount:
    return Amount(count or default.count, default.size if mib is None else mib * MIB)


def with_slack(bound: Amount) -> Amount:
    """Return a tenth more: evicting less often saves work."""
    return Amount(bound.count + bound.count // 10, bound.size + bound.size // 10)
