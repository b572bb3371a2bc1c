"""Wakes the follower: by inotify where the system has it, else after some time."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterable

from alarm_mw.system.linux import IN_MODIFY, IN_NAMES, inotify_fd, inotify_watch

#: Bytes of events that are taken at a time.
_EVENTS = 1024 * 1024


class Bell:
    """Rings when a file is written to, or a name changes, in watched directories, and when somebody rings it.

    What has happened is not read from the events, which may be lost: the thread that is woken looks at everything.
    """

    def __init__(self) -> None:
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._woken, select.POLLIN)
        self._problem = ""
        self._changes = self._open()
        self._names = self._open()
        self._watched: set[str] = set()

    def _open(self) -> int | None:
        try:
            fd = inotify_fd()
        except OSError as error:
            self._problem = f"files are looked at every second, since they cannot be watched: {error.strerror}"
            return None
        self._poll.register(fd, select.POLLIN)
        return fd

    def watch(self, folders: Iterable[str]) -> list[str]:
        """Watch these directories too; return why that fails, where it does."""
        problems = [self._problem] if self._problem else []
        if self._changes is None or self._names is None:
            return problems
        for folder in folders:
            try:
                # Again each time: a directory may have been deleted and made again.
                inotify_watch(self._names, folder or ".", IN_NAMES)
                inotify_watch(self._changes, folder or ".", IN_MODIFY)
            except FileNotFoundError:
                continue
            except OSError as error:
                problems.append(f"{folder} is looked at every second, since it cannot be watched: {error.strerror}")
        return problems

    def ring(self) -> None:
        """Wake the follower. From any thread."""
        with contextlib.suppress(OSError):  # it has been rung often already
            os.write(self._waker, b"\0")

    def wait(self, seconds: float) -> None:
        """Wait until it rings, for at most `seconds`."""
        self._poll.poll(seconds * 1000)
        _drain(self._woken)

    def doze(self, seconds: float) -> None:
        """Let more come, and forget what has rung meanwhile for changes in files."""
        if self._changes is not None and _drain(self._changes):
            time.sleep(seconds)
            _drain(self._changes)

    def heard_of_names(self) -> bool:
        """Return whether some name has changed."""
        return self._names is not None and _drain(self._names)

    def close(self) -> None:
        """Close it."""
        for fd in (self._woken, self._waker, self._changes, self._names):
            if fd is not None:
                os.close(fd)


def _drain(fd: int) -> bool:
    """Take everything; return whether there was something."""
    with contextlib.suppress(BlockingIOError):
        return bool(os.read(fd, _EVENTS))
    return False
