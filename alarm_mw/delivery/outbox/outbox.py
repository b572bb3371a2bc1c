"""The outbox keeps firings until they are delivered, and writes the ledger's counts together with them.

What is too much to wait is refused and counted; what is done is forgotten in time, the oldest first. `store` is the
database below it, and what happens when its file fails.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Literal, cast

from alarm_mw.delivery.fallback import handed_over
from alarm_mw.delivery.outbox.database import Opened
from alarm_mw.delivery.outbox.entries import Entry, Outcome, Settlement, Taken, decode, encode, incident_of, origin_of
from alarm_mw.delivery.outbox.journal import Journal
from alarm_mw.delivery.outbox.limits import Amount, Bounds, State
from alarm_mw.delivery.outbox.store import Store, Transaction, tried_twice
from alarm_mw.delivery.outbox.under_way import UnderWay
from alarm_mw.engine.messages import named
from alarm_mw.model.types import Firing, Reason

log = logging.getLogger(__name__)

#: One part in `SHARE` of the outbox is reserved for each alarm: one that cannot be delivered silences no other.
SHARE = 100

#: Seconds between two log lines that say that the outbox is full.
WARN_EVERY = 60.0

#: Seconds for which a message about an incident must have waited, without an attempt, for its end to replace it: of a
#: receiver that works, each gets both.
MERGE_AFTER = 5.0

#: The statuses of messages that follow others about the same episode, and of those that an acknowledgement cancels.
_FOLLOWING = frozenset({"reminder", "flapping", "acknowledged", "resolved"})
_CANCELED = frozenset({"reminder", "escalated"})


def _status_of(firing: Firing) -> str:
    """Return what a message says of its incident; empty where it is about none."""
    return firing.trigger.incident.status if firing.trigger is not None and firing.trigger.incident is not None else ""


class Outbox(Store):
    """The firings of all alarms. Safe to use from any thread; every call may block for the time of a disk write.

    The arguments are those of `Store`.
    """

    def __init__(
        self,
        path: Path | Literal[":memory:"],
        bounds: Bounds | None = None,
        now: Callable[[], float] | None = None,
        opened: Opened | None = None,
        journal: Journal | None = None,
    ) -> None:
        super().__init__(path, bounds, now, opened, journal)
        #: Called with a later step of an escalation that was dropped behind an attempt, since somebody had acknowledged
        #: the incident meanwhile. Must not block.
        self.on_cancel: Callable[[Firing], object] = lambda _: None
        #: Called with the alarms that have delivered something, within the transaction that settles it.
        self.on_delivered: Callable[[Iterable[str]], object] | None = None
        #: Returns whether an alarm is delivered.
        self.has_lane: Callable[[str], bool] = lambda _: True
        #: The firings about incidents that lanes are trying at this moment.
        self._begun: set[int] = set()
        #: The firings being delivered, for the next master; None where there will be none.
        self.under_way: UnderWay | None = None
        #: The numbers of firings that an earlier master may have delivered.
        self._again: frozenset[int] = frozenset()
        self._refused = 0
        self._warned_at = -WARN_EVERY

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
        """Return whether a firing of this alarm waits."""
        return bool(self.query("SELECT 1 FROM firings WHERE state = ? AND alarm = ? LIMIT 1", (State.WAITING, alarm)))

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

    def _bury(self, alarm: str, unreadable: Sequence[tuple[int, str]]) -> None:
        if not unreadable:
            return
        with self.transaction() as transaction:
            for seq, error in unreadable:
                self._write_outcome(transaction, [seq], {alarm: 1}, Outcome(State.DEAD, 0, error, Reason.UNREADABLE))
        log.error("alarm %s: %d firings in the outbox cannot be read: %s", alarm, len(unreadable), unreadable[0][1])

    # What became of them

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

    def take_over(self, transaction: Transaction, firing: Firing) -> None:
        """Add a waiting firing that replaces one of another alarm."""
        transaction.count(firing.alarm, "taken_over")
        self.bypasses += 1
        if self.insert(firing, encode(firing)) is not None:
            transaction.count(firing.alarm, "fired")
        else:
            transaction.count(firing.alarm, "held_back", reason=Reason.DUPLICATE)

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

    def delivered_ages(self, alarm: str, seconds: float, limit: int) -> list[float]:
        """Return how long ago firings of an alarm were delivered, in the last `seconds`, the oldest first."""
        now = self._now()
        sql = "SELECT done FROM firings WHERE state = ? AND alarm = ? AND done > ? ORDER BY done DESC LIMIT ?"
        rows = self.query(sql, (State.DELIVERED, alarm, now - seconds, limit))
        return [max(now - cast("float", done), 0.0) for (done,) in reversed(rows)]

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
            if outcome.is_deferred:
                transaction.count(alarm, "deferred", n)
        if self.on_delivered is not None and outcome.state is State.DELIVERED:
            self.on_delivered(alarms)
        if self._again and outcome.state is State.DELIVERED:
            self._count_again(transaction, self._again.intersection(seqs))

    def _count_again(self, transaction: Transaction, seqs: Iterable[int]) -> None:
        for seq in seqs:
            ((alarm,),) = self.query("SELECT alarm FROM firings WHERE seq = ?", (seq,))
            transaction.count(cast("str", alarm), "delivered_again")

    # Messages about the same episode of an incident

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

    def end(self, seq: int) -> None:
        """Take note that an attempt has ended."""
        with self._lock:
            self._begun.discard(seq)

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

    def has_incidents(self) -> bool:
        """Return whether incidents are written down."""
        return bool(self.query("SELECT 1 FROM incidents LIMIT 1"))

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

    def _take_along(self, transaction: Transaction, entry: Entry, successor: Firing) -> None:
        """Hand over what waits behind a message about the same episode as well: it goes the same way."""
        if incident_of(successor) is not None:
            for other in self._about(incident_of(successor) or ""):
                if other.seq > entry.seq and other.firing.alarm == entry.firing.alarm:
                    self._hand_over(transaction, other, successor.alarm)

    def _merge(self, transaction: Transaction, firing: Firing) -> None:
        """Let a message about an end replace those about the same episode that have waited, and were never tried."""
        for entry in self._about(incident_of(firing) or ""):
            is_same = entry.firing.alarm == firing.alarm and entry.firing.id != firing.id
            is_same &= origin_of(entry.firing) == origin_of(firing)
            if is_same and not entry.attempts and entry.since + entry.before >= MERGE_AFTER:
                self._drop(transaction, entry, Reason.MERGED)

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

    @tried_twice
    def _drop_canceled(self, entry: Entry) -> None:
        with self.transaction() as transaction:
            self._drop(transaction, entry, Reason.ACKNOWLEDGED)
        self.on_cancel(entry.firing)

    def _is_canceled(self, settlement: Settlement) -> bool:
        """Return whether somebody has acknowledged the incident while its message was tried, and to be handed over."""
        entry = settlement.entries[0]
        if settlement.successor is None or incident_of(entry.firing) is None:
            return False
        rows = self.query("SELECT reason FROM firings WHERE seq = ?", (entry.seq,))
        return bool(rows) and rows[0][0] == Reason.ACKNOWLEDGED
