"""The outbox keeps firings until they are delivered, and writes the ledger's counts together with them.

SQLite in both forms: a file under a master process, memory in-process. What one transaction took survives the death
of the process; what the file cannot take (disk full) raises, and the caller counts it. What is too much to wait is
refused and counted; what is done is forgotten in time, the oldest first.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Concatenate, Literal, ParamSpec, Self, TypeVar, cast

from alarm_mw.delivery.fallback import handed_over
from alarm_mw.delivery.outbox.clock import SteadyClock
from alarm_mw.delivery.outbox.database import VERSION, Opened, is_broken, is_foreign
from alarm_mw.delivery.outbox.entries import Entry, Outcome, Settlement, Taken, decode, encode, incident_of, origin_of
from alarm_mw.delivery.outbox.journal import Journal, JournaledConnection
from alarm_mw.delivery.outbox.limits import IN_MEMORY, ON_DISK, Amount, Bounds, OutboxOptions, State, Stock, with_slack
from alarm_mw.delivery.outbox.memory_failover import MemoryFailover, is_busy, is_io_error
from alarm_mw.delivery.outbox.positions import FORGET, WRITE, Changes, Positions
from alarm_mw.delivery.outbox.rescue import (
    KNOWN,
    KnownWaiting,
    Row,
    copied,
    difference,
    open_database,
    rescued,
    restored,
    unwritable,
)
from alarm_mw.delivery.outbox.under_way import UnderWay
from alarm_mw.engine.ledger import Key, Ledger
from alarm_mw.engine.messages import named
from alarm_mw.model.types import Firing, Reason
from alarm_mw.system.forks import new_lock

log = logging.getLogger(__name__)

#: One part in `SHARE` of the outbox is reserved for each alarm: one that cannot be delivered silences no other.
SHARE = 100

#: Seconds between two log lines that say that the outbox is full.
WARN_EVERY = 60.0

#: Seconds in a day, and between two deletions of expired history.
DAY = 86_400.0
FORGET_EVERY = 600.0

#: Number of changed rows after which a checkpoint is due: about 50 single firings, or a thousand pages of 4 KB. With
#: many more, writers would have to wait for the disk.
CHECKPOINT_EVERY = 500

#: Seconds for which a message about an incident must have waited, without an attempt, for its end to replace it: of a
#: receiver that works, each gets both.
MERGE_AFTER = 5.0

#: Maximum number of firings in one statement; SQLite has a limit.
MOST_AT_ONCE = 500


P = ParamSpec("P")
T = TypeVar("T")


class ReplacedError(sqlite3.DatabaseError):
    """The file failed and was replaced by another one or by memory: the change can be repeated at once."""


def tried_twice(change: Callable[Concatenate[Outbox, P], T]) -> Callable[Concatenate[Outbox, P], T]:
    """Repeat a change once after `ReplacedError`."""

    @functools.wraps(change)
    def changing(outbox: Outbox, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with outbox.still():
            try:
                return change(outbox, *args, **kwargs)
            except ReplacedError:
                return change(outbox, *args, **kwargs)

    return changing


def _ignore(text: str, key: str) -> None:
    """Do nothing: the fault is logged anyway."""


#: The statuses of messages that follow others about the same episode, and of those that an acknowledgement cancels.
_FOLLOWING = frozenset({"reminder", "flapping", "acknowledged", "resolved"})
_CANCELED = frozenset({"reminder", "escalated"})


def _status_of(firing: Firing) -> str:
    """Return what a message says of its incident; empty where it is about none."""
    return firing.trigger.incident.status if firing.trigger is not None and firing.trigger.incident is not None else ""


_UPSERT = "INSERT INTO ledger VALUES (?, ?, ?, ?) ON CONFLICT (scope, name, col) DO UPDATE SET n = excluded.n"


class Transaction:
    """BEGIN … COMMIT.

    When it fails, the stock is as before, and the counts of `count` are dropped. Other changes of the ledger stay, and
    are written by the next transaction.
    """

    def __init__(
        self, database: sqlite3.Connection, ledger: Ledger, stock: Stock, positions: Positions | None = None
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._positions = positions
        self._stock = stock
        self._stock_before = dict(stock)
        self._counts: list[tuple[str, str, int, Reason | None]] = []
        #: The changes of the ledger that were written, once it has ended.
        self.written: dict[Key, int] = {}

    def __enter__(self) -> Self:
        self._database.execute("BEGIN IMMEDIATE")
        return self

    def count(self, alarm: str, column: str, n: int = 1, *, reason: Reason | None = None) -> None:
        """Add `n` to a column of an alarm, if the transaction succeeds."""
        self._counts.append((alarm, column, n, reason))

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._roll_back()
            return
        self._enter_counts(1)
        changes = self._ledger.take_changes()
        moved = {} if self._positions is None else self._positions.take_changes()
        try:
            self._commit([(*key, n) for key, n in changes.items()], moved)
        except sqlite3.Error:
            self._enter_counts(-1)
            self._ledger.restore_changes(changes)
            if self._positions is not None:
                self._positions.restore_changes(moved)
            self._roll_back()
            raise
        self.written = changes

    def _commit(self, rows: Sequence[tuple[str, str, str, int]], moved: Changes) -> None:
        self._database.executemany(_UPSERT, rows)
        if moved:
            self._database.executemany(WRITE, [(name, data) for name, data in moved.items() if data is not None])
            self._database.executemany(FORGET, [(name,) for name, data in moved.items() if data is None])
        self._database.execute("COMMIT")

    def _enter_counts(self, sign: int) -> None:
        for alarm, column, n, reason in self._counts:
            self._ledger.alarm(alarm, column, sign * n, reason=reason)

    def _roll_back(self) -> None:
        self._stock.update(self._stock_before)
        with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back by itself
            self._database.execute("ROLLBACK")


class Outbox:
    """Safe to use from any thread; every call may block for the time of a disk write.

    While `path` cannot be written, it works in memory, and logs that; what it takes then also goes into `journal`, for
    the next process. `bounds` are the limits of each state, by default those of a file or of memory.
    """

    def __init__(
        self,
        path: Path | Literal[":memory:"],
        bounds: Bounds | None = None,
        now: Callable[[], float] | None = None,
        opened: Opened | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.path = path
        self._now = now or SteadyClock()
        self._opened = self._now()
        self._lock = new_lock()
        if opened is None:
            with self._lock:
                opened = open_database(path, self._opened)
                if journal is not None:
                    opened = restored(Path(path), opened, journal)
        self._failover = MemoryFailover(opened, Path(path), self._now, journal)
        #: Whether it has a file, even one that cannot be written at present.
        self.has_file = opened.has_file
        #: How often firings began to wait without `take`.
        self.bypasses = 0
        #: What is or was wrong with the file, in a sentence; empty for nothing.
        self.fault = opened.fault
        #: Called with each fault: a sentence for people, and a key that is the same for the same fault. Must not block.
        self.on_fault: Callable[[str, str], object] = _ignore
        #: Called when a checkpoint is due. Must not block.
        self.on_growth: Callable[[], object] = lambda: None
        #: Called when another file has replaced the one that was opened. Must not block.
        self.on_replacement: Callable[[], object] = lambda: None
        #: Called with the alarms of firings that were not offered to their lanes. Must not block.
        self.on_arrival: Callable[[Iterable[str]], object] = lambda _: None
        #: Called with a later step of an escalation that was dropped behind an attempt, since somebody had acknowledged
        #: the incident meanwhile. Must not block.
        self.on_cancel: Callable[[Firing], object] = lambda _: None
        #: Returns whether an alarm is delivered.
        self.has_lane: Callable[[str], bool] = lambda _: True
        #: The firings about incidents that lanes are trying at this moment.
        self._begun: set[int] = set()
        #: How often what it held of incidents may have been lost with its file.
        self.losses = 0
        #: The number of changed rows at the last checkpoint.
        self._rows = 0
        self._bounds_wanted: Callable[[Bounds], Bounds] = lambda default: bounds or default
        self.bounds = self._bounds_wanted(self._default_bounds())
        #: Days for which history is kept; None for any time.
        self._history_days: float | None = None
        self._forget_at = 0.0
        self.stock = self.read_stock()
        self._restore_ages()
        #: The ledger as it was last written.
        self._written = self._read_ledger()
        self.ledger = Ledger(self._written)
        #: Where followed logs stand; None where none was ever followed (`positions`).
        self._positions: Positions | None = None
        #: The highest number of a firing.
        self._last = self._read_last()
        #: The firings being delivered, for the next master; None where there will be none.
        self.under_way: UnderWay | None = None
        #: The numbers of firings that an earlier master may have delivered.
        self._again: frozenset[int] = frozenset()
        self._refused = 0
        self._warned_at = -WARN_EVERY
        self._known = KnownWaiting()
        self._saved = self.memory() if self.has_file else None
        if self.has_file:
            self._known.fill(self._read_waiting())
            self._count_lost()

    def limit(self, options: OutboxOptions) -> None:
        """Apply new limits; what exceeds them is evicted with the next change."""
        with self._lock:
            self._bounds_wanted = options.bounds
            self.bounds = options.bounds(self._default_bounds())
            self._history_days = options.history_days
            self._forget_at = 0.0

    @property
    def is_durable(self) -> bool:
        """Whether its content outlives the process."""
        return self.has_file and not self._failover.is_open

    def regain(self) -> bool:
        """Write what was kept in memory into the file, if possible; return whether the outbox is durable."""
        with self._lock:
            if self._failover.is_open and self._fail_back():
                self.fault = ""
                log.warning("the outbox %s can be written again, and has what was kept in memory", self.path)
            return self.is_durable

    def positions(self) -> Positions:
        """Return where followed logs stand. Use it under the lock alone (`still`). Raises `sqlite3.Error`."""
        with self._lock:
            if self._positions is None:
                rows = self.query("SELECT name, data FROM positions")
                self._positions = Positions({cast("str", name): cast("bytes", data) for name, data in rows})
            return self._positions

    def memory(self) -> bytes | None:
        """Return the state of the limiters as it was last written."""
        rows = self.query("SELECT data FROM memory")
        return cast("bytes", rows[0][0]) if rows else None

    @contextlib.contextmanager
    def still(self, timeout: float = -1) -> Iterator[None]:
        """Allow no transaction to begin or end while the context lasts.

        Raises `TimeoutError` when one was under way for all of `timeout` seconds; -1 waits without limit.
        """
        if not self._lock.acquire(timeout=timeout):
            raise TimeoutError(f"the outbox was in use for {timeout:g} seconds")
        try:
            yield
        finally:
            self._lock.release()

    @tried_twice
    def flush(self) -> None:
        """Write the ledger, and at least something. Raises `sqlite3.Error` when that fails."""
        with self.transaction():
            self.change(f"PRAGMA user_version = {VERSION}")

    def count_waiting(self) -> dict[str, int]:
        """Return how many firings wait, by alarm."""
        rows = self.query("SELECT alarm, COUNT(*) FROM firings WHERE state = ? GROUP BY alarm", (State.WAITING,))
        return {cast("str", alarm): cast("int", n) for alarm, n in rows}

    def count_letters(self) -> int:
        """Return the number of dead letters."""
        return self.stock[State.DEAD].count

    def close(self) -> None:
        """Write everything and close the database; a failed write is logged."""
        with self._lock:
            if self.has_file and not self.regain():
                log.error("the outbox %s still cannot be written: what was kept in memory is lost", self.path)
            self._failover.look_again()
            try:
                self.flush()
            except sqlite3.Error as error:
                log.error("the outbox cannot be written, the last counts are lost: %s", error)
            self._failover.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Change firings and ledger together, or, where an exception leaves the context, not at all."""
        with self._lock:
            if fault := self._failover.fault():
                self._replace(fault)
            if self._failover.is_fail_back_due():
                self.regain()
            self._known.begin()
            try:
                with Transaction(self._database, self.ledger, self.stock, self._positions) as transaction:
                    yield transaction
            except sqlite3.Error as error:
                if self._recover(error):
                    raise ReplacedError(str(error)) from error
                raise
            self._known.commit()
            self._written.update(transaction.written)
            self._failover.worked()
            self._failover.shorten_journal()
            self._check_growth()

    def query(self, sql: str, arguments: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        """Return the rows of a SELECT. Raises `sqlite3.Error`."""
        with self._lock:
            try:
                return self._database.execute(sql, arguments).fetchall()
            except sqlite3.Error as error:
                is_hopeless = self._database.in_transaction or not (is_broken(error) or is_io_error(error))
                if is_hopeless or not self._recover(error):
                    raise
                return self._database.execute(sql, arguments).fetchall()

    def change(self, sql: str, arguments: tuple[object, ...] = ()) -> None:
        """Run a statement that changes rows, within a transaction; the caller adjusts the amounts."""
        self._database.execute(sql, arguments)

    def change_all(self, sql: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Run a statement for each of the rows, within a transaction."""
        if rows:
            self._database.executemany(sql, rows)

    def insert(self, firing: Firing, blob: bytes, attempts: int = 0) -> int | None:
        """Add a waiting firing, within a transaction; return its number, or None where its id is known."""
        now = self._now()
        cursor = self._database.execute(
            "INSERT OR IGNORE INTO firings (id, alarm, state, firing, attempts, taken) VALUES (?, ?, ?, ?, ?, ?)",
            (firing.id, firing.alarm, State.WAITING, blob, attempts, now),
        )
        seq = cursor.lastrowid
        if cursor.rowcount <= 0 or seq is None:
            return None
        self.stock[State.WAITING] += Amount(1, len(blob))
        self._last = max(self._last, seq)
        if self.has_file:
            self._known.add((seq, firing.id, firing.alarm, State.WAITING, blob, attempts, "", "", now, 0.0, 0.0))
        return seq

    def take_over(self, transaction: Transaction, firing: Firing) -> None:
        """Add a waiting firing that replaces one of another alarm."""
        transaction.count(firing.alarm, "taken_over")
        self.bypasses += 1
        if self.insert(firing, encode(firing)) is not None:
            transaction.count(firing.alarm, "fired")
        else:
            transaction.count(firing.alarm, "held_back", reason=Reason.DUPLICATE)

    def move(self, seqs: Sequence[int], before: State, after: State | None) -> None:
        """Move the amounts of firings to another state, within a transaction; None removes them."""
        if before is State.WAITING:
            self._known.remove(seqs)
        for begin in range(0, len(seqs), MOST_AT_ONCE):
            page = seqs[begin : begin + MOST_AT_ONCE]
            marks = ", ".join("?" * len(page))
            # There are fewer rows than numbers where the table was emptied by hand.
            sql = f"SELECT COUNT(*), COALESCE(SUM(LENGTH(firing)), 0) FROM firings WHERE seq IN ({marks})"  # noqa: S608  # no user input
            ((count, size),) = self.query(sql, tuple(page))
            amount = Amount(cast("int", count), cast("int", size))
            self.stock[before] -= amount
            if after is not None:
                self.stock[after] += amount

    def resume(self, under_way: UnderWay) -> None:
        """Continue after a killed master: what it had delivered is settled; what it was delivering may come twice.

        Raises `sqlite3.Error`.
        """
        self.under_way, self._again = under_way, under_way.begun
        rows = [row for seq in sorted(under_way.delivered) for row in self._row(seq)]
        entries, _ = self._read(rows)
        for entry in entries:
            self.settle(Settlement([entry], Outcome(State.DELIVERED, entry.attempts + 1)))
        under_way.end(under_way.delivered)

    def _row(self, seq: int) -> list[tuple[int, bytes, int, float]]:
        sql = "SELECT seq, firing, attempts, taken FROM firings WHERE seq = ? AND state = ?"
        return cast("list[tuple[int, bytes, int, float]]", self.query(sql, (seq, State.WAITING)))

    @tried_twice
    def take(
        self,
        firings: Sequence[Firing],
        book: Callable[[Firing, bool], None],
        memory: bytes | None = None,
        also: Callable[[Outbox, Transaction, Sequence[Firing]], None] | None = None,
    ) -> Taken:
        """Write firings in one transaction with the ledger, and return those that wait now.

        `memory` replaces the state of the limiters; None leaves it as it is. `also` writes what else belongs to the
        same transaction, and is given the firings about incidents that were refused; if the transaction is repeated, it
        is called again.

        `book(firing, is_new)` is called for each before the ledger is written, to count it there. New firings beyond
        the limits are counted here, as dropped. Raises `sqlite3.Error` when nothing was written.
        """
        entries = []
        refused: dict[str, Firing] = {}
        rerouted: set[str] = set()
        with self.transaction() as transaction:
            if memory is not None:
                self._database.execute("INSERT OR REPLACE INTO memory VALUES (1, ?)", (memory,))
                self._saved = memory
            for firing in firings:
                blob = encode(firing)
                if not (self._has_room(blob) or self._has_share(firing.alarm)):
                    is_new = firing.id not in refused and not self._knows(firing)
                    if is_new:
                        refused[firing.id] = firing
                        transaction.count(firing.alarm, State.DROPPED, reason=Reason.OUTBOX_FULL)
                elif is_new := (seq := self.insert(firing, blob)) is not None:
                    entry = Entry(seq, firing)
                    if incident_of(firing) is not None and (other := self._reroute(transaction, entry)):
                        rerouted.add(other)
                    else:
                        entries.append(entry)
                book(firing, is_new)
            if also is not None:
                also(self, transaction, [firing for firing in refused.values() if incident_of(firing) is not None])
            taken = Taken(entries, self.bypasses)
        if rerouted:
            self.on_arrival(rerouted)
        if refused:
            self._warn_of_refusals(len(refused))
        return taken

    def waiting(self, alarm: str, *, after: int, limit: int) -> list[Entry]:
        """Return the first `limit` waiting firings of an alarm that were taken after number `after`, in order.

        Those that cannot be read become dead letters. Raises `sqlite3.Error`.
        """
        with self._lock:
            while True:
                rows = self.query(
                    "SELECT seq, firing, attempts, taken FROM firings"
                    " WHERE state = ? AND alarm = ? AND seq > ? ORDER BY seq LIMIT ?",
                    (State.WAITING, alarm, after, limit),
                )
                entries, unreadable = self._read(cast("list[tuple[int, bytes, int, float]]", rows))
                self._bury(alarm, unreadable)
                if entries or not unreadable:
                    return entries

    # Messages about the same episode of an incident

    def _reroute(self, transaction: Transaction, entry: Entry) -> str:
        """Let a message go the way of the one before it, and replace that one if it was never tried.

        Returns the alarm to which the one before it was handed over; empty where it was not.
        """
        firing = entry.firing
        if _status_of(firing) not in _FOLLOWING:
            return ""
        other = self._handed_over_to(firing)
        if other:
            firing = self._hand_over(transaction, entry, other)
        if _status_of(firing) == "resolved":
            self._merge(transaction, firing)
        return other

    def _handed_over_to(self, firing: Firing) -> str:
        """Return the alarm that has the last message to a firing's alarm about the same episode in its place."""
        known = self.query(
            "SELECT id, alarm, state FROM firings WHERE id GLOB ? AND id != ? ORDER BY seq DESC",
            (f"{incident_of(firing)}-*", firing.id),
        )
        rows = cast("list[tuple[str, str, str]]", known)
        name, state = next(((name, state) for name, alarm, state in rows if alarm == firing.alarm), ("", ""))
        found = ""
        while state == State.HANDED_OVER:
            heirs = ((each, alarm, state) for each, alarm, state in rows if each == f"{name}.{named(alarm)}")
            name, found, state = next(heirs, ("", "", ""))
        return found if state in (State.WAITING, State.DELIVERED) and self.has_lane(found) else ""

    def _hand_over(self, transaction: Transaction, entry: Entry, alarm: str) -> Firing:
        """Have another alarm deliver a waiting message, and return it as it is then."""
        firing = handed_over(entry.firing, alarm)
        outcome = Outcome(State.HANDED_OVER, entry.attempts)
        self._write_outcome(transaction, [entry.seq], {entry.firing.alarm: 1}, outcome)
        self.take_over(transaction, firing)
        return firing

    def _merge(self, transaction: Transaction, firing: Firing) -> None:
        """Let a message about an end replace those about the same episode that have waited, and were never tried."""
        for entry in self._about(incident_of(firing) or ""):
            is_same = entry.firing.alarm == firing.alarm and entry.firing.id != firing.id
            is_same &= origin_of(entry.firing) == origin_of(firing)
            if is_same and not entry.attempts and entry.since + entry.before >= MERGE_AFTER:
                self._drop(transaction, entry, Reason.MERGED)

    def cancel(self, transaction: Transaction, thread: str) -> list[Firing]:
        """Drop the waiting reminders and later steps of an episode that somebody has acknowledged, and return them.

        Those that lanes are trying at this moment are dropped when that fails; see `on_cancel`.
        """
        canceled: list[Firing] = []
        for entry in self._about(thread, is_begun=None):
            if _status_of(entry.firing) not in _CANCELED:
                continue
            if entry.seq in self._begun:
                self.change("UPDATE firings SET reason = ? WHERE seq = ?", (Reason.ACKNOWLEDGED, entry.seq))
            else:
                self._drop(transaction, entry, Reason.ACKNOWLEDGED)
                canceled.append(entry.firing)
        return canceled

    def _about(self, thread: str, *, is_begun: bool | None = False) -> list[Entry]:
        """Return the waiting firings about an episode of an incident that no lane is trying now; None: all."""
        rows = self.query(
            "SELECT seq, firing, attempts, taken FROM firings WHERE +state = ? AND id GLOB ? ORDER BY seq",  # by its id
            (State.WAITING, f"{thread}-*"),
        )
        entries, _ = self._read(cast("list[tuple[int, bytes, int, float]]", rows))
        return [entry for entry in entries if is_begun is None or entry.seq not in self._begun]

    def _drop(self, transaction: Transaction, entry: Entry, reason: Reason) -> None:
        outcome = Outcome(State.DROPPED, entry.attempts, "", reason)
        self._write_outcome(transaction, [entry.seq], {entry.firing.alarm: 1}, outcome)

    def begin(self, entry: Entry) -> bool:
        """Return whether a firing is still to be tried, and keep it from being dropped until `end`."""
        with self._lock:
            rows = self.query("SELECT reason FROM firings WHERE seq = ? AND state = ?", (entry.seq, State.WAITING))
            if not rows:
                return False
            if rows[0][0] == Reason.ACKNOWLEDGED:
                self._drop_canceled(entry)
                return False
            self._begun.add(entry.seq)
            return True

    @tried_twice
    def _drop_canceled(self, entry: Entry) -> None:
        with self.transaction() as transaction:
            self._drop(transaction, entry, Reason.ACKNOWLEDGED)
        self.on_cancel(entry.firing)

    def end(self, seq: int) -> None:
        """Take note that an attempt has ended."""
        with self._lock:
            self._begun.discard(seq)

    def has_incidents(self) -> bool:
        """Return whether incidents are written down."""
        return bool(self.query("SELECT 1 FROM incidents LIMIT 1"))

    def delivered_ages(self, alarm: str, seconds: float, limit: int) -> list[float]:
        """Return how long ago firings of an alarm were delivered, in the last `seconds`, the oldest first."""
        now = self._now()
        sql = "SELECT done FROM firings WHERE state = ? AND alarm = ? AND done > ? ORDER BY done DESC LIMIT ?"
        rows = self.query(sql, (State.DELIVERED, alarm, now - seconds, limit))
        return [max(now - cast("float", done), 0.0) for (done,) in reversed(rows)]

    def has_waiting(self, alarm: str) -> bool:
        """Return whether a firing of this alarm waits."""
        return bool(self.query("SELECT 1 FROM firings WHERE state = ? AND alarm = ? LIMIT 1", (State.WAITING, alarm)))

    @tried_twice
    def settle(self, *settlements: Settlement) -> None:
        """Write the outcomes of firings, in one transaction with the ledger.

        A successor waits from then on, regardless of the limit, since it takes the place of the others. Raises
        `sqlite3.Error` when nothing was written; then nothing is counted, and the call may be repeated.
        """
        canceled: list[Entry] = []
        with self.transaction() as transaction:
            canceled = [each.entries[0] for each in settlements if self._is_canceled(each)]
            for entry in canceled:
                self._drop(transaction, entry, Reason.ACKNOWLEDGED)
            settlements = tuple(each for each in settlements if each.entries[0] not in canceled)
            for outcome, group in itertools.groupby(settlements, attrgetter("outcome")):
                entries = [entry for settlement in group for entry in settlement.entries]
                alarms = Counter(entry.firing.alarm for entry in entries)
                self._write_outcome(transaction, [entry.seq for entry in entries], alarms, outcome)
            for settlement in settlements:
                if settlement.successor is not None:
                    self.take_over(transaction, settlement.successor)
                    self._take_along(transaction, settlement.entries[0], settlement.successor)
        for entry in canceled:
            self.on_cancel(entry.firing)

    def _is_canceled(self, settlement: Settlement) -> bool:
        """Return whether somebody has acknowledged the incident while its message was tried, and to be handed over."""
        entry = settlement.entries[0]
        if settlement.successor is None or incident_of(entry.firing) is None:
            return False
        rows = self.query("SELECT reason FROM firings WHERE seq = ?", (entry.seq,))
        return bool(rows) and rows[0][0] == Reason.ACKNOWLEDGED

    def _take_along(self, transaction: Transaction, entry: Entry, successor: Firing) -> None:
        """Hand over what waits behind a message about the same episode as well: it goes the same way."""
        if incident_of(successor) is not None:
            for other in self._about(incident_of(successor) or ""):
                if other.seq > entry.seq and other.firing.alarm == entry.firing.alarm:
                    self._hand_over(transaction, other, successor.alarm)

    @tried_twice
    def note_failure(self, entries: Iterable[Entry], attempts: int, error: str) -> None:
        """Write the number of failed attempts for the next process. Raises `sqlite3.Error`."""
        now = self._now()
        with self.transaction():
            self._database.executemany(
                "UPDATE firings SET attempts = ?, error = ?, age = MAX(age, ? - taken) WHERE seq = ?",
                [(attempts, error, now, entry.seq) for entry in entries],
            )

    @tried_twice
    def drop_waiting(self, reason: Reason) -> dict[str, int]:
        """Drop all waiting firings, and return their number by alarm."""
        with self.transaction() as transaction:
            dropped = self.count_waiting()
            self._database.execute(
                "UPDATE firings SET state = ?, reason = ?, done = ? WHERE state = ?",
                (State.DROPPED, reason, self._now(), State.WAITING),
            )
            self._known.clear()
            self.stock[State.DROPPED] += self.stock[State.WAITING]
            self.stock[State.WAITING] = Amount()
            self._prune(State.DROPPED)
            for alarm, n in dropped.items():
                transaction.count(alarm, State.DROPPED, n, reason=reason)
            return dropped

    def _knows(self, firing: Firing) -> bool:
        return bool(self.query("SELECT 1 FROM firings WHERE id = ?", (firing.id,)))

    def _has_share(self, alarm: str) -> bool:
        """Return whether an alarm may add firings to a full outbox, because few of its own wait."""
        share = self.bounds[State.WAITING].count // SHARE
        sql = "SELECT 1 FROM firings WHERE state = ? AND alarm = ? LIMIT 1 OFFSET ?"
        return share > 0 and not self.query(sql, (State.WAITING, alarm, share - 1))

    def _warn_of_refusals(self, n: int) -> None:
        self._refused += n
        now = time.monotonic()
        if now - self._warned_at >= WARN_EVERY:
            bound = self.bounds[State.WAITING]
            text = (
                f"the outbox is full: {self._refused} firings were dropped, and more will be until some are delivered. "
                f"At most {bound.count:,}, or {bound.size:,} bytes of them, may wait. `alarm-mw status` shows which "
                "alarm cannot be delivered, and why"
            )
            log.error("%s", text)
            self.on_fault(text, "outbox full")
            self._refused, self._warned_at = 0, now

    def _bury(self, alarm: str, unreadable: Sequence[tuple[int, str]]) -> None:
        if not unreadable:
            return
        with self.transaction() as transaction:
            for seq, error in unreadable:
                self._write_outcome(transaction, [seq], {alarm: 1}, Outcome(State.DEAD, 0, error, Reason.UNREADABLE))
        log.error("alarm %s: %d firings in the outbox cannot be read: %s", alarm, len(unreadable), unreadable[0][1])

    def _write_outcome(
        self, transaction: Transaction, seqs: Sequence[int], alarms: Mapping[str, int], outcome: Outcome
    ) -> None:
        """Write the outcome of these firings; `alarms` is their number by alarm."""
        self.move(seqs, State.WAITING, outcome.state)
        if self._begun:
            self._begun.difference_update(seqs)
        columns = (outcome.state, outcome.attempts, outcome.error, outcome.reason or "", self._now())
        self._database.executemany(
            "UPDATE firings SET state = ?, attempts = ?, error = ?, reason = ?, done = ? WHERE seq = ?",
            [(*columns, seq) for seq in seqs],
        )
        self._prune(outcome.state)
        for alarm, n in alarms.items():
            transaction.count(alarm, outcome.state, n, reason=outcome.reason)
        if self._again and outcome.state is State.DELIVERED:
            self._count_again(transaction, self._again.intersection(seqs))

    def _count_again(self, transaction: Transaction, seqs: Iterable[int]) -> None:
        for seq in seqs:
            ((alarm,),) = self.query("SELECT alarm FROM firings WHERE seq = ?", (seq,))
            transaction.count(cast("str", alarm), "delivered_again")

    def _read(self, rows: Sequence[tuple[int, bytes, int, float]]) -> tuple[list[Entry], list[tuple[int, str]]]:
        """Return the readable entries, and the numbers and errors of the others."""
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

    @property
    def _database(self) -> sqlite3.Connection:
        return self._failover.database

    def _default_bounds(self) -> Bounds:
        """Return the limits of a file or of memory; a full disk must not evict the dead letters of a file."""
        if not self.has_file:
            return IN_MEMORY
        return {**ON_DISK, State.WAITING: IN_MEMORY[State.WAITING]} if self._failover.is_open else ON_DISK

    def _recover(self, error: sqlite3.Error) -> bool:
        """Continue without the file where it fails; return whether the change can be repeated at once."""
        if not self.is_durable:
            return False
        if is_broken(error):
            self._replace(str(error))
            return True
        if not self._failover.failed(error):
            return False
        if is_foreign(error):
            self._replace(str(error))
            return True
        return self._fail_over(error) and not is_busy(error)

    def _fail_over(self, error: sqlite3.Error) -> bool:
        """Continue with a copy in memory; return False where there is nothing to copy."""
        is_partial = False
        try:
            copy = copied(self._database)
        except sqlite3.Error:  # it cannot be read either
            if not self._knows_all():
                return False
            copy, is_partial = self._rescued(None), True
            self._note_loss()
        self._failover.fail_over(copy, is_partial=is_partial)
        self._reload()
        self._report(unwritable(Path(self.path), error))
        return True

    def _replace(self, what: str) -> None:
        """Move the file aside, and start a new one with what is known and what can be read of the old one."""
        copy = self._rescued(self._database)
        self._note_loss()
        text = f"the outbox {self.path} is damaged: {what}. {self._failover.replace(copy)}"
        lost = self._count_lost()
        self._reload()
        waiting = self.stock[State.WAITING].count
        text += f", and a new one is started with {waiting:,} waiting firings"
        if lost:
            text += f"; {lost:,} more could not be read, and are counted as dropped"
        if self._fail_back():
            self._report(text)
            self.fault = ""
        else:
            self._report(f"{text}. It cannot be written: alarms go on from memory until it can")
        self.on_replacement()

    def _note_loss(self) -> None:
        """Take note that only firings, counts and the limiters' memory were copied."""
        self.losses += 1
        if self._positions is not None:
            self._positions.note_all()

    def _fail_back(self) -> bool:
        """Use the file again if it can be written; return whether it can."""
        if not self._failover.fail_back():
            return False
        self._reload()
        if self._failover.is_beside:
            self._failover.is_beside = False
            written = self._read_ledger()
            self.ledger.add({key: n - self._written.get(key, 0) for key, n in written.items()})
            self._written = written
            self._known.clear()
            self._known.fill(self._read_waiting())
            self._last = self._read_last()
            self.bypasses += 1
            self._count_lost()
            self.on_arrival(self.count_waiting())
        return True

    def _rescued(self, file: sqlite3.Connection | None) -> JournaledConnection:
        return rescued(file, self._known, self._written, self._saved, self._last, is_all_known=self._knows_all())

    def _knows_all(self) -> bool:
        return len(self._known) == self.stock[State.WAITING].count

    def _count_lost(self) -> int:
        """Correct the ledger by the firings that wait: missing ones count as dropped, extra ones as retried."""
        rows = Ledger(self._written).books()["alarms"].items()
        differences = difference({alarm: row["waiting"] for alarm, row in rows}, self.count_waiting())
        for alarm, n in differences.items():
            if n > 0:
                self.ledger.alarm(alarm, State.DROPPED, n, reason=Reason.OUTBOX_FAILED)
            else:
                self.ledger.alarm(alarm, "retried", -n)
        return sum(n for n in differences.values() if n > 0)

    def _report(self, fault: str) -> None:
        self.fault = fault
        log.error("%s", fault)
        self.on_fault(fault, "outbox")

    def _check_growth(self) -> None:
        rows = self._database.total_changes
        if rows - self._rows >= CHECKPOINT_EVERY and self.is_durable:
            self._rows = rows
            self.on_growth()

    def _reload(self) -> None:
        """Read the amounts of the database that is now in use."""
        self._rows = self._database.total_changes
        self.stock = self.read_stock()
        self.bounds = self._bounds_wanted(self._default_bounds())

    def _has_room(self, blob: bytes) -> bool:
        return (self.stock[State.WAITING] + Amount(1, len(blob))).fits(self.bounds[State.WAITING])

    def _prune(self, state: State) -> None:
        """Evict the oldest firings of a state beyond its limit, and from time to time all expired history."""
        if self._history_days is not None and self._now() >= self._forget_at:
            self._forget(self._now() - self._history_days * DAY)
            self._forget_at = self._now() + FORGET_EVERY
        bound = self.bounds[state]
        if self.stock[state].fits(with_slack(bound)):
            return
        rows = self.query("SELECT seq, LENGTH(firing) FROM firings WHERE state = ? ORDER BY seq", (state,))
        doomed = []
        for seq, size in rows:
            if self.stock[state].fits(bound):
                break
            self.stock[state] -= Amount(1, cast("int", size))
            doomed.append((seq,))
        else:  # none is left, whatever the amounts said
            self.stock[state] = Amount()
        self._database.executemany("DELETE FROM firings WHERE seq = ?", doomed)

    def _forget(self, before: float) -> None:
        """Delete what was settled before that time, except dead letters."""
        for state in (State.DELIVERED, State.DROPPED, State.HANDED_OVER):
            where = "WHERE state = ? AND done < ?"
            sql = f"SELECT COUNT(*), COALESCE(SUM(LENGTH(firing)), 0) FROM firings {where}"  # noqa: S608  # no user input
            ((count, size),) = self.query(sql, (state, before))
            self.stock[state] -= Amount(cast("int", count), cast("int", size))
            self.change(f"DELETE FROM firings {where}", (state, before))  # noqa: S608  # no user input

    def _restore_ages(self) -> None:
        """Make waiting firings at least as old as they were known to be: the clock may have been set back."""
        with contextlib.suppress(sqlite3.Error):  # such as a full disk; then some appear younger than they are
            self._database.execute(
                "UPDATE firings SET taken = ? - age WHERE state = ? AND taken > ? - age",
                (self._opened, State.WAITING, self._opened),
            )

    def read_stock(self) -> Stock:
        """Count what the database holds: what `stock` says without counting."""
        rows = self.query("SELECT state, COUNT(*), SUM(LENGTH(firing)) FROM firings GROUP BY state")
        found = {state: Amount(cast("int", count), cast("int", size)) for state, count, size in rows}
        return {state: found.get(state, Amount()) for state in State}

    def _read_last(self) -> int:
        rows = self.query("SELECT seq FROM sqlite_sequence WHERE name = 'firings'")
        return cast("int", rows[0][0]) if rows else 0

    def _read_waiting(self) -> list[Row]:
        rows = self.query(
            "SELECT seq, id, alarm, state, firing, attempts, error, reason, taken, age, done FROM firings"
            " WHERE state = ? ORDER BY seq LIMIT ?",
            (State.WAITING, KNOWN.count),
        )
        return cast("list[Row]", rows)

    def _read_ledger(self) -> dict[Key, int]:
        rows = self.query("SELECT scope, name, col, n FROM ledger")
        return {cast("Key", (scope, name, column)): cast("int", n) for scope, name, column, n in rows}
