"""Writes log lines between the lines of the server's output, where both go to one file, as under ``2>&1``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time

from alarm_mw.master.streams.reader import QUIET, StreamReader
from alarm_mw.system.descriptors import write_all, write_at_once

#: Seconds between two looks at whether a line has ended. A notification would slow the output down.
LOOK_EVERY = 0.002


class LogWriter:
    """Writes to a descriptor, into which readers may pass output on. Its methods may be called from any thread.

    A line of output that is half written is waited for, but not longer than its reader waits until it judges it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._readers: list[StreamReader] = []
        #: Held from the look at the readers' lines until the log line is written.
        self._writing = threading.Lock()

    def watch(self, reader: StreamReader, sink: int) -> None:
        """Mind the lines of a reader, where they go to the same file."""
        with contextlib.suppress(OSError):  # one of them is closed
            if os.path.sameopenfile(sink, self._descriptor):
                self._readers.append(reader)
                reader.before_output = self._let_pass

    def write_at_once(self, data: bytes) -> bool:
        """Write all of it where that needs no waiting, and return whether it did; else nothing is written."""
        if not self._writing.acquire(blocking=False):
            return False
        try:
            return not self._is_within_line() and write_at_once(self._descriptor, data)
        finally:
            self._writing.release()

    def write(self, data: bytes) -> None:
        """Write all of it, past Python's buffers; a log that has gone does not matter. Waits outside of event loops."""
        pause = threading.Event()
        deadline = time.monotonic() + (0.0 if _is_event_loop() else QUIET)
        while True:
            with self._writing:
                if not self._is_within_line() or time.monotonic() >= deadline:
                    write_all(self._descriptor, data)
                    return
            pause.wait(LOOK_EVERY)

    def _is_within_line(self) -> bool:
        return any(reader.is_within_line for reader in self._readers)

    def _let_pass(self) -> None:
        """Return when no log line is being written: output waits for one, but not for a file that takes nothing."""
        if self._writing.acquire(timeout=QUIET):
            self._writing.release()


def _is_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
