"""Requests that do not end: a thread that reports each while it is still running.

The event loop or the worker that runs the request may be what hangs, and the server may kill it for that: only another
thread of the same process can report in time, wherever the master is. It is started by the first request that has a
limit, and ends by itself when no request runs at the time it has waited for. A forked child begins without its
parent's requests.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Sequence

#: Called with a limit in seconds, in the thread, when it has passed. Must not raise.
Report = Callable[[float], object]


class Running:
    """A request under way, with the limits that it has not reached yet."""

    __slots__ = ("_began", "_limits", "_report", "due")

    def __init__(self, limits: Sequence[float], report: Report) -> None:
        """Begin now; `limits` are in seconds, ascending, and at least one."""
        self._began = time.monotonic()
        self._limits = limits
        self._report = report
        #: When the next limit has passed, on the clock of `time.monotonic`.
        self.due = self._began + limits[0]

    def report_due(self, now: float) -> bool:
        """Report every limit that has passed; return whether there are others to come."""
        while self._limits and self.due <= now:
            limit, *self._limits = self._limits
            self._report(limit)
            self.due = self._began + self._limits[0] if self._limits else math.inf
        return bool(self._limits)


class Overdue:
    """The running requests of this process, and the thread that watches them."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._running: dict[int, Running] = {}
        self._starting = threading.Lock()
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None
        #: When the thread looks again; a request that is due earlier wakes it.
        self.looks_at = -math.inf

    def add(self, running: Running) -> None:
        """Watch a request until it is removed. Neither blocks nor raises, but for starting the thread."""
        self._running[id(running)] = running
        if self._thread is None:
            self._start()
        elif running.due < self.looks_at:
            self._changed.set()

    def remove(self, running: Running) -> None:
        """Watch a request no longer."""
        self._running.pop(id(running), None)

    def stop(self) -> None:
        """Forget all requests; the thread ends soon."""
        self._running.clear()
        self._changed.set()

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None:
                return
            self._thread = threading.Thread(target=self._watch, name="alarm-mw-overdue", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter is at its end, or has no more threads: the request goes on
                self._thread = None

    def _watch(self) -> None:
        while self._has_work():
            # Until the look is over, every new request wakes the thread.
            self.looks_at = math.inf
            self._changed.clear()
            self.looks_at = self._look(time.monotonic())
            if self.looks_at < math.inf:
                self._changed.wait(min(max(self.looks_at - time.monotonic(), 0.0), threading.TIMEOUT_MAX))

    def _has_work(self) -> bool:
        """Return whether something is running; where nothing is, the next request starts another thread."""
        if self._running:
            return True
        self._thread = None
        # A request that came in between may have seen the thread, and relied on it.
        if not self._running:
            return False
        with self._starting:
            if self._thread is None:
                self._thread = threading.current_thread()
            return self._thread is threading.current_thread()

    def _look(self, now: float) -> float:
        """Report what is due, and return when to look again; infinity where nothing is left."""
        looks_at = math.inf
        for running in tuple(self._running.values()):
            if running.due <= now and not running.report_due(now):
                self.remove(running)
            looks_at = min(looks_at, running.due)
        return looks_at


_overdue = Overdue()


def add(running: Running) -> None:
    """Watch a request of this process."""
    if _overdue.pid != os.getpid():
        _after_fork_in_child()  # uWSGI forks its workers unknown to Python
    _overdue.add(running)


def remove(running: Running) -> None:
    """Watch it no longer: it has ended."""
    _overdue.remove(running)


def stop() -> None:
    """Watch none of those that are running now."""
    _overdue.stop()


def _after_fork_in_child() -> None:
    """Start with a fresh state: the parent's thread does not exist here, nor do its requests."""
    global _overdue  # noqa: PLW0603  # the one state of this process
    _overdue = Overdue()


os.register_at_fork(after_in_child=_after_fork_in_child)
