"""The firings being delivered, in memory that outlives the master: the next one knows what may come twice."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterable

#: Maximum number of firings; for more, a duplicate is not recognized as one.
SLOTS = 4096

_SIZE = 8 * SLOTS


class UnderWay:
    """A slot for each firing: twice its number, plus one once its action has delivered it.

    `hand_over` gives a new memory file's descriptor to the supervisor. Lives on the event loop.
    """

    def __init__(self, inherited: int | None, hand_over: Callable[[int], object]) -> None:
        self._map = _mapped(inherited, hand_over)
        self._slots = memoryview(self._map).cast("q")
        found = {value: slot for slot, value in enumerate(self._slots) if value}
        #: What the former master was delivering, and what it had delivered and not yet written.
        self.begun = frozenset(value // 2 for value in found if value % 2 == 0)
        self.delivered = frozenset(value // 2 for value in found if value % 2 == 1)
        self._taken = {value // 2: slot for value, slot in found.items()}
        self._free = [slot for slot, value in enumerate(self._slots) if not value]

    def begin(self, seqs: Iterable[int]) -> None:
        """Note that an attempt starts."""
        for seq in seqs:
            if seq not in self._taken and self._free:
                self._taken[seq] = self._free.pop()
            self._set(seq, 2 * seq)

    def succeed(self, seqs: Iterable[int]) -> None:
        """Note that the action has delivered them."""
        for seq in seqs:
            self._set(seq, 2 * seq + 1)

    def end(self, seqs: Iterable[int]) -> None:
        """Note that the outcome is written, or that the attempt has failed."""
        for seq in seqs:
            self._set(seq, 0)
            if (slot := self._taken.pop(seq, None)) is not None:
                self._free.append(slot)

    def close(self) -> None:
        """Release the memory."""
        self._slots.release()
        self._map.close()

    def _set(self, seq: int, value: int) -> None:
        if (slot := self._taken.get(seq)) is not None:
            self._slots[slot] = value


def _mapped(inherited: int | None, hand_over: Callable[[int], object]) -> mmap.mmap:
    descriptor = inherited
    try:
        if descriptor is None:
            descriptor = os.memfd_create("alarm-mw-under-way")
            os.ftruncate(descriptor, _SIZE)
            hand_over(descriptor)
        return mmap.mmap(descriptor, _SIZE)
    except (OSError, ValueError):  # a limit on file sizes: then it ends with this process
        return mmap.mmap(-1, _SIZE)
    finally:
        if descriptor is not None:
            os.close(descriptor)
