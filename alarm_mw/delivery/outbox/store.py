"""The outbox's store: firings and ledger in one database, with a lock, and a bound for each state."""

from __future__ import annotations

import contextlib
import functools
import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Concatenate, Literal, ParamSpec, TypeVar, cast

from alarm_mw.delivery.outbox.clock import SteadyClock
from alarm_mw.delivery.outbox.codec import encode
from alarm_mw.delivery.outbox.database import VERSION, Opened, is_broken, is_foreign
from alarm_mw.delivery.outbox.journal import Journal, JournaledConnection
from alarm_mw.delivery.outbox.memory_failover import Refuge, is_busy, is_io_error, unwritable
from alarm_mw.delivery.outbox.opening import open_database, restored
from alarm_mw.delivery.outbox.rescue import KNOWN, KnownWaiting, Row, copied, difference, rescued
from alarm_mw.delivery.outbox.stock import IN_MEMORY, ON_DISK, Amount, Bounds, OutboxOptions, State, Stock, with_slack
from alarm_mw.delivery.outbox.transaction import Transaction
from alarm_mw.engine.ledger import Key, Ledger
from alarm_mw.model.types import Firing, Reason
from alarm_mw.system.forks import new_lock

log = logging.getLogger(__name__)


#: Seconds in a day, and between two looks for history that is too old.
DAY = 86_400.0
FORGET_EVERY = 600.0

#: After so many changed rows it is time for a checkpoint: some 50 single firings, a thousand pages of 4 KB. With many
#: more of them, whoever writes meanwhile waits for the disk after all.
CHECKPOINT_EVERY = 500

#: How many firings a statement names at most; SQLite has a limit.
MOST_AT_ONCE = 500


S = TypeVar("S", bound="Store")
P = ParamSpec("P")
T = TypeVar("T")


class ReplacedError(sqlite3.DatabaseError):
    """The file was at fault, and another one or memory has taken its place: what failed can be tried again at once."""


def tried_twice(change: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Make a change once more where the file was at fault (`ReplacedError`)."""

    @functools.wraps(change)
    def changing(store: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with store.still():
            try:
                return change(store, *args, **kwargs)
            except ReplacedError:
                return change(store, *args, **kwargs)

    return changing


def _tell_nobody(text: str, key: str) -> None:
    """Say nothing: the log has it."""


class Store:
    """Safe to use from any thread; every call may block for the time of a disk write.

    Where `path` cannot be written, it works in memory, and says so in the log; what it takes there goes into `journal`
    as well, which a later process may be given. `bounds` tells how much may be kept in
    each state, by default what suits a file or memory.
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
        self._refuge = Refuge(opened, Path(path), self._now, journal)
        #: Whether there is a file to which all that it holds belongs, be it that it cannot be written at present.
        self.has_file = opened.has_file
        #: How often something was to wait that `Outbox.take` has not taken.
        self.detours = 0
        #: What is or was wrong with the file, in a sentence; empty for nothing.
        self.fault = opened.fault
        #: Told of what goes wrong: a sentence for people, and a key under which it is the same again. May not block.
        self.tell: Callable[[str, str], object] = _tell_nobody
        #: Called when it is time for a checkpoint. May not block.
        self.on_growth: Callable[[], object] = lambda: None
        #: Called when another file has taken the place of the one that was opened. May not block.
        self.on_replacement: Callable[[], object] = lambda: None
        #: Told which alarms have firings that nobody has offered. May not block.
        self.on_arrival: Callable[[Iterable[str]], object] = lambda _: None
        #: How many rows had been changed in the database then.
        self._rows = 0
        self._bounds_wanted: Callable[[Bounds], Bounds] = lambda default: bounds or default
        self._bounds = self._bounds_wanted(self._default_bounds())
        #: Days for which history is kept; None for any time.
        self._history_days: float | None = None
        self._forget_at = 0.0
        self._stock = self._read_stock()
        self._believe_ages()
        #: The ledger as it was written down last.
        self._written = self._read_ledger()
        self.ledger = Ledger(self._written)
        #: The highest number of a firing.
        self._last = self._read_last()
        self._known = KnownWaiting()
        self._saved = self.memory() if self.has_file else None
        if self.has_file:
            self._known.fill(self._read_waiting())
            self._count_lost()

    def limit(self, options: OutboxOptions) -> None:
        """Keep so much from now on; what is too much makes way with the next change."""
        with self._lock:
            self._bounds_wanted = options.bounds
            self._bounds = options.bounds(self._default_bounds())
            self._history_days = options.history_days
            self._forget_at = 0.0

    @property
    def is_durable(self) -> bool:
        """Whether what it holds outlives the process."""
        return self.has_file and not self._refuge.is_open

    def regain(self) -> bool:
        """Write what was kept in memory into the file, where that is possible now; return whether it is durable."""
        with self._lock:
            if self._refuge.is_open and self._return():
                self.fault = ""
                log.warning("the outbox %s can be written again, and has what was kept in memory", self.path)
            return self.is_durable

    def memory(self) -> bytes | None:
        """Return what the limiters remembered when that was written down last."""
        rows = self.query("SELECT data FROM memory")
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

    @tried_twice
    def flush(self) -> None:
        """Write the ledger down, and something in any case. Raises `sqlite3.Error` when that is impossible."""
        with self.transaction():
            self.change(f"PRAGMA user_version = {VERSION}")

    def count_waiting(self) -> dict[str, int]:
        """Return how many firings wait, by alarm."""
        rows = self.query("SELECT alarm, COUNT(*) FROM firings WHERE state = ? GROUP BY alarm", (State.WAITING,))
        return {cast("str", alarm): cast("int", n) for alarm, n in rows}

    def count_letters(self) -> int:
        """Return how many dead letters lie in it."""
        return self._stock[State.DEAD].count

    def close(self) -> None:
        """Write everything down and close the database; log it when the former is impossible."""
        with self._lock:
            if self.has_file and not self.regain():
                log.error("the outbox %s still cannot be written: what was kept in memory is lost", self.path)
            try:
                self.flush()
            except sqlite3.Error as error:
                log.error("the outbox cannot be written, the last counts are lost: %s", error)
            self._refuge.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Change firings and ledger together, or, where an exception leaves the context, not at all."""
        with self._lock:
            if fault := self._refuge.fault():
                self._replace(fault)
            if self._refuge.is_return_due():
                self.regain()
            self._known.begin()
            try:
                with Transaction(self._database, self.ledger, self._stock) as transaction:
                    yield transaction
            except sqlite3.Error as error:
                if self._make_do(error):
                    raise ReplacedError(str(error)) from error
                raise
            self._known.commit()
            self._written.update(transaction.written)
            self._refuge.worked()
            self._refuge.shorten_journal()
            self._look_at_growth()

    def query(self, sql: str, arguments: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        """Return the rows of a SELECT. Raises `sqlite3.Error`."""
        with self._lock:
            try:
                return self._database.execute(sql, arguments).fetchall()
            except sqlite3.Error as error:
                is_hopeless = self._database.in_transaction or not (is_broken(error) or is_io_error(error))
                if is_hopeless or not self._make_do(error):
                    raise
                return self._database.execute(sql, arguments).fetchall()

    def change(self, sql: str, arguments: tuple[object, ...] = ()) -> None:
        """Run a statement that changes rows, within a transaction; their amounts are the caller's to move."""
        self._database.execute(sql, arguments)

    def insert(self, firing: Firing, blob: bytes, attempts: int = 0) -> int | None:
        """Let a firing wait, within a transaction; return its number, or None where one with its id is known."""
        now = self._now()
        cursor = self._database.execute(
            "INSERT OR IGNORE INTO firings (id, alarm, state, firing, attempts, taken) VALUES (?, ?, ?, ?, ?, ?)",
            (firing.id, firing.alarm, State.WAITING, blob, attempts, now),
        )
        seq = cursor.lastrowid
        if cursor.rowcount <= 0 or seq is None:
            return None
        self._stock[State.WAITING] += Amount(1, len(blob))
        self._last = max(self._last, seq)
        if self.has_file:
            self._known.add((seq, firing.id, firing.alarm, State.WAITING, blob, attempts, "", "", now, 0.0, 0.0))
        return seq

    def take_over(self, transaction: Transaction, firing: Firing) -> None:
        """Let a firing wait that takes the place of another alarm's."""
        transaction.count(firing.alarm, "taken_over")
        self.detours += 1
        if self.insert(firing, encode(firing)) is not None:
            transaction.count(firing.alarm, "fired")
        else:
            transaction.count(firing.alarm, "held_back", reason=Reason.DUPLICATE)

    def move(self, seqs: Sequence[int], before: State, after: State | None) -> None:
        """Count firings among those of another state, within a transaction; None takes them out."""
        if before is State.WAITING:
            self._known.remove(seqs)
        for begin in range(0, len(seqs), MOST_AT_ONCE):
            page = seqs[begin : begin + MOST_AT_ONCE]
            marks = ", ".join("?" * len(page))
            # Fewer rows than numbers where somebody has emptied the table by hand.
            sql = f"SELECT COUNT(*), COALESCE(SUM(LENGTH(firing)), 0) FROM firings WHERE seq IN ({marks})"  # noqa: S608  # our own words
            ((count, size),) = self.query(sql, tuple(page))
            amount = Amount(cast("int", count), cast("int", size))
            self._stock[before] -= amount
            if after is not None:
                self._stock[after] += amount

    @property
    def _database(self) -> sqlite3.Connection:
        return self._refuge.database

    def _default_bounds(self) -> Bounds:
        """Return what suits where it lies; dead letters of a file are not to make way for a disk that is full."""
        if not self.has_file:
            return IN_MEMORY
        return {**ON_DISK, State.WAITING: IN_MEMORY[State.WAITING]} if self._refuge.is_open else ON_DISK

    def _make_do(self, error: sqlite3.Error) -> bool:
        """Go on without the file where it is at fault; return whether what failed can be tried again at once."""
        if not self.is_durable:
            return False
        if is_broken(error):
            self._replace(str(error))
            return True
        if not self._refuge.failed(error):
            return False
        if is_foreign(error):
            self._replace(str(error))
            return True
        return self._flee(error) and not is_busy(error)

    def _flee(self, error: sqlite3.Error) -> bool:
        """Go on from a copy in memory; return False where there is nothing to copy."""
        is_partial = False
        try:
            copy = copied(self._database)
        except sqlite3.Error:  # it cannot be read either
            if not self._knows_all():
                return False
            copy, is_partial = self._rescued(None), True
        self._refuge.flee(copy, is_partial=is_partial)
        self._moved()
        self._report(unwritable(Path(self.path), error))
        return True

    def _replace(self, what: str) -> None:
        """Begin a new file with what is known, and with what can be read of the old one, which is moved aside."""
        copy = self._rescued(self._database)
        text = f"the outbox {self.path} is damaged: {what}. {self._refuge.replace(copy)}"
        lost = self._count_lost()
        self._moved()
        waiting = self._stock[State.WAITING].count
        text += f", and a new one is begun, with {waiting:,} firings that wait"
        if lost:
            text += f"; {lost:,} more could not be read, and are counted as dropped"
        if self._return():
            self._report(text)
            self.fault = ""
        else:
            self._report(f"{text}. It cannot be written: alarms go on from memory until it can")
        self.on_replacement()

    def _return(self) -> bool:
        """Put the file in use again where it can be written; return whether that was so."""
        if not self._refuge.try_return():
            return False
        self._moved()
        if self._refuge.is_beside:
            self._refuge.is_beside = False
            written = self._read_ledger()
            self.ledger.add({key: n - self._written.get(key, 0) for key, n in written.items()})
            self._written = written
            self._known.clear()
            self._known.fill(self._read_waiting())
            self._last = self._read_last()
            self.detours += 1
            self._count_lost()
            self.on_arrival(self.count_waiting())
        return True

    def _rescued(self, file: sqlite3.Connection | None) -> JournaledConnection:
        return rescued(file, self._known, self._written, self._saved, self._last, is_all_known=self._knows_all())

    def _knows_all(self) -> bool:
        return len(self._known) == self._stock[State.WAITING].count

    def _count_lost(self) -> int:
        """Count what should wait and does not as dropped, and what waits and should not as put back."""
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
        self.tell(fault, "outbox")

    def _look_at_growth(self) -> None:
        rows = self._database.total_changes
        if rows - self._rows >= CHECKPOINT_EVERY and self.is_durable:
            self._rows = rows
            self.on_growth()

    def _moved(self) -> None:
        """Take note that another database is in use."""
        self._rows = self._database.total_changes
        self._stock = self._read_stock()
        self._bounds = self._bounds_wanted(self._default_bounds())

    def _has_room(self, blob: bytes) -> bool:
        return (self._stock[State.WAITING] + Amount(1, len(blob))).fits(self._bounds[State.WAITING])

    def _prune(self, state: State) -> None:
        """Cut a state's firings back to their bound, the oldest first; now and then, all history to its days."""
        if self._history_days is not None and self._now() >= self._forget_at:
            self._forget(self._now() - self._history_days * DAY)
            self._forget_at = self._now() + FORGET_EVERY
        bound = self._bounds[state]
        if self._stock[state].fits(with_slack(bound)):
            return
        rows = self.query("SELECT seq, LENGTH(firing) FROM firings WHERE state = ? ORDER BY seq", (state,))
        doomed = []
        for seq, size in rows:
            if self._stock[state].fits(bound):
                break
            self._stock[state] -= Amount(1, cast("int", size))
            doomed.append((seq,))
        else:  # none is left, whatever was believed
            self._stock[state] = Amount()
        self._database.executemany("DELETE FROM firings WHERE seq = ?", doomed)

    def _forget(self, before: float) -> None:
        """Take out what was done before that time, but dead letters."""
        for state in (State.DELIVERED, State.DROPPED, State.HANDED_OVER):
            where = "WHERE state = ? AND done < ?"
            sql = f"SELECT COUNT(*), COALESCE(SUM(LENGTH(firing)), 0) FROM firings {where}"  # noqa: S608  # our own words
            ((count, size),) = self.query(sql, (state, before))
            self._stock[state] -= Amount(cast("int", count), cast("int", size))
            self.change(f"DELETE FROM firings {where}", (state, before))  # noqa: S608  # our own words

    def _believe_ages(self) -> None:
        """Take what waits to be at least as old as it was known to be: the clock may have been set back since."""
        with contextlib.suppress(sqlite3.Error):  # such as a full disk; then some is younger than it is
            self._database.execute(
                "UPDATE firings SET taken = ? - age WHERE state = ? AND taken > ? - age",
                (self._opened, State.WAITING, self._opened),
            )

    def _read_stock(self) -> Stock:
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
