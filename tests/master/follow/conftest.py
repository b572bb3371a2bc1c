"""A follower with a worker that takes notes, and logs for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from alarm_mw.config.settings import Follow
from alarm_mw.engine.rules import compile_rule
from alarm_mw.engine.tracebacks import BEGINNINGS
from alarm_mw.master.follow.follower import Follower
from alarm_mw.master.follow.intake import Assembly
from alarm_mw.master.worker.batch import Batch
from alarm_mw.model.types import Record, Rule
from alarm_mw.patterns.prefilter import Prefilter


class NotingWorker:
    """Remembers what it was given; all of it is written at once."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.counts: dict[str, int] = {}
        self.positions: dict[str, bytes] = {}
        #: Whether batches are done at once.
        self.is_free = True
        self.waiting: list[Batch] = []
        self._lock = threading.Lock()

    def submit(self, batch: Batch) -> None:
        with self._lock:
            if not self.is_free:
                self.waiting.append(batch)
                return
            self._take(batch)

    def hold_back(self, _batch: Batch) -> bool:
        return False

    def survivor(self) -> NotingWorker:
        """Return what the next master finds after a kill now: what waits for this one is not written."""
        with self._lock:
            found = NotingWorker()
            found.records, found.counts = [*self.records], dict(self.counts)
            found.positions = dict(self.positions)
            return found

    def go_on(self) -> None:
        """Work off what waits, and all that comes."""
        with self._lock:
            self.is_free = True
            for batch in self.waiting:
                self._take(batch)
            self.waiting.clear()

    def _take(self, batch: Batch) -> None:
        self.records += [item.record for item in batch.items]
        if batch.lines is not None:
            self.records += map(batch.lines.record, batch.lines.hits)
        for columns in batch.counts.values():
            for column, n in columns.items():
                self.counts[column] = self.counts.get(column, 0) + n
        for name, data in batch.positions.items():
            if data is None:
                self.positions.pop(name, None)
            else:
                self.positions[name] = data
        if batch.done is not None:
            batch.done()

    @property
    def lines(self) -> list[str]:
        """The lines that some rule may match, in order."""
        return [record.text for record in [*self.records]]


class Logs:
    """A directory of logs, and who follows it; a line is wanted where it has ``ERROR``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.worker = NotingWorker()
        self.follower: Follower | None = None
        #: Which lines are one record: each, by default.
        self.assembly = Assembly()
        self.rule = Rule("ERROR", ("a",))

    def follow(self, *patterns: str, start: Any = "end", own: frozenset[tuple[int, int]] = frozenset()) -> Follower:
        """Follow these patterns in the folder, from where the worker's positions say."""
        self._begin(self.follows(*patterns, start=start), own)
        assert self.follower is not None
        wait_until(lambda: any(name.startswith("pattern:") for name in [*self.worker.positions]))
        return self.follower

    def follow_unwritten(self, *patterns: str) -> None:
        """Follow from the beginning, and do not wait until the worker has written that down."""
        self._begin(self.follows(*patterns, start="beginning"), frozenset())

    def follows(self, *patterns: str, start: Any = "end") -> list[Follow]:
        """Return the configuration of these patterns."""
        return [Follow(tuple(str(self.folder / pattern) for pattern in patterns), start=start)]

    def prefilter(self) -> Prefilter:
        beginnings = BEGINNINGS if self.assembly.options is not None else ()
        return Prefilter([compile_rule(self.rule)], beginnings=beginnings)

    def _begin(self, follows: list[Follow], own: frozenset[tuple[int, int]]) -> None:
        saved: Mapping[str, bytes] = dict(self.worker.positions)
        self.follower = Follower(
            follows, self.prefilter(), self.worker, saved, longest=131_072, own=own, assembly=self.assembly
        )
        self.follower.start()

    def stop(self) -> None:
        """End the follower, when it has read what is there."""
        if self.follower is not None:
            self.follower.stop(10.0)
            self.follower = None

    def kill(self) -> None:
        """End the follower, and forget what the worker has not written."""
        killed, self.worker = self.worker, self.worker.survivor()
        killed.go_on()
        self.stop()

    def append(self, name: str, *lines: str) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)

    def rename(self, name: str, to: str) -> None:
        (self.folder / name).rename(self.folder / to)

    def copy_and_truncate(self, name: str, to: str) -> None:
        (self.folder / to).write_bytes((self.folder / name).read_bytes())
        os.truncate(self.folder / name, 0)

    def wait_for(self, *lines: str) -> None:
        """Wait until exactly these lines were judged, in any order."""
        wait_until(lambda: sorted(self.worker.lines) == sorted(lines) or len(self.worker.lines) > len(lines))
        assert sorted(self.worker.lines) == sorted(lines)


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Logs]:
    found = Logs(tmp_path)
    yield found
    found.stop()


@pytest.fixture(scope="session")
def make_logs() -> Callable[[Path], Logs]:
    return Logs


@pytest.fixture(scope="session")
def make_worker() -> type[NotingWorker]:
    return NotingWorker
