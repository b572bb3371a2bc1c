"""What came of one fault: a row of the table."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from alarm_mw.engine.ledger import Books, Key, Ledger, imbalances

#: What was held back because it had been fired already: no loss. No two alarms have the same text, so that one with the
#: text of the last is that one, read again by the next master.
_KNOWN = frozenset({"duplicate", "echo", "same_message"})


COLUMNS = ("times", "accepted", "delivered", "again", "dead", "held back, dropped", "lost")


@dataclass(frozen=True, slots=True)
class Row:
    """One fault, how often it was injected, and what became of the alarms meanwhile."""

    fault: str
    times: int
    #: What the server is certain to have printed or logged.
    accepted: int
    #: Firings of the ledger that were delivered.
    delivered: int
    #: Deliveries that the receiver took again, under the same id.
    again: int
    #: Dead letters.
    dead: int
    #: Held back, dropped or not judged, by reason.
    counted: Mapping[str, int] = field(default_factory=dict)
    #: What was accepted, and is neither delivered, nor a dead letter, nor counted.
    lost: int = 0
    #: What is not as it should be.
    complaints: tuple[str, ...] = ()

    def cells(self) -> tuple[str, ...]:
        """Return what stands in each of the columns."""
        numbers = (self.times, self.accepted, self.delivered, self.again, self.dead)
        counted = ", ".join(f"{reason}: {n:,}" for reason, n in self.counted.items()) or "0"
        return (*(f"{n:,}" for n in numbers), counted, f"{self.lost:,}")


@dataclass(frozen=True, slots=True)
class Outbox:
    """What an outbox holds, read from its file by another process."""

    books: Books
    waiting: Mapping[str, int]
    #: The ids of firings, by state.
    ids: Mapping[str, frozenset[str]]

    @classmethod
    def read(cls, file: Path) -> Outbox:
        """Read a copy, so that the next master finds the file as the last one has left it."""
        with tempfile.TemporaryDirectory() as folder:
            for part in file.parent.glob(f"{file.name}*"):
                shutil.copy(part, folder)
            return cls._read(Path(folder) / file.name)

    @classmethod
    def _read(cls, file: Path) -> Outbox:
        with closing(sqlite3.connect(file)) as database:
            ((verdict,),) = database.execute("PRAGMA integrity_check")
            assert verdict == "ok", verdict
            if not database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'memory'").fetchall():
                return cls({"sources": {}, "alarms": {}, "rules": {}}, {}, {})  # its master has died before it was made
            ledger = database.execute("SELECT scope, name, col, n FROM ledger").fetchall()
            firings = database.execute("SELECT id, alarm, state FROM firings").fetchall()
        counts = cast("dict[Key, int]", {(scope, name, column): n for scope, name, column, n in ledger})
        states = {state for _, _, state in firings}
        return cls(
            Ledger(counts).books(),
            Counter(alarm for _, alarm, state in firings if state == "waiting"),
            {state: frozenset(one for one, _, its in firings if its == state) for state in states},
        )

    def imbalances(self) -> list[str]:
        return imbalances(self.books, self.waiting)


def counts(books: Books, alarm: str = "a") -> Counter[str]:
    """Return how much of an alarm was held back, dropped or not judged, by reason."""
    found: Counter[str] = Counter()
    if (book := books["alarms"].get(alarm)) is not None:
        found.update({why: n for why, n in book["held_back"].items() if why not in _KNOWN})
        found.update(book["dropped"])
    for source in books["sources"].values():
        found.update(source["skipped"])
    return found


def judge(  # noqa: PLR0917  # the facts of a row
    fault: str,
    times: int,
    outbox: Outbox,
    accepted: Collection[int],
    received: Mapping[int, Mapping[str, int]],
    alarm: str = "a",
) -> Row:
    """Return the row of an alarm; `received` tells under which ids each message came, and how often."""
    book = outbox.books["alarms"][alarm]
    counted = counts(outbox.books, alarm)
    dead = sum(book["dead"].values())
    missing = len(set(accepted) - set(received))
    doubled = sum(len(ids) > 1 for ids in received.values())
    complaints = outbox.imbalances()
    complaints += [f"{doubled} messages came under two ids"] if doubled else []
    complaints += [f"{book['waiting']} firings wait"] if book["waiting"] else []
    return Row(
        fault,
        times,
        len(accepted),
        book["delivered"],
        sum(n - 1 for ids in received.values() for n in ids.values()),
        dead,
        {why: n for why, n in counted.items() if n},
        max(0, missing - dead - sum(counted.values())),
        tuple(complaints),
    )
