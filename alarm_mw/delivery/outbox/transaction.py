"""A transaction of the outbox: firings, ledger and stock change together, or not at all."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from typing import Self

from alarm_mw.delivery.outbox.stock import Stock
from alarm_mw.engine.ledger import Key, Ledger
from alarm_mw.model.types import Reason

_UPSERT = "INSERT INTO ledger VALUES (?, ?, ?, ?) ON CONFLICT (scope, name, col) DO UPDATE SET n = excluded.n"


class Transaction:
    """BEGIN … COMMIT.

    When it fails, the stock is as it was, and what `count` was told is not counted. Other changes of the ledger stay,
    and are written down by the next transaction.
    """

    def __init__(self, database: sqlite3.Connection, ledger: Ledger, stock: Stock) -> None:
        self._database = database
        self._ledger = ledger
        self._stock = stock
        self._stock_before = dict(stock)
        self._counts: list[tuple[str, str, int, Reason | None]] = []
        #: What of the ledger was written down, at the end.
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
        try:
            self._commit([(*key, n) for key, n in changes.items()])
        except sqlite3.Error:
            self._enter_counts(-1)
            self._ledger.restore_changes(changes)
            self._roll_back()
            raise
        self.written = changes

    def _commit(self, rows: Sequence[tuple[str, str, str, int]]) -> None:
        self._database.executemany(_UPSERT, rows)
        self._database.execute("COMMIT")

    def _enter_counts(self, sign: int) -> None:
        for alarm, column, n, reason in self._counts:
            self._ledger.alarm(alarm, column, sign * n, reason=reason)

    def _roll_back(self) -> None:
        self._stock.update(self._stock_before)
        with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back by itself
            self._database.execute("ROLLBACK")
