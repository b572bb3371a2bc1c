"""When the engine's memory is written down: with every firing, else with the ledger; never for long."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.engine.memory import Memory

log = logging.getLogger(__name__)

#: Of the worker's time, so much may go into writing a large memory with every firing; at least every second it is
#: written in any case.
SHARE = 0.05
LONGEST = 1.0


class MemoryWriter:
    """Makes the bytes that an outbox takes with firings and counts; for the worker's thread."""

    def __init__(self, memory: Memory, *, is_durable: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._memory = memory
        self._is_durable = is_durable
        self._clock = clock
        self._next = 0.0

    def due(self) -> bytes | None:
        """Return the memory as bytes, where it has to be written with the transaction that begins now."""
        begin = self._clock()
        if not self.is_unwritten or begin < self._next:
            return None
        saved = self._memory.dumps(begin, time.time())
        end = self._clock()
        self._next = end + min((end - begin) / SHARE, LONGEST)
        return saved

    @property
    def is_unwritten(self) -> bool:
        """Whether the memory has changed since it was written, and will be asked for after a restart."""
        return self._is_durable and self._memory.is_changed

    def hurry(self) -> None:
        """Let the next `due` not wait: it is the last."""
        self._next = 0.0

    def failed(self) -> None:
        """Note that what was returned last could not be written."""
        self._memory.is_changed = True
        self._next = 0.0


def read_memory(outbox: Outbox) -> Memory:
    """Return what the last engine remembered, or a new memory where that cannot be had, which is logged."""
    saved = outbox.memory()
    if saved is None:
        return Memory()
    try:
        return Memory.loads(saved, time.monotonic(), time.time())
    except ValueError as error:
        log.error("what was held back before the start is forgotten: %s", error)
        return Memory()
