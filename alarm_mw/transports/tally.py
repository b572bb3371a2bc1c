"""Counts in the application what is not sent to the master."""

from __future__ import annotations

import threading

from alarm_mw.transports.wire import Counts


class Tally:
    """Counters that never block: they are used inside of log calls and signal handlers.

    ``counter[key] += n`` runs no other bytecode between its reading and its writing where CPython may switch threads,
    so that threads do not lose each other's counts.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._taken: dict[tuple[str, str], int] = {}
        self._taking = threading.Lock()

    def add(self, source: str, column: str, n: int = 1) -> None:
        """Add `n` to a ledger column of a source."""
        key = (source, column)
        if key not in self._counts:
            self._counts.setdefault(key, 0)
        self._counts[key] += n

    def take(self) -> Counts:
        """Return what was counted since the last call; nothing while another thread is doing so."""
        if not self._taking.acquire(blocking=False):
            return {}
        try:
            return self._take()
        finally:
            self._taking.release()

    def _take(self) -> Counts:
        counts: Counts = {}
        for key, n in list(self._counts.items()):
            if new := n - self._taken.get(key, 0):
                self._taken[key] = n
                counts.setdefault(key[0], {})[key[1]] = new
        return counts

    def give_back(self, counts: Counts) -> None:
        """Count again what was taken but could not be sent."""
        for source, columns in counts.items():
            for column, n in columns.items():
                self.add(source, column, n)
