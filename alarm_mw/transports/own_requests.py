"""Which access lines are about requests that alarms made: put to the rules, they would raise the next alarm.

A server prints a line for each request, with its method and its target. Each request that we made of a server on this
machine excuses one such line of each source, for a while.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from alarm_mw.model.types import Record

#: Seconds that a server may take until it prints the line.
WINDOW = 60.0

#: How many requests are remembered.
CAPACITY = 1024


@dataclass(frozen=True, slots=True)
class _Made:
    text: bytes
    time: float
    #: The sources that have seen its line.
    seen: set[str] = field(default_factory=set)


class OwnRequests:
    """Notes requests on the event loop, and excuses lines in the worker thread; a deque needs no lock for that."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._made: deque[_Made] = deque(maxlen=CAPACITY)
        #: What they have in their lines, each once: a record is looked through for these before for all of them.
        self._texts: tuple[bytes, ...] = ()

    def add(self, method: str, resource: str) -> None:
        """Note that a request is made; `resource` is its path with its query."""
        text = f"{method} {resource or '/'} ".encode()
        self._made.append(_Made(text, self._clock()))
        if text not in self._texts:
            self._texts = tuple({made.text for made in self._made})

    def expected(self) -> tuple[bytes, ...]:
        """Return what an access line has, one of which may still be excused, each once."""
        since = self._clock() - WINDOW
        return tuple({made.text for made in tuple(self._made) if made.time >= since})

    def takes(self, record: Record) -> bool:
        """Return whether the record is the access line of a request that was made."""
        if not any(text in record.message for text in self._texts):
            return False
        since = self._clock() - WINDOW
        for made in tuple(self._made):
            if made.time >= since and made.text in record.message and record.source not in made.seen:
                made.seen.add(record.source)
                return True
        return False


#: Those of this process.
own_requests = OwnRequests()
