"""The memory that the application's processes share with the master: taken in, counted, let go when they have ended."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from alarm_mw.system.linux import EXHAUSTED
from alarm_mw.transports.shared import Region
from alarm_mw.transports.wire import Counts

log = logging.getLogger(__name__)

#: What the names of regions begin with that the supervisor keeps for the next master; then comes the process.
REGION = "region-"

#: A process has one region, and a second one after it has closed our descriptor; so many are no server's.
MAX_OF_PROCESS = 32


#: So much of the time may be spent on counting; there may be many processes.
SHARE = 0.05


class FdStore(Protocol):
    """Keeps a descriptor open for the next master, should this one die."""

    def keep(self, token: str, descriptor: int) -> None:
        """Keep a duplicate of it under this name."""
        ...

    def drop(self, token: str) -> None:
        """Close it."""
        ...


@dataclass(slots=True)
class _Kept:
    token: str
    process: int
    region: Region
    #: Nobody writes to it any more.
    is_final: bool = False


class Regions:
    """Belongs to the receiver's thread.

    `collections` returns `Ledger.collections`, and `inherited` are the regions that the last master has left.
    """

    def __init__(self, store: FdStore, collections: Callable[[], int], inherited: Mapping[str, int]) -> None:
        self._store = store
        self._collections = collections
        self._kept: dict[object, _Kept] = {}
        self._names = (f"{os.getpid()}-{n}" for n in itertools.count())
        #: What was counted, and is not known to be in the outbox.
        self._collected: list[_Kept] = []
        self._is_written = True
        #: When to count again, in `time.monotonic`'s seconds.
        self._next = 0.0
        for token, descriptor in inherited.items():
            # It was opened before: what fails now is this process.
            self._open(descriptor, token, int(token.removeprefix(REGION).partition("-")[0]))
            os.close(descriptor)

    def __bool__(self) -> bool:
        return bool(self._kept)

    def take_in(self, descriptor: int, process: int) -> Region | None:
        """Take in what a process has sent; None for what is none of ours, or too much. The descriptor is closed.

        Raises `OSError` where this process is exhausted: the next master can take it in.
        """
        try:
            if sum(kept.process == process for kept in self._kept.values()) >= MAX_OF_PROCESS:
                return None
            kept, is_new = self._open(descriptor, f"{REGION}{process}-{next(self._names)}", process)
            if is_new:
                self._store.keep(kept.token, descriptor)
            kept.is_final = False
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in EXHAUSTED:
                raise
            log.warning("the counts of process %d cannot be read: %s", process, error)
            return None
        else:
            return kept.region
        finally:
            os.close(descriptor)

    def of(self, process: int) -> Region | None:
        """Return a region of a process."""
        return next((kept.region for kept in self._kept.values() if kept.process == process), None)

    def process_of(self, region: Region) -> int:
        """Return whose region it is."""
        return self._kept[region.identity].process

    def processes(self) -> set[int]:
        """Return whose regions there are that may still be written to."""
        return {kept.process for kept in self._kept.values() if not kept.is_final}

    def ended(self, process: int) -> None:
        """Take note that a process has ended, or cannot be watched: what it has left is read for the last time."""
        for kept in self._kept.values():
            kept.is_final = kept.is_final or kept.process == process

    def spilled(self) -> Iterator[Region]:
        """Yield the regions with records in them."""
        return (kept.region for kept in self._kept.values() if kept.region.has_spilled())

    def collect(self) -> tuple[Counts, Callable[[], object] | None]:
        """Return what was counted since the last time, and what to call when it is in the outbox.

        Nothing while that of the last time is not in it, or where it would take more than `SHARE` of the time. Regions
        that have been read to their end are let go.
        """
        begin = time.monotonic()
        if not self._is_written or begin < self._next:
            return {}, None
        self._note_written()
        counts: Counts = {}
        number = self._collections() + 1
        for kept in list(self._kept.values()):
            if kept.region.collect(counts, number):
                self._collected.append(kept)
            elif kept.is_final and not kept.region.has_spilled():
                self._drop(kept)
        end = time.monotonic()
        self._next = end + (end - begin) / SHARE
        if not self._collected:
            return {}, None
        self._is_written = False
        return counts, self._written

    def collect_last(self) -> tuple[Counts, Callable[[], object] | None]:
        """Do the same at the end, whether or not the rest is in the outbox: both are written with it."""
        self._is_written = True
        self._next = 0.0
        return self.collect()

    def close(self) -> None:
        """Let all go; the processes may go on with theirs."""
        for kept in list(self._kept.values()):
            self._drop(kept)

    def _open(self, descriptor: int, token: str, process: int) -> tuple[_Kept, bool]:
        """Return the region of a descriptor, and whether it is a new one: it comes again with each connection."""
        facts = os.fstat(descriptor)
        kept = self._kept.get((facts.st_dev, facts.st_ino))
        if kept is not None:
            return kept, False
        region = Region(descriptor, self._collections())
        kept = self._kept[region.identity] = _Kept(token, process, region)
        return kept, True

    def _written(self) -> None:
        """Take note, from the worker's thread."""
        self._is_written = True

    def _note_written(self) -> None:
        for kept in self._collected:
            kept.region.collected()
        self._collected = []

    def _drop(self, kept: _Kept) -> None:
        del self._kept[kept.region.identity]
        kept.region.close()
        with contextlib.suppress(OSError):  # the supervisor has gone
            self._store.drop(kept.token)
