"""Where followed logs stand. Each transaction of the outbox writes what has changed, with the counts of the ledger.

A line is counted and its position moved under the outbox's lock, and its firings are written before the lock is
released: after a kill, the next master begins behind the last line whose firings are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: What writes a position, and what forgets one.
WRITE = "INSERT OR REPLACE INTO positions VALUES (?, ?)"
FORGET = "DELETE FROM positions WHERE name = ?"

#: The changes of positions by name; None for one that is forgotten.
Changes = dict[str, bytes | None]


class Positions:
    """Positions by name. Used under the outbox's lock only."""

    def __init__(self, saved: Mapping[str, bytes]) -> None:
        self._all = dict(saved)
        self._changed: set[str] = set()

    def update(self, changes: Mapping[str, bytes | None]) -> None:
        """Move positions; None forgets one."""
        for name, data in changes.items():
            if data is None:
                self._all.pop(name, None)
            else:
                self._all[name] = data
            self._changed.add(name)

    def all(self) -> dict[str, bytes]:
        """Return all positions."""
        return dict(self._all)

    def take_changes(self) -> Changes:
        """Return what has changed since the last call."""
        changed: Changes = {name: self._all.get(name) for name in self._changed}
        self._changed.clear()
        return changed

    def restore_changes(self, names: Iterable[str]) -> None:
        """Take back changes that could not be written, so that the next call returns them again."""
        self._changed.update(names)

    def note_all(self) -> None:
        """Have all written again: the file that held them is lost."""
        self._changed.update(self._all)
