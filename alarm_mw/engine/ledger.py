"""The ledger: every line and every firing is counted, and the counts must add up.

For each source:  ``lines = screened_out + matched + skipped (by reason)``
For each alarm:   ``matched + digests + taken_over + delayed + reminders + escalated + resolved
                  = fired + held_back (by reason)``
                  ``fired + retried = delivered + waiting + dead (by reason) + dropped (by reason) + handed_over``
For each rule with incidents:  ``opened = resolved (by cause) + open``
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypedDict

from alarm_mw.model.types import Reason

#: Kind of owner (a source, an alarm or the master), its name, and the column, such as ``lines`` or
#: ``held_back:echo``.
Key = tuple[Literal["source", "alarm", "master", "rule"], str, str]

_COLLECTIONS: Key = ("master", "", "collections")

#: How many sources have rows of their own, and the row for all others: senders of records choose these names.
MAX_SOURCES = 50
OTHERS = "others"

#: The largest count that the outbox can store.
MAX_COUNT = 2**63 - 1


class SourceRow(TypedDict):
    """The counts of one source."""

    lines: int
    screened_out: int
    matched: int
    skipped: dict[str, int]
    #: Lines that were too long, so only their first part was checked.
    oversized: int
    #: Output bytes that could not be written, for example because the disk was full.
    lost_bytes: int


class AlarmRow(TypedDict):
    """The counts of one alarm."""

    matched: int
    #: Messages that report what was held back.
    digests: int
    #: Firings of another alarm that has this one as its fallback, or that were retried as this one.
    taken_over: int
    #: Messages that an incident has begun, where that was held back at first.
    delayed: int
    #: Messages that an incident still goes on.
    reminders: int
    #: Messages of an incident by a later step of an escalation.
    escalated: int
    #: Messages that an incident is over.
    resolved: int
    fired: int
    held_back: dict[str, int]
    #: Dead letters that were retried.
    retried: int
    delivered: int
    waiting: int
    dead: dict[str, int]
    dropped: dict[str, int]
    #: Firings that another alarm delivers instead.
    handed_over: int
    #: Among those delivered: firings that may have arrived twice, because an earlier master was killed while delivering
    #: them.
    delivered_again: int
    #: Among those with an outcome: firings that waited for another machine of the fleet, which had the same to send.
    deferred: int


class RuleRow(TypedDict):
    """What became of the incidents of one rule."""

    opened: int
    #: By cause.
    resolved: dict[str, int]
    #: Those that are firing.
    open: int


class Books(TypedDict):
    """The ledger at one moment."""

    sources: dict[str, SourceRow]
    alarms: dict[str, AlarmRow]
    #: Those with incidents, by their names.
    rules: dict[str, RuleRow]


class Ledger:
    """Counters that only grow. Safe to use from any thread."""

    def __init__(self, counts: Mapping[Key, int] | None = None) -> None:
        self._counts: dict[Key, int] = {key: n for key, n in (counts or {}).items() if _is_column(key)}
        self._sources = {name for scope, name, _ in self._counts if scope == "source"}
        self._changed: set[Key] = set()
        self._lock = threading.Lock()

    def source(self, name: str, column: str, n: int = 1, *, reason: Reason | None = None) -> None:
        """Add `n` to a column of a source; sources beyond `MAX_SOURCES` share one row."""
        if name not in self._sources:
            name = self._known(name)
        self._add(("source", name, column if reason is None else f"{column}:{reason}"), n)

    def alarm(self, name: str, column: str, n: int = 1, *, reason: Reason | None = None) -> None:
        """Add `n` to a column of an alarm."""
        self._add(("alarm", name, column if reason is None else f"{column}:{reason}"), n)

    def book(self, scope: Literal["source", "alarm"], name: str, columns: Mapping[str, int]) -> None:
        """Add to columns of one row that balance each other; who reads or stores them sees all of that or nothing.

        A reason is part of a column's name, such as ``held_back:rate``.
        """
        if scope == "source" and name not in self._sources:
            name = self._known(name)
        with self._lock:
            for column, n in columns.items():
                if n:
                    key: Key = (scope, name, column)
                    self._counts[key] = min(self._counts.get(key, 0) + n, MAX_COUNT)
                    self._changed.add(key)

    def rule(self, name: str, column: str) -> None:
        """Add one to a column of a rule with incidents."""
        self._add(("rule", name, column), 1)

    def add(self, counts: Mapping[Key, int]) -> None:
        """Add counts that are already stored."""
        with self._lock:
            for key, n in counts.items():
                self._counts[key] = self._counts.get(key, 0) + n

    @property
    def collections(self) -> int:
        """How often counts of the application's processes were entered; stored with the counts."""
        with self._lock:
            return self._counts.get(_COLLECTIONS, 0)

    def note_collection(self) -> None:
        """Record that they were entered."""
        self._add(_COLLECTIONS, 1)

    def _known(self, name: str) -> str:
        with self._lock:
            if len(self._sources) >= MAX_SOURCES:
                return OTHERS
            self._sources.add(name)
            return name

    def _add(self, key: Key, n: int) -> None:
        if n:
            with self._lock:
                self._counts[key] = min(self._counts.get(key, 0) + n, MAX_COUNT)
                self._changed.add(key)

    def take_changes(self) -> dict[Key, int]:
        """Return the counts that changed since the last call, with their current values."""
        with self._lock:
            changed = {key: self._counts[key] for key in self._changed}
            self._changed.clear()
            return changed

    def restore_changes(self, keys: Iterable[Key]) -> None:
        """Take back changes that could not be stored, so that the next call returns them again."""
        with self._lock:
            self._changed.update(keys)

    def books(self) -> Books:
        """Return all rows."""
        with self._lock:
            counts = dict(self._counts)
        books: Books = {"sources": {}, "alarms": {}, "rules": {}}
        for (scope, name, column), n in sorted(counts.items()):
            if scope == "source":
                _set(books["sources"].setdefault(name, _source_row()), column, n)
            elif scope == "alarm":
                _set(books["alarms"].setdefault(name, _alarm_row()), column, n)
            elif scope == "rule":
                _set(books["rules"].setdefault(name, _rule_row()), column, n)
        for rule in books["rules"].values():
            rule["open"] = rule["opened"] - sum(rule["resolved"].values())
        for row in books["alarms"].values():
            gone = row["delivered"] + sum(row["dead"].values()) + sum(row["dropped"].values()) + row["handed_over"]
            row["waiting"] = row["fired"] + row["retried"] - gone
        return books


def _source_row() -> SourceRow:
    return {"lines": 0, "screened_out": 0, "matched": 0, "skipped": {}, "oversized": 0, "lost_bytes": 0}


def _alarm_row() -> AlarmRow:
    return {
        "matched": 0,
        "digests": 0,
        "taken_over": 0,
        "delayed": 0,
        "reminders": 0,
        "escalated": 0,
        "resolved": 0,
        "fired": 0,
        "held_back": {},
        "retried": 0,
        "delivered": 0,
        "waiting": 0,
        "dead": {},
        "dropped": {},
        "handed_over": 0,
        "delivered_again": 0,
        "deferred": 0,
    }


def _rule_row() -> RuleRow:
    return {"opened": 0, "resolved": {}, "open": 0}


#: What a row of each scope is at first.
_ROWS: Mapping[str, Callable[[], Mapping[str, object]]] = {
    "source": _source_row,
    "alarm": _alarm_row,
    "rule": _rule_row,
}


def _is_column(key: Key) -> bool:
    """Return whether the key is valid; a damaged file may contain any text."""
    if key == _COLLECTIONS:
        return True
    scope, _, column = key
    if scope not in _ROWS:
        return False
    row = _ROWS[scope]()
    name, _, reason = column.partition(":")
    return name in row and isinstance(row[name], dict) == bool(reason)


def _set(row: SourceRow | AlarmRow | RuleRow, column: str, n: int) -> None:
    name, _, reason = column.partition(":")
    cells: dict[str, int | dict[str, int]] = row  # type: ignore[assignment]  # the columns are the row's own keys
    cell = cells[name]
    if isinstance(cell, dict):
        cell[reason] = n
    else:
        cells[name] = n


#: Firings that do not come from matches.
_BESIDE: tuple[tuple[Literal["digests", "taken_over", "delayed", "reminders", "escalated", "resolved"], str], ...] = (
    ("digests", "digests"),
    ("taken_over", "taken over"),
    ("delayed", "delayed"),
    ("reminders", "reminders"),
    ("escalated", "escalated"),
    ("resolved", "resolved"),
)


def imbalances(books: Books, waiting: Mapping[str, int]) -> list[str]:
    """Return a sentence for every equation that does not hold; `waiting` is the actual content of the outbox."""
    found = []
    for name, rule in books["rules"].items():
        known = sum(rule["resolved"].values()) + rule["open"]
        if rule["opened"] != known:
            found.append(f"rule {name}: {rule['opened']} incidents were opened, {known} are accounted for")
    for name, source in books["sources"].items():
        known = source["screened_out"] + source["matched"] + sum(source["skipped"].values())
        if source["lines"] != known:
            found.append(f"source {name}: {source['lines']} lines came in, {known} are accounted for")
    for name, alarm in books["alarms"].items():
        known = alarm["fired"] + sum(alarm["held_back"].values())
        if alarm["matched"] + sum(alarm[column] for column, _ in _BESIDE) != known:
            others = (f" and {alarm[column]} {word}" for column, word in _BESIDE if alarm[column])
            found.append(f"alarm {name}: {alarm['matched']} matches{''.join(others)}, {known} are accounted for")
        if alarm["waiting"] != waiting.get(name, 0):
            found.append(f"alarm {name}: {alarm['waiting']} firings should wait, {waiting.get(name, 0)} do")
    return found
