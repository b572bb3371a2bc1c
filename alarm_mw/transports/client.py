"""The interface of a transport, the counts that it sends, and what stands in where there is no master."""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeAlias

from alarm_mw.engine.request_rules import NOTHING, Decision
from alarm_mw.model.errors import NotRunningError
from alarm_mw.model.types import Reason, Record
from alarm_mw.patterns.record_prefilter import RecordPrefilter
from alarm_mw.transports.wire import MAX_SOURCE, Counts, MetricChange

log = logging.getLogger("alarm_mw")

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

    Each counts one outcome of the lines of one source, so that a reader at any moment finds a line together
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


#: How many records and changes of metrics are kept while the way to the master is being made.
MAX_EARLY = 1000


class Client(Protocol):
    """A way to a master."""

    def prefilter(self) -> RecordPrefilter | None:
        """Return the prefilter for records: it finds those that no rule can match; None where there is none here."""
        ...

    def decision(self) -> Decision:
        """Return which requests concern a rule, by the configuration; the same one until that changes."""
        ...

    def submit(self, record: Record, alarm: str | None = None) -> bool:
        """Give a record to the master, or an alarm past the rules; return whether it was taken."""
        ...

    def count(self, source: str, outcome: str, n: int = 1) -> None:
        """Count lines of a source, without sending them, by what became of them: `SCREENED`, or ``skipped:REASON``."""
        ...

    def change_metric(self, change: MetricChange) -> bool:
        """Give a change of a metric to the master; return whether it was taken."""
        ...

    def metrics(self) -> dict[str, int]:
        """Return the application's metrics as the master has them; may block."""
        ...

    def prints_are_read(self) -> bool:
        """Return whether the master also sees what this process prints."""
        ...

    def shutdown(self, timeout: float) -> bool:
        """Deliver what was submitted; return whether that was done within `timeout` seconds."""
        ...

    def forget(self) -> None:
        """Let go, in a forked child, of what belongs to its parent."""
        ...


class Nowhere:
    """No master, and `init` was not called: says so once, and drops."""

    def __init__(self, *, has_logged: bool = False) -> None:
        self._has_logged = has_logged

    def prefilter(self) -> None:
        """Let it come to `submit`, which reports it."""

    def decision(self) -> Decision:
        """Return the one of no conditions."""
        return NOTHING

    def submit(self, record: Record, alarm: str | None = None) -> bool:  # noqa: ARG002  # a Client's
        """Drop it."""
        return self._log_once()

    def change_metric(self, change: MetricChange) -> bool:  # noqa: ARG002  # a Client's
        """Drop it."""
        return self._log_once()

    def metrics(self) -> dict[str, int]:
        """Raise `NotRunningError`."""
        raise NotRunningError("metrics are counted by a master: `alarm-mw run --`, or alarm_mw.init()")

    def _log_once(self) -> bool:
        if not self._has_logged:
            self._has_logged = True
            log.warning("alarms go nowhere: start the server with `alarm-mw run --`, or call alarm_mw.init()")
        return False

    def count(self, source: str, outcome: str, n: int = 1) -> None:
        """Do nothing: there is no ledger to count in."""

    def prints_are_read(self) -> bool:
        """Return False."""
        return False

    def shutdown(self, timeout: float) -> bool:  # noqa: ARG002  # a Client's
        """Return True: nothing waits."""
        return True

    def forget(self) -> None:
        """Do nothing: nothing is held."""


class Early(Nowhere):
    """Keeps what is submitted while another thread, or this one further up, is making the way to the master."""

    def __init__(self, find: Callable[[], Client | None]) -> None:
        """Ask `find` for the client that is there now, or None."""
        super().__init__()
        self._find = find
        self._kept: deque[Callable[[Client], object]] = deque()
        self._tally = Tally()

    def submit(self, record: Record, alarm: str | None = None) -> bool:
        """Keep it, or drop it where too much is kept; that is counted."""
        if self._keeps(lambda client: client.submit(record, alarm)):
            return True
        self.count(record.source, f"skipped:{Reason.QUEUE_FULL}")
        return False

    def change_metric(self, change: MetricChange) -> bool:
        """Keep it, or drop it where too much is kept."""
        return self._keeps(lambda client: client.change_metric(change))

    def count(self, source: str, outcome: str, n: int = 1) -> None:
        """Count lines, for the client that comes."""
        self._tally.add(source, outcome, n)

    def _keeps(self, call: Callable[[Client], object]) -> bool:
        if len(self._kept) >= MAX_EARLY:
            return False
        self._kept.append(call)
        if (client := self._find()) is not None:
            self.hand_over(client)
        return True

    def hand_over(self, client: Client) -> None:
        """Give what was kept and counted to the client that is there now."""
        with contextlib.suppress(IndexError):  # another thread took the last one
            while self._kept:
                self._kept.popleft()(client)
        for source, columns in self._tally.take().items():
            for outcome, n in columns.items():
                if outcome != "lines":
                    client.count(source, outcome, n)


class Late(Nowhere):
    """Delivers at once what is submitted after the end, as by `atexit` handlers that run after ours."""

    def __init__(self, start: Callable[[], Client], timeout: float) -> None:
        """Start a client for each submission by `start`, for `timeout` seconds in all."""
        super().__init__()
        self._start = start
        self._deadline = time.monotonic() + timeout

    def submit(self, record: Record, alarm: str | None = None) -> bool:
        """Deliver it; blocks, since the interpreter does not wait for anything any more."""
        if (left := self._deadline - time.monotonic()) <= 0:
            return False
        client = self._start()
        return client.submit(record, alarm) and client.shutdown(left)
