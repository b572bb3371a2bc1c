"""Echo detection: a record that is seen by the handler and in the output, or by two sources, fires once.

A record from a handler or processor announces the lines that will also be printed for it. Whichever is seen first
fires; the other one is an echo. Each announced line suppresses one printed line, for a few seconds. If several sources
make records of one log call, the first record fires.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import TypeVar

import msgspec
from msgspec import structs

from alarm_mw.model.types import Record

#: Maximum seconds between the two appearances of a record. Console handlers flush at once, and pipes are read quickly.
WINDOW = 5.0

#: How many lines are remembered, for each of the two orders of arrival.
CAPACITY = 50_000

#: How many announcements without a known form are remembered. Each is searched for in every line that fires.
LOOSE_CAPACITY = 256

#: How many log calls are remembered.
CALLS_CAPACITY = 4096

#: Minimum bytes of an announcement without a known form. A short text occurs in many lines, and a duplicate alarm is
#: better than a missing one.
LOOSE_LENGTH = 8

#: The sources that see printed lines.
PRINTED = frozenset({"stdout", "stderr"})


#: How often a line was counted, and when it was last counted.
_Seen = dict[bytes, tuple[int, float]]
#: An alarm, a line or the parts of one, and when it was seen.
_Loose = tuple[str, tuple[bytes, ...], float]
_Line = tuple[str, bytes, float]
_Entry = TypeVar("_Entry", _Loose, _Line)
#: An alarm, a log call, the first record of it that concerned the alarm, and when that was.
_Call = tuple[str, str, str, float]


class SavedEchoes(msgspec.Struct, array_like=True, frozen=True):
    """What an `EchoGuard` remembers."""

    announced: _Seen = {}
    printed: _Seen = {}
    loose: tuple[_Loose, ...] = ()
    recent: tuple[_Line, ...] = ()
    calls: tuple[_Call, ...] = ()


class LineCounts:
    """Counts lines that concern an alarm, for a limited time, in limited space: by their digests."""

    def __init__(self, seen: _Seen | None = None) -> None:
        self._seen = OrderedDict(seen or {})
        #: When a line was counted last.
        self.newest = max((time for _, time in self._seen.values()), default=-math.inf)

    def add(self, alarm: str, line: bytes, now: float, n: int = 1) -> None:
        """Count a line `n` times."""
        key = _digest(alarm, line)
        self._seen[key] = (self._fresh(key, now) + n, now)
        self.newest = now
        while len(self._seen) > CAPACITY or now - next(iter(self._seen.values()))[1] >= WINDOW:
            self._seen.popitem(last=False)

    def take(self, alarm: str, line: bytes, now: float) -> bool:
        """Return whether the line was counted within `WINDOW` seconds, and subtract one."""
        if now - self.newest >= WINDOW:
            return False
        key = _digest(alarm, line)
        since = self._seen[key][1] if key in self._seen else now
        count = self._fresh(key, now)
        if count > 1:
            self._seen[key] = (count - 1, since)
        return count > 0

    def _fresh(self, key: bytes, now: float) -> int:
        """Remove and return a count; an expired count is 0."""
        count, since = self._seen.pop(key, (0, now))
        return count if now - since < WINDOW else 0

    def dump(self) -> _Seen:
        """Return what `__init__` takes; it changes with the next line."""
        return self._seen


def _digest(alarm: str, line: bytes) -> bytes:
    # The same in every process, and collision-resistant.
    return hashlib.blake2b(b"%b\0%b" % (alarm.encode("utf-8", "surrogatepass"), line), digest_size=12).digest()


class Calls:
    """Remembers which record of a log call concerned an alarm first, for a limited time, in limited space."""

    def __init__(self, calls: Sequence[_Call] = ()) -> None:
        self._first = OrderedDict((seen[:2], seen) for seen in calls)

    def is_known(self, alarm: str, record: Record, now: float) -> bool:
        """Return whether another record of the same call concerned the alarm within `WINDOW` seconds."""
        while self._first and now - next(iter(self._first.values()))[3] >= WINDOW:
            self._first.popitem(last=False)
        _, _, key, since = self._first.setdefault((alarm, record.call), (alarm, record.call, record.key, now))
        if len(self._first) > CALLS_CAPACITY:
            self._first.popitem(last=False)
        return key != record.key and now - since < WINDOW

    def dump(self) -> tuple[_Call, ...]:
        """Return what `__init__` takes."""
        return tuple(self._first.values())


def borne_out(record: Record) -> Record:
    """Return the record with only those announcements that its own message confirms.

    An announced line must contain the first line of the message or be part of the message; the same holds for every
    part of a loose announcement. An untrusted process can then suppress a printed line only with an alarm that says the
    same.
    """
    message = record.message
    first = next((line.strip() for line in message.splitlines() if line.strip()), b"")
    shown = (first, _json(first))
    lines = [line for line in record.echoes if line.strip() and first]
    echoes = [line for line in lines if line.strip() in message or any(one in line for one in shown)]
    parts = record.loose_echo if all(part in message for part in record.loose_echo) else ()
    return structs.replace(record, echoes=tuple(echoes), loose_echo=parts)


class EchoGuard:
    """Detects whether an alarm that is about to fire has already fired for the same record."""

    def __init__(self, saved: SavedEchoes | None = None) -> None:
        saved = saved or SavedEchoes()
        self._calls = Calls(saved.calls)
        self._announced = LineCounts(saved.announced)
        self._printed = LineCounts(saved.printed)
        self._loose: deque[_Loose] = deque(saved.loose, maxlen=LOOSE_CAPACITY)
        self._recent: deque[_Line] = deque(saved.recent, maxlen=LOOSE_CAPACITY)

    def dump(self) -> SavedEchoes:
        """Return the state for `__init__`. Encode it at once: it is not a copy."""
        return SavedEchoes(
            self._announced.dump(), self._printed.dump(), tuple(self._loose), tuple(self._recent), self._calls.dump()
        )

    def expects_prints(self, now: float) -> bool:
        """Return whether a printed line can be an echo at present."""
        newest = max(self._announced.newest, self._loose[-1][2] if self._loose else -math.inf)
        return now - newest < WINDOW

    def note_printed(self, alarm: str, line: bytes, now: float, n: int) -> None:
        """Record that `alarm` matched a printed line `n` times, none of them an echo."""
        line = _telling_line(line)
        self._printed.add(alarm, line, now, n)
        _append(self._recent, (alarm, line, now))

    def is_echo(self, alarm: str, record: Record, now: float) -> bool:
        """Record that `alarm` matched `record`; return True if this is its second appearance."""
        if record.call and self._calls.is_known(alarm, record, now):
            return True
        if record.source in PRINTED:
            return self._is_announced(alarm, _telling_line(record.message), now)
        is_echo = self._was_printed(alarm, record.echoes, now)
        if sum(map(len, record.loose_echo)) >= LOOSE_LENGTH:
            return self._was_loosely_printed(alarm, record.loose_echo, now) or is_echo
        return is_echo

    def _is_announced(self, alarm: str, line: bytes, now: float) -> bool:
        if self._announced.take(alarm, line, now):
            return True
        for entry in self._loose:
            if entry[0] == alarm and now - entry[2] < WINDOW and _holds(line, entry[1]):
                self._loose.remove(entry)
                return True
        self.note_printed(alarm, line, now, 1)
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
        _append(self._loose, (alarm, parts, now))
        return False


def _telling_line(message: bytes) -> bytes:
    """Return a printed line without its end; of a record of several lines the one that says what happened.

    That is the last one without an indentation, for a traceback the exception: each of its lines was announced.
    """
    line = message.rstrip(b"\r\n")
    if b"\n" not in line:
        return line
    lines = [each.rstrip(b"\r") for each in line.split(b"\n")]
    return next((each for each in reversed(lines) if each[:1].strip()), lines[0])


def _append(entries: deque[_Entry], entry: _Entry) -> None:
    """Append an entry and drop expired ones."""
    while entries and entry[2] - entries[0][2] >= WINDOW:
        entries.popleft()
    entries.append(entry)


def _holds(line: bytes, parts: tuple[bytes, ...]) -> bool:
    """Return whether all parts are in the line, as they are or as JSON writes them."""
    return all(part in line or _json(part) in line for part in parts)


def _json(part: bytes) -> bytes:
    return json.dumps(part.decode("utf-8", "surrogateescape"))[1:-1].encode()
