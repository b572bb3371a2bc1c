"""What a member knows that alarms were told, whatever becomes of the shared state."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from alarm_mw.fleet.store import Told

#: How many messages are remembered; the oldest are evicted.
MOST = 10_000


@dataclass(slots=True)
class Known:
    """The last message of one alarm about one message key."""

    told: Told
    is_event: bool
    #: The generation of the shared state that has it; 0: none is known to.
    gen: int


#: How many messages of an alarm are remembered for its budget; the oldest are evicted.
MOST_SPENT = 1000


class SpentMemory:
    """When the last messages of each alarm were sent: budgets count all of them, not only the last one of each key."""

    def __init__(self) -> None:
        self._spent: dict[str, OrderedDict[str, int]] = {}

    def note(self, alarm: str, name: str, at: int) -> None:
        """Remember a message of this id, sent at this shared time; the first time counts."""
        known = self._spent.setdefault(alarm, OrderedDict())
        known.setdefault(name, at)
        if len(known) > MOST_SPENT:
            known.popitem(last=False)

    def since(self, alarm: str, at: int) -> tuple[tuple[str, int], ...]:
        """Return ids and times of an alarm's messages after a shared time."""
        return tuple((name, sent) for name, sent in self._spent.get(alarm, {}).items() if sent > at)


class ToldMemory:
    """The last messages by message key and alarm, from answers, events, and what this member has sent itself."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], Known] = OrderedDict()
        self.spent = SpentMemory()
        #: Since when this machine reports an incident to the fleet, in `monotonic`'s seconds.
        self.reported: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._known)

    def note(self, key: str, alarm: str, told: Told, gen: int, *, is_event: bool) -> None:
        """Remember a message that the shared state of this generation has, or 0; an older one changes nothing."""
        place = (key, alarm)
        if not told.is_guess:
            self.spent.note(alarm, told.id, told.at)
        known = self._known.get(place)
        if known is not None and known.told.at > told.at:
            return
        if known is not None and known.told == told:
            known.gen = max(known.gen, gen)
            return
        self._known[place] = Known(told, is_event, gen)
        self._known.move_to_end(place)
        if len(self._known) > MOST:
            self._known.popitem(last=False)

    def get(self, key: str, alarm: str) -> Told | None:
        """Return the last message, if it is known."""
        known = self._known.get((key, alarm))
        return None if known is None else known.told

    def alarms(self, key: str) -> list[str]:
        """Return the alarms that were notified of a message key. Takes as long as the memory is large."""
        return [alarm for name, alarm in self._known if name == key]

    def missing(self, gen: int) -> Iterator[tuple[str, str, Known]]:
        """Yield what the shared state of this generation is not known to have, the latest first."""
        for (key, alarm), known in reversed(list(self._known.items())):
            if known.gen != gen:
                yield key, alarm, known
