"""Lists, retries or drops dead letters, and waiting firings whose alarm is not configured."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Literal, cast

import msgspec
from msgspec import structs

from alarm_mw.delivery.fallback import handed_over
from alarm_mw.delivery.outbox.entries import decode
from alarm_mw.delivery.outbox.limits import State
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.delivery.outbox.store import Transaction
from alarm_mw.model.keyvalue import did_you_mean
from alarm_mw.model.types import Firing, Reason

#: Maximum number of letters in one transaction.
PAGE = 500


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to do with which letters."""

    verb: Literal["list", "retry", "drop"]
    #: Numbers of letters; none for all.
    ids: tuple[int, ...] = ()
    #: Only those of these alarms; none for all.
    alarms: tuple[str, ...] = ()
    #: Include waiting firings whose alarm is not configured; a letter named by its number may always be one.
    waiting: bool = False
    #: The alarm that delivers them in place of their own.
    to: str = ""
    #: Maximum number of letters to list, the newest.
    limit: int = 1000


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A firing that was not delivered."""

    id: int
    alarm: str
    #: ``dead``; ``waiting`` for one whose alarm is not configured.
    state: str
    reason: str
    error: str
    attempts: int
    #: Seconds since the epoch: when it was taken into the outbox, and when it became a dead letter; 0 for never.
    taken: float
    died: float
    #: The message, with undecodable bytes escaped.
    message: str
    #: The name of its rule; its regexp where it has none.
    rule: str
    source: str
    #: The firing's id, as receivers know it.
    key: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an order."""

    letters: tuple[Letter, ...] = ()
    #: The number of letters that were found or changed.
    count: int = 0
    #: The number of waiting firings whose next attempt is made now.
    retried_now: int = 0
    #: A sentence for each letter that was refused.
    refused: tuple[str, ...] = ()


@dataclass(slots=True)
class _Row:
    seq: int
    alarm: str
    state: State
    blob: bytes
    attempts: int
    error: str
    reason: str
    taken: float
    done: float
    firing: Firing | None = field(init=False)

    def __post_init__(self) -> None:
        try:
            self.firing = decode(self.blob)
        except (ValueError, TypeError):
            self.firing = None


_COLUMNS = "seq, alarm, state, firing, attempts, error, reason, taken, done"


class DeadLetters:
    """The dead letters of an outbox. `configured` are the alarms of the master that uses it, if there is one.

    Safe to use from any thread; every call may block for disk reads and writes. Raises `sqlite3.Error`.
    """

    def __init__(self, outbox: Outbox, configured: Collection[str] = (), *, is_running: bool) -> None:
        self._outbox = outbox
        self._configured = frozenset(configured)
        self._is_running = is_running

    def carry_out(self, order: Order) -> Answer:
        """Carry out an order, and return the result."""
        if order.to and self._is_running and order.to not in self._configured:
            return Answer(refused=(f"there is no alarm {order.to!r}",))
        if order.verb == "list":
            return self._list(order)
        refused = list(self._missing(order))
        # Letters that are put back get higher numbers.
        ((end,),) = self._outbox.query("SELECT COALESCE(MAX(seq), 0) FROM firings")
        count, last = 0, 0
        while rows := self._rows(order, after=last, end=cast("int", end)):
            last = rows[-1].seq
            with self._outbox.transaction() as transaction:
                for row in rows:
                    if why_not := self._do(transaction, order, row):
                        refused.append(f"{row.seq}: {why_not}")
                    else:
                        count += 1
        return Answer(count=count, refused=tuple(refused))

    def _list(self, order: Order) -> Answer:
        where, arguments = self._where(order)
        ((count,),) = self._outbox.query(f"SELECT COUNT(*) FROM firings WHERE {where}", arguments)  # noqa: S608  # no user input
        newest = f"SELECT {_COLUMNS} FROM firings WHERE {where} ORDER BY seq DESC LIMIT ?"  # noqa: S608  # no user input
        rows = [_row(found) for found in self._outbox.query(newest, (*arguments, order.limit))]
        letters = tuple(_letter(row) for row in reversed(rows))
        return Answer(letters=letters, count=cast("int", count), refused=tuple(self._missing(order)))

    def _missing(self, order: Order) -> Iterator[str]:
        """Yield a sentence for each number without a letter, and each name without an alarm."""
        for number in order.ids:
            where, arguments = self._where(Order(verb="list", ids=(number,)))
            if not self._outbox.query(f"SELECT 1 FROM firings WHERE {where}", arguments):  # noqa: S608  # no user input
                yield f"{number}: there is no such dead letter"
        for alarm in (name for name in order.alarms if name not in self._configured):
            where, arguments = self._where(structs.replace(order, alarms=(alarm,)))
            if not self._outbox.query(f"SELECT 1 FROM firings WHERE {where} LIMIT 1", arguments):  # noqa: S608  # no user input
                yield f"{alarm}: no letter is of such an alarm{did_you_mean(alarm, self._configured)}"

    def _rows(self, order: Order, *, after: int, end: int) -> list[_Row]:
        where, arguments = self._where(order)
        sql = f"SELECT {_COLUMNS} FROM firings WHERE {where} AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?"  # noqa: S608  # no user input
        return [_row(found) for found in self._outbox.query(sql, (*arguments, after, end, PAGE))]

    def _where(self, order: Order) -> tuple[str, tuple[object, ...]]:
        """Return an SQL condition and its arguments."""
        states: list[str] = ["state = ?"]
        arguments: list[object] = [State.DEAD]
        if order.waiting or order.ids:
            marks = ", ".join("?" * len(self._configured))
            states.append(f"(state = ? AND alarm NOT IN ({marks}))")
            arguments += [State.WAITING, *self._configured]
        parts = [f"({' OR '.join(states)})"]
        for column, values in (("seq", order.ids), ("alarm", order.alarms)):
            if values:
                parts.append(f"{column} IN ({', '.join('?' * len(values))})")
                arguments += values
        return " AND ".join(parts), tuple(arguments)

    def _do(self, transaction: Transaction, order: Order, row: _Row) -> str:
        """Carry out an order on one letter; return why that is impossible, or an empty string."""
        if order.verb == "drop":
            self._drop(transaction, row)
            return ""
        if row.firing is None:
            return "it cannot be read"
        if order.to and order.to != row.alarm:
            self._hand_over(transaction, row, row.firing, order.to)
            return ""
        if self._is_running and row.alarm not in self._configured:
            return f"the alarm {row.alarm!r} is not configured; name another one by --as"
        if row.state is State.DEAD:
            self._put_back(transaction, row, row.firing)
        return ""

    def _drop(self, transaction: Transaction, row: _Row) -> None:
        if row.state is State.WAITING:
            transaction.count(row.alarm, State.DROPPED, reason=Reason.DISCARDED)
        self._remove(row)

    def _put_back(self, transaction: Transaction, row: _Row, firing: Firing) -> None:
        """Put a letter behind all waiting firings, where its lane looks."""
        self._remove(row)
        self._outbox.bypasses += 1
        self._outbox.insert(firing, row.blob, row.attempts)
        transaction.count(row.alarm, "retried")

    def _hand_over(self, transaction: Transaction, row: _Row, firing: Firing, to: str) -> None:
        if row.state is State.DEAD:
            transaction.count(row.alarm, "retried")
        transaction.count(row.alarm, State.HANDED_OVER)
        self._outbox.move([row.seq], row.state, State.HANDED_OVER)
        self._outbox.change("UPDATE firings SET state = ? WHERE seq = ?", (State.HANDED_OVER, row.seq))
        self._outbox.take_over(transaction, handed_over(firing, to))

    def _remove(self, row: _Row) -> None:
        self._outbox.move([row.seq], row.state, None)
        self._outbox.change("DELETE FROM firings WHERE seq = ?", (row.seq,))


def _row(found: tuple[object, ...]) -> _Row:
    seq, alarm, state, *others = found
    return _Row(seq, alarm, State(str(state)), *others)  # type: ignore[arg-type]  # as the schema has them


def _letter(row: _Row) -> Letter:
    firing = row.firing
    return Letter(
        id=row.seq,
        alarm=row.alarm,
        state=row.state,
        reason=row.reason,
        error=row.error,
        attempts=row.attempts,
        taken=row.taken,
        died=row.done,
        message=firing.message.decode("utf-8", "backslashreplace") if firing is not None else "",
        rule=_rule_of(firing) if firing is not None else "",
        source=firing.record.source if firing is not None else "",
        key=firing.id if firing is not None else "",
    )


def _rule_of(firing: Firing) -> str:
    """Return the name of the rule that a firing comes from; its regexp where it has none."""
    return (firing.trigger.name if firing.trigger is not None else "") or firing.rule
