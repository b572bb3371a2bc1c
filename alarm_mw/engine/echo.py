"""No echo: a record that is seen through the handler and through the output pipe fires once.

A record that a handler or processor sent names the lines which it will also print. Whichever of the two comes first
fires; the other one is an echo. Each announced line excuses one printed line, for a few seconds.
"""

from __future__ import annotations

import json
from collections import OrderedDict, deque

from alarm_mw.types import Record

#: Seconds between the two appearances of a record: a console handler flushes at once, a pipe is read within moments.
WINDOW = 5.0

#: How many lines are remembered, for each of the two orders.
CAPACITY = 50_000

#: How many announcements without a known form are remembered; each is searched for in every line that fires.
LOOSE_CAPACITY = 256

#: How many bytes an announcement without a known form must have: a short text is in many lines, and an alarm that
#: comes twice is better than one that does not come.
LOOSE_LENGTH = 8

#: The sources that see what was printed.
PRINTED = frozenset({"stdout", "stderr"})


class Memory:
    """Counts lines that concern an alarm, for a limited time, in limited space: by their hashes."""

    def __init__(self) -> None:
        self._seen: OrderedDict[int, tuple[int, float]] = OrderedDict()

    def add(self, alarm: str, line: bytes, now: float) -> None:
        """Count a line."""
        key = hash((alarm, line))
        self._seen[key] = (self._fresh(key, now) + 1, now)
        if len(self._seen) > CAPACITY:
            self._seen.popitem(last=False)

    def take(self, alarm: str, line: bytes, now: float) -> bool:
        """Return whether the line was counted within `WINDOW` seconds, and count it off."""
        key = hash((alarm, line))
        since = self._seen[key][1] if key in self._seen else now
        count = self._fresh(key, now)
        if count > 1:
            self._seen[key] = (count - 1, since)
        return count > 0

    def _fresh(self, key: int, now: float) -> int:
        """Take a count out; what was counted too long ago is none."""
        count, since = self._seen.pop(key, (0, now))
        return count if now - since < WINDOW else 0


class EchoGuard:
    """Tells, for an alarm about to fire, whether it has fired for the same record already."""

    def __init__(self) -> None:
        self._announced = Memory()
        self._printed = Memory()
        self._loose: deque[tuple[str, tuple[bytes, ...], float]] = deque(maxlen=LOOSE_CAPACITY)
        self._recent: deque[tuple[str, bytes, float]] = deque(maxlen=LOOSE_CAPACITY)

    def is_echo(self, alarm: str, record: Record, now: float) -> bool:
        """Note that `alarm` matched `record`; return True when this is its second appearance."""
        if record.source in PRINTED:
            return self._is_announced(alarm, record.message.rstrip(b"\r\n"), now)
        if sum(map(len, record.loose_echo)) >= LOOSE_LENGTH:
            return self._was_loosely_printed(alarm, record.loose_echo, now)
        return self._was_printed(alarm, record.echoes, now)

    def _is_announced(self, alarm: str, line: bytes, now: float) -> bool:
        if self._announced.take(alarm, line, now):
            return True
        for entry in self._loose:
            if entry[0] == alarm and now - entry[2] < WINDOW and _holds(line, entry[1]):
                self._loose.remove(entry)
                return True
        self._printed.add(alarm, line, now)
        self._recent.append((alarm, line, now))
        return False

    def _was_printed(self, alarm: str, lines: tuple[bytes, ...], now: float) -> bool:
        printed = [line for line in lines if self._printed.take(alarm, line, now)]
        for line in lines:
            if line not in printed:
                self._announced.add(alarm, line, now)
        return bool(printed)

    def _was_loosely_printed(self, alarm: str, parts: tuple[bytes, ...], now: float) -> bool:
        for entry in self._recent:
            if entry[0] == alarm and now - entry[2] < WINDOW and _holds(entry[1], parts):
                self._recent.remove(entry)
                return True
        self._loose.append((alarm, parts, now))
        return False


def _holds(line: bytes, parts: tuple[bytes, ...]) -> bool:
    """Return whether all parts are in the line, as they are or as JSON writes them."""
    return all(part in line or _json(part) in line for part in parts)


def _json(part: bytes) -> bytes:
    return json.dumps(part.decode("utf-8", "surrogateescape"))[1:-1].encode()
