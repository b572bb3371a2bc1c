"""The outbox: firings wait here until they are delivered, and the ledger's counts are written down with them.

SQLite in both forms: a file under a master process, memory in-process. What one transaction took survives the death
of the process; what the file cannot take (disk full) raises, and the caller counts it. What is too much to wait is
refused and counted; what is done is forgotten in time, the oldest first.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import cast

from alarm_mw.delivery.outbox.codec import decode, encode
from alarm_mw.delivery.outbox.stock import HISTORY, Amount, State
from alarm_mw.delivery.outbox.store import Store, tried_twice
from alarm_mw.delivery.outbox.transaction import Transaction
from alarm_mw.delivery.outbox.under_way import UnderWay
from alarm_mw.model.types import Firing, Reason

__all__ = ["HISTORY", "Entry", "Outbox", "Outcome", "Settlement", "State", "Taken"]

log = logging.getLogger(__name__)

#: One part in so many of what may wait is each alarm's own: what one receiver does not take silences no other alarm.
SHARE = 100

#: Seconds between two lines in the log that say that the outbox is full.
WARN_EVERY = 60.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A firing in the outbox. `seq` grows with the order in which firings were taken."""

    seq: int
    firing: Firing
    #: Failed attempts so far, in earlier processes too.
    attempts: int = 0
    #: Seconds for which it has been waiting in this process, when it was read.
    since: float = 0.0
    #: Seconds for which it was waiting before, by the clocks of earlier processes.
    before: float = 0.0
    #: When it was read, in `time.monotonic`'s seconds.
    read_at: float = field(default_factory=time.monotonic, compare=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a firing in the end."""

    state: State
    attempts: int
    error: str = ""
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of firings that were delivered, or not, as one."""

    entries: Sequence[Entry]
    outcome: Outcome
    #: The firing of another alarm that takes their place.
    successor: Firing | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What the outbox has taken, in order."""

    entries: list[Entry]
    #: How often something had come into it by another way by then.
    detours: int


class Outbox(Store):
    """What waits, and what becomes of it. Safe to use from any thread; every call may block for a disk write."""

    _refused = 0
    _warned_at = -WARN_EVERY
    #: What is being delivered, for the next master; None where there will be none.
    under_way: UnderWay | None = None
    #: The numbers of firings that an earlier master may have delivered.
    _again: frozenset[int] = frozenset()

    def resume(self, under_way: UnderWay) -> None:
        """Go on where a master was killed: what it had delivered is settled; what it had begun may come twice.

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
        self, firings: Sequence[Firing], book: Callable[[Firing, bool], None], memory: bytes | None = None
    ) -> Taken:
        """Write firings down, in one transaction with the ledger, and return those that wait in it now.

        `memory` takes the place of what the limiters remembered; None leaves that as it is.

        `book(firing, is_new)` is called for each before the ledger is written, to enter it there as fired when it is
        new. New ones that the outbox has no room for are counted here, as dropped. Raises `sqlite3.Error` when nothing
        could be written.
        """
        entries = []
        refused: set[str] = set()
        with self.transaction() as transaction:
            if memory is not None:
                self._database.execute("INSERT OR REPLACE INTO memory VALUES (1, ?)", (memory,))
                self._saved = memory
            for firing in firings:
                blob = encode(firing)
                if not (self._has_room(blob) or self._has_share(firing.alarm)):
                    is_new = firing.id not in refused and not self._knows(firing)
                    if is_new:
                        refused.add(firing.id)
                        transaction.count(firing.alarm, State.DROPPED, reason=Reason.OUTBOX_FULL)
                elif is_new := (seq := self.insert(firing, blob)) is not None:
                    entries.append(Entry(seq, firing))
                book(firing, is_new)
            taken = Taken(entries, self.detours)
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

    def has_waiting(self, alarm: str) -> bool:
        """Return whether a firing of an alarm waits."""
        return bool(self.query("SELECT 1 FROM firings WHERE state = ? AND alarm = ? LIMIT 1", (State.WAITING, alarm)))

    @tried_twice
    def settle(self, *settlements: Settlement) -> None:
        """Write down what became of firings, in one transaction with the ledger.

        A successor waits from then on, whatever the bound, since it takes up the room that the others leave. Raises
        `sqlite3.Error` when nothing could be written; then nothing is counted, and it may be tried again.
        """
        with self.transaction() as transaction:
            for outcome, group in itertools.groupby(settlements, attrgetter("outcome")):
                entries = [entry for settlement in group for entry in settlement.entries]
                alarms = Counter(entry.firing.alarm for entry in entries)
                self._write_outcome(transaction, [entry.seq for entry in entries], alarms, outcome)
            for settlement in settlements:
                if settlement.successor is not None:
                    self.take_over(transaction, settlement.successor)

    @tried_twice
    def note_failure(self, entries: Iterable[Entry], attempts: int, error: str) -> None:
        """Write down how many attempts have failed, so that the next process knows. Raises `sqlite3.Error`."""
        now = self._now()
        with self.transaction():
            self._database.executemany(
                "UPDATE firings SET attempts = ?, error = ?, age = MAX(age, ? - taken) WHERE seq = ?",
                [(attempts, error, now, entry.seq) for entry in entries],
            )

    @tried_twice
    def drop_waiting(self, reason: Reason) -> dict[str, int]:
        """Give up what waits, and return how much of each alarm that was."""
        with self.transaction() as transaction:
            dropped = self.count_waiting()
            self._database.execute(
                "UPDATE firings SET state = ?, reason = ?, done = ? WHERE state = ?",
                (State.DROPPED, reason, self._now(), State.WAITING),
            )
            self._known.clear()
            self._stock[State.DROPPED] += self._stock[State.WAITING]
            self._stock[State.WAITING] = Amount()
            self._prune(State.DROPPED)
            for alarm, n in dropped.items():
                transaction.count(alarm, State.DROPPED, n, reason=reason)
            return dropped

    def _knows(self, firing: Firing) -> bool:
        return bool(self.query("SELECT 1 FROM firings WHERE id = ?", (firing.id,)))

    def _has_share(self, alarm: str) -> bool:
        """Return whether so little of an alarm waits that it finds room in an outbox which others have filled."""
        share = self._bounds[State.WAITING].count // SHARE
        sql = "SELECT 1 FROM firings WHERE state = ? AND alarm = ? LIMIT 1 OFFSET ?"
        return share > 0 and not self.query(sql, (State.WAITING, alarm, share - 1))

    def _warn_of_refusals(self, n: int) -> None:
        self._refused += n
        now = time.monotonic()
        if now - self._warned_at >= WARN_EVERY:
            bound = self._bounds[State.WAITING]
            text = (
                f"the outbox is full: {self._refused} firings were dropped, and more will be until some are delivered. "
                f"At most {bound.count:,}, or {bound.size:,} bytes of them, may wait. `alarm-mw status` tells which "
                "alarm cannot be delivered, and why"
            )
            log.error("%s", text)
            self.tell(text, "outbox full")
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
        """Write down what became of these firings; `alarms` tells how many of each alarm they are."""
        self.move(seqs, State.WAITING, outcome.state)
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
