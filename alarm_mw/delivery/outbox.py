"""The outbox: firings wait here until they are delivered, and the ledger's counts are written down with them.

SQLite in both forms: a file under a master process, memory in-process. What one transaction took survives the death
of the process; what the file cannot take (disk full) raises, and the caller counts it. What is too much to wait is
refused and counted; what is done is forgotten in time, the oldest first.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from alarm_mw.delivery.clock import SteadyClock
from alarm_mw.delivery.codec import decode, encode
from alarm_mw.delivery.database import open_database
from alarm_mw.delivery.stock import HISTORY, IN_MEMORY, ON_DISK, Amount, Bounds, State, Stock, with_slack
from alarm_mw.delivery.transaction import Transaction
from alarm_mw.engine.ledger import Key, Ledger
from alarm_mw.types import Firing, Reason

__all__ = ["HISTORY", "Entry", "Outbox", "Outcome", "State"]

log = logging.getLogger(__name__)

#: Seconds between two lines in the log that say that the outbox is full.
WARN_EVERY = 60.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A firing in the outbox. `seq` grows with the order in which firings were taken."""

    seq: int
    firing: Firing
    #: Failed attempts so far, in earlier processes too.
    attempts: int = 0
    #: Seconds for which it has been waiting in this process.
    since: float = 0.0
    #: Seconds for which it was waiting before, by the clocks of earlier processes.
    before: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a firing in the end."""

    state: State
    attempts: int
    error: str = ""
    reason: Reason | None = None


class Outbox:
    """Safe to use from any thread; every call may block for the time of a disk write.

    Where `path` cannot be written, it works in memory, and says so in the log. `bounds` tells how much may be kept in
    each state, by default what suits a file or memory.
    """

    def __init__(
        self,
        path: Path | Literal[":memory:"],
        bounds: Bounds | None = None,
        now: Callable[[], float] | None = None,
    ) -> None:
        self.path = path
        self._now = now or SteadyClock()
        self._opened = self._now()
        self._lock = threading.RLock()
        opened = open_database(path)
        self._database = opened.database
        #: Whether what it holds outlives the process.
        self.is_durable = opened.is_durable
        #: What was wrong with the file, in a sentence; empty for nothing.
        self.fault = opened.fault
        self._bounds = bounds or (ON_DISK if self.is_durable else IN_MEMORY)
        self._stock = self._read_stock()
        self._believe_ages()
        self._refused = 0
        self._warned_at = -WARN_EVERY
        self.ledger = Ledger(self._read_ledger())

    def take(
        self, firings: Sequence[Firing], book: Callable[[Firing, bool], None], memory: bytes | None = None
    ) -> list[Firing]:
        """Write firings down, in one transaction with the ledger, and return those that wait in it now.

        `memory` takes the place of what the limiters remembered; None leaves that as it is.

        `book(firing, is_new)` is called for each before the ledger is written, to enter it there as fired when it is
        new. New ones that the outbox has no room for are counted here, as dropped. Raises `sqlite3.Error` when nothing
        could be written.
        """
        taken = []
        refused: set[str] = set()
        with self._lock, self._transaction() as transaction:
            if memory is not None:
                self._database.execute("INSERT OR REPLACE INTO memory VALUES (1, ?)", (memory,))
            for firing in firings:
                blob = encode(firing)
                if not self._has_room(blob):
                    is_new = firing.id not in refused and not self._knows(firing)
                    if is_new:
                        refused.add(firing.id)
                        transaction.count(firing.alarm, State.DROPPED, reason=Reason.OUTBOX_FULL)
                elif is_new := self._insert(firing, blob):
                    taken.append(firing)
                book(firing, is_new)
        if refused:
            self._warn_of_refusals(len(refused))
        return taken

    def memory(self) -> bytes | None:
        """Return what the limiters remembered when that was written down last."""
        rows = self._query("SELECT data FROM memory")
        return cast("bytes", rows[0][0]) if rows else None

    @contextlib.contextmanager
    def still(self, timeout: float = -1) -> Iterator[None]:
        """Let no transaction begin or end while the context lasts.

        Raises `TimeoutError` when one was under way for all of `timeout` seconds; -1 waits for ever.
        """
        if not self._lock.acquire(timeout=timeout):
            raise TimeoutError(f"the outbox was in use for {timeout:g} seconds")
        try:
            yield
        finally:
            self._lock.release()

    def flush(self) -> None:
        """Write the ledger down. Raises `sqlite3.Error` when that is impossible."""
        with self._lock, self._transaction():
            pass

    def waiting(self, alarm: str, *, after: int, limit: int) -> list[Entry]:
        """Return the first `limit` waiting firings of an alarm that were taken after number `after`, in order.

        Those that cannot be read become dead letters. Raises `sqlite3.Error`.
        """
        with self._lock:
            while True:
                rows = self._query(
                    "SELECT seq, firing, attempts, taken FROM firings"
                    " WHERE state = ? AND alarm = ? AND seq > ? ORDER BY seq LIMIT ?",
                    (State.WAITING, alarm, after, limit),
                )
                entries, unreadable = self._read(cast("list[tuple[int, bytes, int, float]]", rows))
                self._bury(alarm, unreadable)
                if entries or not unreadable:
                    return entries

    def has_waiting(self, alarm: str) -> bool:
        """Return whether a firing of an alarm waits."""
        return bool(self._query("SELECT 1 FROM firings WHERE state = ? AND alarm = ? LIMIT 1", (State.WAITING, alarm)))

    def count_waiting(self) -> dict[str, int]:
        """Return how many firings wait, by alarm."""
        rows = self._query("SELECT alarm, COUNT(*) FROM firings WHERE state = ? GROUP BY alarm", (State.WAITING,))
        return {cast("str", alarm): cast("int", n) for alarm, n in rows}

    def settle(self, entries: Iterable[Entry], outcome: Outcome, successor: Firing | None = None) -> None:
        """Write down what became of firings, in one transaction with the ledger.

        `successor` is the firing of another alarm that takes their place: it waits from then on, whatever the bound,
        since it takes up the room that they leave. Raises `sqlite3.Error` when nothing could be written; then nothing
        is counted, and it may be tried again.
        """
        with self._lock, self._transaction() as transaction:
            for entry in entries:
                self._write_outcome(transaction, entry.firing.alarm, entry.seq, outcome)
            if successor is not None:
                self._take_over(transaction, successor)

    def note_failure(self, entries: Iterable[Entry], attempts: int, error: str) -> None:
        """Write down how many attempts have failed, so that the next process knows. Raises `sqlite3.Error`."""
        now = self._now()
        with self._lock, self._transaction():
            self._database.executemany(
                "UPDATE firings SET attempts = ?, error = ?, age = MAX(age, ? - taken) WHERE seq = ?",
                [(attempts, error, now, entry.seq) for entry in entries],
            )

    def drop_waiting(self, reason: Reason) -> dict[str, int]:
        """Give up what waits, and return how much of each alarm that was."""
        with self._lock, self._transaction() as transaction:
            dropped = self.count_waiting()
            self._database.execute(
                "UPDATE firings SET state = ?, reason = ?, done = ? WHERE state = ?",
                (State.DROPPED, reason, self._now(), State.WAITING),
            )
            self._stock[State.DROPPED] += self._stock[State.WAITING]
            self._stock[State.WAITING] = Amount()
            self._prune(State.DROPPED)
            for alarm, n in dropped.items():
                transaction.count(alarm, State.DROPPED, n, reason=reason)
            return dropped

    def close(self) -> None:
        """Write the ledger down and close the database; log it when the former is impossible."""
        with self._lock:
            try:
                self.flush()
            except sqlite3.Error as error:
                log.error("the outbox cannot be written, the last counts are lost: %s", error)
            self._database.close()

    def _has_room(self, blob: bytes) -> bool:
        return (self._stock[State.WAITING] + Amount(1, len(blob))).fits(self._bounds[State.WAITING])

    def _knows(self, firing: Firing) -> bool:
        return bool(self._query("SELECT 1 FROM firings WHERE id = ?", (firing.id,)))

    def _insert(self, firing: Firing, blob: bytes) -> bool:
        cursor = self._database.execute(
            "INSERT OR IGNORE INTO firings (id, alarm, state, firing, taken) VALUES (?, ?, ?, ?, ?)",
            (firing.id, firing.alarm, State.WAITING, blob, self._now()),
        )
        if cursor.rowcount <= 0:
            return False
        self._stock[State.WAITING] += Amount(1, len(blob))
        return True

    def _take_over(self, transaction: Transaction, firing: Firing) -> None:
        transaction.count(firing.alarm, "taken_over")
        if self._insert(firing, encode(firing)):
            transaction.count(firing.alarm, "fired")
        else:
            transaction.count(firing.alarm, "held_back", reason=Reason.DUPLICATE)

    def _warn_of_refusals(self, n: int) -> None:
        self._refused += n
        now = time.monotonic()
        if now - self._warned_at >= WARN_EVERY:
            bound = self._bounds[State.WAITING]
            log.error(
                "the outbox is full: %d firings were dropped; at most %d, or %d bytes of them, may wait",
                *(self._refused, bound.count, bound.size),
            )
            self._refused, self._warned_at = 0, now

    def _bury(self, alarm: str, unreadable: Sequence[tuple[int, str]]) -> None:
        if not unreadable:
            return
        with self._transaction() as transaction:
            for seq, error in unreadable:
                self._write_outcome(transaction, alarm, seq, Outcome(State.DEAD, 0, error, Reason.UNREADABLE))
        log.error("alarm %s: %d firings in the outbox cannot be read: %s", alarm, len(unreadable), unreadable[0][1])

    def _write_outcome(self, transaction: Transaction, alarm: str, seq: int, outcome: Outcome) -> None:
        # No row where somebody has emptied the table by hand.
        for (size,) in self._query("SELECT LENGTH(firing) FROM firings WHERE seq = ?", (seq,)):
            one = Amount(1, cast("int", size))
            self._stock[State.WAITING] -= one
            self._stock[outcome.state] += one
        self._database.execute(
            "UPDATE firings SET state = ?, attempts = ?, error = ?, reason = ?, done = ? WHERE seq = ?",
            (outcome.state, outcome.attempts, outcome.error, outcome.reason or "", self._now(), seq),
        )
        self._prune(outcome.state)
        transaction.count(alarm, outcome.state, reason=outcome.reason)

    def _prune(self, state: State) -> None:
        """Cut a state's firings back to their bound, the oldest first."""
        bound = self._bounds[state]
        if self._stock[state].fits(with_slack(bound)):
            return
        rows = self._query("SELECT seq, LENGTH(firing) FROM firings WHERE state = ? ORDER BY seq", (state,))
        doomed = []
        for seq, size in rows:
            if self._stock[state].fits(bound):
                break
            self._stock[state] -= Amount(1, cast("int", size))
            doomed.append((seq,))
        else:  # none is left, whatever was believed
            self._stock[state] = Amount()
        self._database.executemany("DELETE FROM firings WHERE seq = ?", doomed)

    def _query(self, sql: str, arguments: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        with self._lock:
            return self._database.execute(sql, arguments).fetchall()

    def _believe_ages(self) -> None:
        """Take what waits to be at least as old as it was known to be: the clock may have been set back since."""
        with contextlib.suppress(sqlite3.Error):  # such as a full disk; then some is younger than it is
            self._database.execute(
                "UPDATE firings SET taken = ? - age WHERE state = ? AND taken > ? - age",
                (self._opened, State.WAITING, self._opened),
            )

    def _read(self, rows: Sequence[tuple[int, bytes, int, float]]) -> tuple[list[Entry], list[tuple[int, str]]]:
        """Return what can be read, and the numbers and errors of the rest."""
        now = self._now()
        entries: list[Entry] = []
        unreadable: list[tuple[int, str]] = []
        for seq, blob, attempts, taken in rows:
            before, since = max(self._opened - taken, 0.0), now - max(taken, self._opened)
            try:
                entries.append(Entry(seq, decode(blob), attempts, since, before))
            except (ValueError, TypeError) as error:  # msgspec's are among them
                unreadable.append((seq, str(error)))
        return entries, unreadable

    def _read_stock(self) -> Stock:
        rows = self._query("SELECT state, COUNT(*), SUM(LENGTH(firing)) FROM firings GROUP BY state")
        found = {state: Amount(cast("int", count), cast("int", size)) for state, count, size in rows}
        return {state: found.get(state, Amount()) for state in State}

    def _read_ledger(self) -> dict[Key, int]:
        rows = self._query("SELECT scope, name, col, n FROM ledger")
        return {cast("Key", (scope, name, column)): cast("int", n) for scope, name, column, n in rows}

    def _transaction(self) -> Transaction:
        return Transaction(self._database, self.ledger, self._stock)
