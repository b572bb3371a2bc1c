"""A configuration's engine over old logs: what matches, and what would have been sent when."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING

import msgspec

from alarm_mw.config.build import engine_of, has_incidents
from alarm_mw.config.settings import Settings
from alarm_mw.master.streams.lines import count_lines
from alarm_mw.model.types import Firing, Record, Verdict
from alarm_mw.patterns.prefilter import Hit

if TYPE_CHECKING:
    from concurrent.futures import Future

#: Deadlines that may be due at one moment.
_MOST_AT_ONCE = 10_000


class Match(msgspec.Struct, frozen=True):
    """A line that matches some rule."""

    #: From 1.
    number: int
    line: bytes
    verdict: Verdict


class Clock:
    """The time of the lines: seconds since the epoch, which never go back."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the present time."""
        return self.now


class Rehearsal:
    """Evaluates rules without actions; with a `Clock`, flood control and incidents go by it, else time stands still."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        incident_clock = self._clock if has_incidents(settings) else None
        self._engine = engine_of(settings, clock=incident_clock, now=self._clock, wall=self._clock)
        if self._engine.incidents is not None:
            from alarm_mw.engine.incidents.stored import Saved  # noqa: PLC0415  # few configurations have some

            self._engine.incidents.start(Saved())
        self._evaluated = 0
        self._threads = len(os.sched_getaffinity(0))

    def play(self, blocks: Iterable[bytes]) -> Iterator[tuple[int, Hit]]:
        """Yield the lines in which some rule may match, each with its number from 1. Blocks are of whole lines."""
        passed = 0
        for hits, lines in self._looked_through(iter(blocks)):
            for before, hit in hits:
                yield passed + before + 1, hit
            passed += lines

    def evaluate(self, number: int, found: Hit | Record) -> Match | None:
        """Return a line or a record with what the rules say of it, or None if none matches."""
        now = self._clock.now
        self._evaluated += 1
        if isinstance(found, Record):
            line, verdict = found.message, self._engine.evaluate(found, now)
        else:
            line = found.line
            record = Record(line, "stdout", now, f"replay:{self._evaluated}")
            verdict = self._engine.evaluate(record, now, found.rules, found.certain)
        return Match(number, line, verdict) if verdict.matched or verdict.is_resolve else None

    def advance(self, to: float) -> Iterator[Firing]:
        """Yield what is due until a time, in order, and set the clock to it."""
        for _ in range(_MOST_AT_ONCE):
            due = self._due()
            if due is None or due > to:
                break
            self._clock.now = max(due, self._clock.now)
            yield from self._tick()
        self._clock.now = max(to, self._clock.now)

    def end(self) -> Iterator[Firing]:
        """Yield the digests of what is still held back."""
        yield from self._engine.tick(self._clock.now, self._clock.now, at_end=True)

    def firing_incidents(self) -> int:
        """Return how many incidents are still firing."""
        return 0 if self._engine.incidents is None else sum(self._engine.incidents.open_by_rule().values())

    def _due(self) -> float | None:
        incidents = None if self._engine.incidents is None else self._engine.incidents.due()
        dues = [self._engine.due(), None if incidents is None else self._clock.now + incidents]
        return min((due for due in dues if due is not None), default=None)

    def _tick(self) -> Iterator[Firing]:
        yield from self._engine.tick(self._clock.now, self._clock.now)
        if self._engine.incidents is not None:
            yield from self._engine.incidents.tick()

    def _looked_through(self, blocks: Iterator[bytes]) -> Iterator[tuple[list[tuple[int, Hit]], int]]:
        """Look through blocks in order, as many at once as there are processors: the literal matcher frees the GIL."""
        first = list(islice(blocks, 2))
        if len(first) == 1 or self._threads == 1:
            yield from map(self._look_through, chain(first, blocks))
            return
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  # few logs have several blocks

        waiting: deque[Future[tuple[list[tuple[int, Hit]], int]]] = deque()
        with ThreadPoolExecutor(self._threads, thread_name_prefix="alarm-mw-replay") as pool:
            for block in chain(first, blocks):
                waiting.append(pool.submit(self._look_through, block))
                if len(waiting) > 2 * self._threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _look_through(self, block: bytes) -> tuple[list[tuple[int, Hit]], int]:
        """Return the hits of a block, each with the number of lines before it, and the number of lines."""
        hits, lines, at = [], 0, 0
        for hit in self._engine.prefilter.scan(block):
            lines += count_lines(block[at : hit.start])
            at = hit.start
            hits.append((lines, hit))
        return hits, lines + count_lines(block[at:])
