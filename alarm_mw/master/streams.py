"""From the chunks of an output stream to batches for the worker."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable

from alarm_mw.master.batch import Batch, Item
from alarm_mw.master.chunk import Chunk, StreamHit
from alarm_mw.master.lines import MAX_LINE
from alarm_mw.types import Reason, Record

#: Seconds that output waits at most until the alarms in it are in the outbox.
PATIENCE = 0.25


class StreamIntake:
    """Hands chunks to the worker, and waits a little until their firings are written down.

    So long the chunk's bytes stay in the pipe, where the next master would find them; but output never waits for
    long, whatever rules and disk do.
    """

    def __init__(
        self, run_id: str, submit: Callable[[Batch], None], is_own: Callable[[bytes], bool] = lambda _: False
    ) -> None:
        self._run_id = run_id
        self._submit = submit
        #: Tells the lines of alarm code, which the rules must not see.
        self._is_own = is_own

    def __call__(self, chunk: Chunk) -> None:
        """Take a chunk; may block for `PATIENCE` seconds."""
        hits = [hit for hit in chunk.hits if not self._is_own(hit.line)]
        done = threading.Event() if hits else None
        now = time.time()
        items = [Item(self._record(chunk.stream, hit, now), None, hit.rules, hit.certain) for hit in hits]
        self._submit(Batch(items, {chunk.stream: _counts(chunk, len(chunk.hits) - len(hits))}, done))
        if done is not None:
            done.wait(PATIENCE)

    def _record(self, stream: str, hit: StreamHit, now: float) -> Record:
        # The place in the stream makes the key: a line that two masters have seen is known by it.
        key = f"{self._run_id}.{stream}.{hit.offset}.{zlib.crc32(hit.line):08x}"
        # The first part of a line that was too long stays a line.
        is_cut = len(hit.line) >= MAX_LINE and not hit.line.endswith(b"\n")
        return Record(hit.line + b"\n" if is_cut else hit.line, stream, now, key)


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
