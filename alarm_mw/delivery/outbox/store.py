"""The database of the outbox: transactions with the ledger, limits, and how it survives a file that fails.

SQLite in both forms: a file under a master process, memory in-process. What one transaction wrote survives the death
of the process; what the file cannot take (disk full) raises, and the caller counts it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Concatenate, Literal, ParamSpec, Self, TypeVar, cast

from alarm_mw.delivery.outbox.clock import SteadyClock
from alarm_mw.delivery.outbox.database import VERSION, Opened, is_broken, is_foreign
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
from alarm_mw.engine.ledger import Key, Ledger
from alarm_mw.model.types import Firing, Reason
from alarm_mw.system.forks import new_lock

log = logging.getLogger(__name__)

#: Seconds in a day, and between two deletions of expired history.
DAY = 86_400.0
FORGET_EVERY = 600.0

#: Number of changed rows after which a checkpoint is due: about 50 single firings, or a thousand pages of 4 KB. With
#: many more, writers would have to wait for the disk.
CHECKPOINT_EVERY = 500

#: Maximum number of firings in one statement; SQLite has a limit.
MOST_AT_ONCE = 500

P = ParamSpec("P")
S = TypeVar("S", bound="Store")
T = TypeVar("T")


class ReplacedError(sqlite3.DatabaseError):
    """The file failed and was replaced by another one or by memory: the change can be repeated at once."""


def tried_twice(change: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Repeat a change once after `ReplacedError`."""

    @functools.wraps(change)
    def changing(store: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with store.still():
            try:
                return change(store, *args, **kwargs)
            except ReplacedError:
                return change(store, *args, **kwargs)

    return changing


def _ignore(text: str, key: str) -> None:
    """Do nothing: the fault is logged anyway."""


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


class Store:
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
        #: How often firings began to wait without `Outbox.take`.
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
                log.info("the outbox %s can be written again, and has what was kept in memory", self.path)
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

    def count_waiting(self) -> dict[str, int]:
        """Return how many firings wait, by alarm."""
        rows = self.query("SELECT alarm, COUNT(*) FROM firings WHERE state = ? GROUP BY alarm", (State.WAITING,))
        return {cast("str", alarm): cast("int", n) for alarm, n in rows}

    def count_letters(self) -> int:
        """Return the number of dead letters."""
        return self.stock[State.DEAD].count

    def read_stock(self) -> Stock:
        """Count what the database holds: what `stock` says without counting."""
        rows = self.query("SELECT state, COUNT(*), SUM(LENGTH(firing)) FROM firings GROUP BY state")
        found = {state: Amount(cast("int", count), cast("int", size)) for state, count, size in rows}
        return {state: found.get(state, Amount()) for state in State}

    # Faults of the file

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

    # Limits

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

    # What it holds when it is opened

    def _restore_ages(self) -> None:
        """Make waiting firings at least as old as they were known to be: the clock may have been set back."""
        with contextlib.suppress(sqlite3.Error):  # such as a full disk; then some appear younger than they are
            self._database.execute(
                "UPDATE firings SET taken = ? - age WHERE state = ? AND taken > ? - age",
                (self._opened, State.WAITING, self._opened),
            )

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
