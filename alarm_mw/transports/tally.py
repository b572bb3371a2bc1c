"""Counts in the application what is not sent to the master."""

from __future__ import annotations

import threading

from alarm_mw.transports.wire import Counts

#: Begins a column that counts the line as well. Both are one counter here, so that no packet has one without the other.
LINE_AND = "lines and "

#: Counts a line that no rule can match: it is what nearly every record becomes.
SCREENED = f"{LINE_AND}screened_out"


class Tally:
    """Counters that never block: they are used inside of log calls and signal handlers.

    ``counter[key] += n`` runs no other bytecode between its reading and its writing where CPython may switch threads,
    so that threads do not lose each other's counts.
    """

    def __init__(self) -> None:
        self._counts: Counts = {}
        self._taken: Counts = {}
        self._taking = threading.Lock()

    def add(self, source: str, column: str, n: int = 1) -> None:
        """Add `n` to a ledger column of a source, or to two of them where it begins with `LINE_AND`."""
        try:
            self._counts[source][column] += n
        except KeyError:
            self._counts.setdefault(source, {}).setdefault(column, 0)
            self._counts[source][column] += n

    def take(self) -> Counts:
        """Return what was counted since the last call; nothing while another thread is doing so."""
        if self._counts == self._taken or not self._taking.acquire(blocking=False):
            return {}
        try:
            return self._take()
        finally:
            self._taking.release()

    def _take(self) -> Counts:
        counts: Counts = {}
        for source, columns in list(self._counts.items()):
            taken, new = self._taken.setdefault(source, {}), columns.copy()
            for counted, n in new.items():
                if more := n - taken.get(counted, 0):
                    columns_of = counts.setdefault(source, {})
                    for column in _columns(counted):
                        columns_of[column] = columns_of.get(column, 0) + more
            taken.update(new)
        return counts

    def give_back(self, counts: Counts) -> None:
        """Count again what was taken but could not be sent."""
        for source, columns in counts.items():
            for column, n in columns.items():
                self.add(source, column, n)


def _columns(counted: str) -> tuple[str, ...]:
    column = counted.removeprefix(LINE_AND)
    return (column,) if column == counted else ("lines", column)
