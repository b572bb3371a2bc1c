"""Reads what machines print under load, and knows how long each line was on its way."""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
import time
from collections.abc import Iterator


class Sink:
    """The other end of the output of all machines. Lines end with the time at which they were written."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._longest = 0.0
        self._lines: dict[str, int] = {}

    def open(self, name: str) -> int:
        """Return a descriptor for the output of a machine, to be closed by the caller when it was handed on."""
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        self._lines[name] = 0
        self._selector.register(ours, selectors.EVENT_READ, name)
        return theirs

    @contextlib.contextmanager
    def reading(self) -> Iterator[Sink]:
        thread = threading.Thread(target=self._run, name="sink")
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()
            for key in [*self._selector.get_map().values()]:
                os.close(key.fd)
            self._selector.close()

    def longest(self) -> float:
        """Return the seconds of the line that took longest since the last question."""
        with self._lock:
            longest, self._longest = self._longest, 0.0
            return longest

    def lines(self) -> int:
        """Return how many lines have come."""
        with self._lock:
            return sum(self._lines.values())

    def _run(self) -> None:
        while not self._over.is_set():
            for key, _ in self._selector.select(0.05):
                if data := os.read(key.fd, 2**20):
                    self._take(key.data, data)
                else:  # it has ended
                    self._selector.unregister(key.fd)
                    os.close(key.fd)

    def _take(self, name: str, data: bytes) -> None:
        """Count lines. The first of a chunk has been on its way for the longest time."""
        now = time.monotonic()
        with self._lock:
            self._lines[name] += data.count(b"\n")
            for line in data.split(b"\n", 2)[:2]:  # the first may be the end of one
                with contextlib.suppress(ValueError, IndexError):
                    self._longest = max(self._longest, now - float(line.split()[3]))
