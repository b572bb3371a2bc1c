"""Counts what becomes of lines that are not sent, in memory that another process may read."""

from __future__ import annotations

import itertools
import re
import threading
from typing import TypeAlias

from alarm_mw.transports.wire import MAX_SOURCE, Counts

#: The outcome of a line that no rule can match: it is what nearly every record becomes.
SCREENED = "screened_out"

#: The sizes of the header and of a row, in words of eight bytes. A row has a count, two words for its reader's
#: bookkeeping, and a name such as ``logging skipped:queue_full``, which is filled up with zeros.
HEADER = 16
ROW = 16
NAME = 3

#: How many rows there are; the last ones are kept for `OTHERS`.
MAX_ROWS = 127
_FOR_OTHERS = 32

#: The bytes of a tally.
TALLY_SIZE = 8 * (HEADER + MAX_ROWS * ROW)

#: The word of the header that says how many rows are in use.
ROWS = 1

#: The source under which lines are counted whose own cannot have a row.
OTHERS = "others"

_SOURCE = re.compile(rf"[!-~]{{1,{MAX_SOURCE}}}")

#: Words of memory, as a `memoryview` of the format ``Q``.
Words: TypeAlias = "memoryview[int]"


class Tally:
    """Counters that never block: they are used inside of log calls and signal handlers.

    Each counts one outcome of the lines of one source, so that whoever reads them at any moment finds a line together
    with what became of it. ``words[place] += n`` runs no other bytecode between its reading and its writing where
    CPython may switch threads, so that threads do not lose each other's counts.
    """

    def __init__(self, memory: memoryview | None = None) -> None:
        """Count in `memory`, `TALLY_SIZE` bytes of zeros; None for memory of its own."""
        self._memory = memoryview(bytearray(TALLY_SIZE)) if memory is None else memory
        self._words: Words = self._memory.cast("Q")
        #: Where each outcome of each source is counted.
        self._places: dict[str, dict[str, int]] = {}
        self._numbers = itertools.count()
        self._taken: dict[int, int] = {}
        self._taking = threading.Lock()

    def add(self, source: str, outcome: str, n: int = 1) -> None:
        """Count `n` lines of a source by their outcome: a column of the ledger, beside ``lines``."""
        try:
            self._words[self._places[source][outcome]] += n
        except KeyError:
            self._words[self._place(source, outcome)] += n

    def take(self) -> Counts:
        """Return what was counted since the last call; nothing while another thread is doing so."""
        if not self._taking.acquire(blocking=False):
            return {}
        try:
            counts: Counts = {}
            for place in places_of(self._words):
                n = self._words[place]
                if more := n - self._taken.get(place, 0):
                    enter(counts, *name_of(self._memory, place), more)
                    self._taken[place] = n
            return counts
        finally:
            self._taking.release()

    def move(self, memory: memoryview, *, with_counts: bool) -> None:
        """Count in other memory of zeros from now on, and where that is asked for, have the counts so far there too."""
        before, words = self._words, memory.cast("Q")
        self._copy_names(memory, words)
        self._memory, self._words = memory, words
        self._copy_names(memory, words)  # another thread may have made a row meanwhile
        if with_counts:
            for places in list(self._places.values()):
                for place in list(places.values()):
                    words[place] += before[place]

    def _place(self, source: str, outcome: str) -> int:
        """Return where an outcome is counted that was not counted before."""
        is_full = self._words[ROWS] >= MAX_ROWS - _FOR_OTHERS
        if source != OTHERS and (is_full or not _SOURCE.fullmatch(source)):
            return self._places.get(OTHERS, {}).get(outcome) or self._place(OTHERS, outcome)
        place = HEADER + min(next(self._numbers), MAX_ROWS - 1) * ROW
        self._places.setdefault(source, {})[outcome] = place
        self._write_name(self._memory, self._words, place, f"{source} {outcome}")
        return place

    def _copy_names(self, memory: memoryview, words: Words) -> None:
        for source, places in list(self._places.items()):
            for outcome, place in list(places.items()):
                self._write_name(memory, words, place, f"{source} {outcome}")

    def _write_name(self, memory: memoryview, words: Words, place: int, name: str) -> None:
        begin, data = 8 * (place + NAME), name.encode("ascii")
        memory[begin : begin + len(data)] = data
        words[ROWS] = max(words[ROWS], (place - HEADER) // ROW + 1)


def places_of(words: Words) -> range:
    """Return where the rows are that are in use, by what a process has written there."""
    return range(HEADER, HEADER + min(words[ROWS], MAX_ROWS) * ROW, ROW)


def name_of(memory: memoryview, place: int) -> tuple[str, str]:
    """Return the source and the outcome of a row; an empty outcome while another thread is writing them."""
    name = bytes(memory[8 * (place + NAME) : 8 * (place + ROW)]).rstrip(b"\0").decode("ascii", "replace")
    source, _, outcome = name.partition(" ")
    return source, outcome


def enter(counts: Counts, source: str, outcome: str, n: int) -> None:
    """Count lines and what became of them."""
    columns = counts.setdefault(source, {})
    for column in ("lines", outcome):
        columns[column] = columns.get(column, 0) + n
