"""From the chunks of an output stream to batches for the worker."""

from __future__ import annotations

import functools
import logging
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from alarm_mw.master.streams.late import LateChunk, LateChunks
from alarm_mw.master.streams.lines import Chunk
from alarm_mw.master.worker.batch import Batch, Lines
from alarm_mw.model.types import Reason, Record
from alarm_mw.patterns.prefilter import Hit, Prefilter

log = logging.getLogger(__name__)

#: Seconds that output waits at most until the alarms in it are in the outbox.
PATIENCE = 0.25

#: Seconds of these in which regexps are asked; what takes them longer is judged behind the output.
VERDICT_PATIENCE = 0.02

#: How often, in seconds, to look what the worker is about.
_LOOK_EVERY = 0.005

#: Seconds between lines of what may be a flood that is held back; to find out costs a single line 0.1 ms.
FLOOD = 0.005

#: How many chunks may wait for the records that they may be echoes of; the output does not.
MOST_ECHOES = 16

_ALARM_ORIGIN, _UNJUDGED, _QUEUE_FULL = (
    f"skipped:{reason}" for reason in (Reason.ALARM_ORIGIN, Reason.UNJUDGED, Reason.QUEUE_FULL)
)


class BatchWorker(Protocol):
    """What evaluates the lines: the worker."""

    @property
    def is_evaluating(self) -> bool:
        """Whether it is evaluating records or lines at this moment, rather than writing to the disk."""
        ...

    @property
    def expects_records(self) -> Callable[[], bool]:
        """Whether some process makes records, of which printed lines may be echoes."""
        ...

    def submit(self, batch: Batch) -> None:
        """Take a batch; returns at once."""
        ...

    def hold_back(self, batch: Batch) -> bool:
        """Evaluate at once a batch of lines that are all held back; return False where they are not. Never waits."""
        ...


class StreamIntake:
    """Hands chunks to the worker, and waits a little until their firings are written down.

    So long the chunk's bytes stay in the pipe, where the next master would find them; but output never waits for
    long, whatever rules and disk do: what passes before is kept in `late`, by streams, for the next master.
    """

    def __init__(
        self,
        run_id: str,
        worker: BatchWorker,
        is_own: Callable[[bytes], bool] | None = None,
        *,
        late: Mapping[str, LateChunks] | None = None,
    ) -> None:
        self._run_id = run_id
        self._worker = worker
        #: Finds the lines of alarm code, which the rules must not see; None where there are none.
        self._is_own = is_own
        #: For each stream, the chunks that were not waited for.
        self._late = dict(late or {})
        #: When lines of a stream came last, in seconds since the epoch.
        self._came: dict[str, float] = {}

    def __call__(self, chunk: Chunk) -> None:
        """Take a chunk; may block for `PATIENCE` seconds, for `VERDICT_PATIENCE` where the rules are slow."""
        whole = chunk
        chunk, own = self._without_own(chunk)
        counts = _counts(chunk, own)
        late = self._late.setdefault(chunk.stream, LateChunks())
        if chunk.hits and not late.has_room():
            n = len(chunk.hits)
            counts["lines"] += n
            counts[_QUEUE_FULL] = n
            chunk = replace(chunk, hits=(), unjudged=chunk.unjudged + n)
        if not chunk.hits:
            self._submit_counts(chunk, counts, late)
            return
        now = time.time()
        lines = Lines(chunk.stream, chunk.hits, functools.partial(self._record, chunk, now), chunk.rule_set)
        may_be_held = self._comes_fast(chunk.stream, now) and not late and not chunk.unjudged
        if may_be_held and self._worker.hold_back(Batch((), {chunk.stream: counts}, lines=lines)):
            return
        is_under_way = _held_lock()
        # Without a file to keep it in, output waits until the firings are in the outbox, and so does not pass at once.
        waits = self._worker.expects_records() and late.has_room(MOST_ECHOES) and late.keeps()
        done = functools.partial(late.release, is_under_way)
        batch = Batch((), {chunk.stream: counts}, done, lines=lines, may_be_echo=waits)
        self._worker.submit(batch)
        passes_at_once = waits or (bool(late) and self._worker.is_evaluating)
        if passes_at_once or not self._waited_for(is_under_way):
            self._keep(whole, is_under_way, late, can_wait=passes_at_once)

    def _submit_counts(self, chunk: Chunk, counts: dict[str, int], late: LateChunks) -> None:
        """Hand over a chunk of which only the counts matter.

        Those of lines that nobody evaluates outlive the master: nothing else reports these lines.
        """
        if not chunk.unjudged:
            self._worker.submit(Batch((), {chunk.stream: counts}))
            return
        is_under_way = _held_lock()
        self._worker.submit(Batch((), {chunk.stream: counts}, functools.partial(late.release, is_under_way)))
        self._keep(chunk, is_under_way, late, can_wait=True)

    def _keep(self, chunk: Chunk, is_under_way: threading.Lock, late: LateChunks, *, can_wait: bool) -> None:
        """Keep a chunk for the next master before its output passes; where that fails, wait for the worker."""
        if not late.add(chunk, is_under_way) and can_wait and self._waited_for(is_under_way):
            late.release(is_under_way)

    def resume(self, prefilter: Prefilter) -> None:
        """Have the worker judge the chunks that it was not done with in a former master. Called before all others."""
        for stream, late in self._late.items():
            inherited = [*late.inherited()]
            for number, (kept, is_hopeless, done) in enumerate(inherited, 1):
                chunk, own = self._without_own(_judged_again(stream, kept, None if is_hopeless else prefilter))
                lines = Lines(stream, chunk.hits, functools.partial(self._record, chunk, time.time()), chunk.rule_set)
                evaluated = late.evaluated if number == len(inherited) else None
                self._worker.submit(Batch((), {stream: _counts(chunk, own)}, done, lines=lines, evaluated=evaluated))

    def _waited_for(self, is_under_way: threading.Lock) -> bool:
        """Return whether the worker has written a chunk's firings down in time."""
        before = time.monotonic()
        until, judged = before + PATIENCE, 0.0
        while not is_under_way.acquire(timeout=_LOOK_EVERY):
            now = time.monotonic()  # On a busy machine, more has passed than was asked for.
            judged += now - before if self._worker.is_evaluating else 0.0
            if judged >= VERDICT_PATIENCE or now >= until:
                return False
            before = now
        return True

    def _comes_fast(self, stream: str, now: float) -> bool:
        before, self._came[stream] = self._came.get(stream, 0.0), now
        return now - before < FLOOD

    def _without_own(self, chunk: Chunk) -> tuple[Chunk, int]:
        """Return a chunk without the hits of alarm code, and how many lines that are."""
        if self._is_own is None or not chunk.hits:
            return chunk, 0
        hits = [hit for hit in chunk.hits if not self._is_own(hit.line)]
        own = len(chunk.hits) - len(hits)
        return (replace(chunk, hits=tuple(hits)) if own else chunk), own

    def _record(self, chunk: Chunk, now: float, hit: Hit) -> Record:
        # The place in the stream makes the key: a line that two masters have seen is known by it.
        key = f"{self._run_id}.{chunk.stream}.{hit.start}.{zlib.crc32(hit.line):08x}"
        # The first part of a line that was too long stays a line.
        size = chunk.sizes.get(hit.start, 0)
        message = hit.line + b"\n" if size else hit.line
        if not chunk.around:
            return Record(message, chunk.stream, now, key, size=size)
        before, after = chunk.around.get(hit.start, (b"", b""))
        return Record(message, chunk.stream, now, key, size=size, before=before, after=after)


def _held_lock() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


def _judged_again(stream: str, kept: LateChunk, prefilter: Prefilter | None) -> Chunk:
    """Return a chunk with the hits of today's rules; None for `prefilter`: it is not to be judged any more."""
    hits: list[Hit] | None = None
    rule_set = None
    if prefilter is None:
        log.error("%s: %d lines pass unjudged: every master ended while it checked them", stream, len(kept.hits))
    else:
        rule_set = prefilter.rule_set
        try:
            hits = [hit for start, line in kept.hits for hit in prefilter.scan(line, start)]
        except Exception:
            log.exception("%s: the prefilter failed on what a former master has left; it passes unjudged", stream)
    unjudged = kept.unjudged if hits is not None else kept.unjudged + len(kept.hits)
    return Chunk(
        stream, kept.lines, tuple(hits or ()), kept.oversized, unjudged, kept.lost, rule_set, kept.sizes, kept.around
    )


def _counts(chunk: Chunk, own: int) -> dict[str, int]:
    passed = chunk.lines - len(chunk.hits)
    return {
        "lines": passed,
        "screened_out": passed - own - chunk.unjudged,
        _ALARM_ORIGIN: own,
        _UNJUDGED: chunk.unjudged,
        "oversized": chunk.oversized,
        "lost_bytes": chunk.lost,
    }
