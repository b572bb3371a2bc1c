"""From the chunks of an output stream to batches for the worker."""

from __future__ import annotations

import functools
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence

from alarm_mw.engine.screen import Hit
from alarm_mw.master.batch import Batch, Lines
from alarm_mw.master.chunk import Chunk
from alarm_mw.master.lines import MAX_LINE
from alarm_mw.types import Reason, Record

#: Seconds that output waits at most until the alarms in it are in the outbox.
PATIENCE = 0.25

#: How many chunks may wait for the worker, should the disk be slower than that. The lines of more are counted as
#: `Reason.QUEUE_FULL`, unjudged.
WAITING = 64


class StreamIntake:
    """Hands chunks to the worker, and waits a little until their firings are written down.

    So long the chunk's bytes stay in the pipe, where the next master would find them; but output never waits for
    long, whatever rules and disk do.
    """

    def __init__(
        self,
        run_id: str,
        submit: Callable[[Batch], None],
        is_own: Callable[[bytes], bool] | None = None,
        hold_back: Callable[[Batch], bool] = lambda _: False,
    ) -> None:
        self._run_id = run_id
        self._submit = submit
        #: Tries to work a batch off without the worker's thread.
        self._hold_back = hold_back
        #: Tells the lines of alarm code, which the rules must not see; None where there are none.
        self._is_own = is_own
        #: The ends of batches that the worker has not worked off yet, for each stream; its reader's thread has them.
        self._under_way: dict[str, deque[threading.Event]] = {}

    def __call__(self, chunk: Chunk) -> None:
        """Take a chunk; may block for `PATIENCE` seconds."""
        hits = chunk.hits if self._is_own is None else self._foreign(chunk.hits, self._is_own)
        counts = _counts(chunk, len(chunk.hits) - len(hits))
        under_way = self._under_way.setdefault(chunk.stream, deque())
        if hits and not _has_room(under_way):
            counts["lines"] += len(hits)
            counts[f"skipped:{Reason.QUEUE_FULL}"] = len(hits)
            hits = ()
        if not hits:
            self._submit(Batch((), {chunk.stream: counts}))
            return
        record = functools.partial(self._record, chunk.stream, time.time())
        lines = Lines(chunk.stream, hits, record, chunk.rule_set)
        if not under_way and self._hold_back(Batch((), {chunk.stream: counts}, lines=lines)):
            return
        done = threading.Event()
        self._submit(Batch((), {chunk.stream: counts}, done, lines=lines))
        under_way.append(done)
        done.wait(PATIENCE)

    def _foreign(self, hits: Sequence[Hit], is_own: Callable[[bytes], bool]) -> Sequence[Hit]:
        return [hit for hit in hits if not is_own(hit.line)]

    def _record(self, stream: str, now: float, hit: Hit) -> Record:
        # The place in the stream makes the key: a line that two masters have seen is known by it.
        key = f"{self._run_id}.{stream}.{hit.start}.{zlib.crc32(hit.line):08x}"
        # The first part of a line that was too long stays a line.
        is_cut = len(hit.line) >= MAX_LINE and not hit.line.endswith(b"\n")
        return Record(hit.line + b"\n" if is_cut else hit.line, stream, now, key)


def _has_room(under_way: deque[threading.Event]) -> bool:
    """Return whether the worker keeps up: of what it has not worked off, no more than so much is kept."""
    while under_way and under_way[0].is_set():
        under_way.popleft()
    return len(under_way) < WAITING


def _counts(chunk: Chunk, own: int) -> dict[str, int]:
    passed = chunk.lines - len(chunk.hits)
    return {
        "lines": passed + own,
        "screened_out": passed - chunk.unjudged,
        f"skipped:{Reason.ALARM_ORIGIN}": own,
        f"skipped:{Reason.UNJUDGED}": chunk.unjudged,
        "oversized": chunk.oversized,
        "lost_bytes": chunk.lost,
    }
