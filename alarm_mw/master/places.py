"""The files of a run in the file system: made again where somebody has removed them, by a master that starts.

A running master only notices, and exits: the next one has the server's output, its records and its firings, and
binds all sockets again.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

from alarm_mw.master.link import Link
from alarm_mw.supervisor.plan import Plan
from alarm_mw.supervisor.records import RecordsSocket
from alarm_mw.system.directories import LOCK_NAME, make_directory, open_lock
from alarm_mw.transports.places import control_path

log = logging.getLogger(__name__)

#: Seconds between two looks.
LOOK_EVERY = 1.0


class Places:
    """The state directory, the records socket and the lock of a run. May block for the file system."""

    def __init__(self, plan: Plan, link: Link) -> None:
        self._link = link
        self._socket = plan.socket
        self._lock = plan.lock
        self._state_dir = Path(str(plan.settings["state_dir"]))
        self._fault = ""
        #: What had to be made again, in a sentence for people; empty for nothing.
        self.report = ""

    def missing(self) -> list[str]:
        """Return what of them is not there any more."""
        paths = [
            self._state_dir,
            Path(self._socket),
            *([self._state_dir / LOCK_NAME] if self._lock is not None else []),
        ]
        return [str(path) for path in paths if _is_missing(path)]

    def are_whole(self) -> bool:
        """Return whether a running master has all of its own."""
        return not self.missing() and not _is_missing(Path(control_path(self._socket)))

    def make_directories(self) -> bool:
        """Make the directories where they are missing; return whether they can be used. The log says once why not."""
        try:
            for path in {self._state_dir, Path(self._socket).parent}:
                make_directory(path)
        except OSError as error:
            if self._fault != str(error):
                self._fault = str(error)
                log.error("the state directory cannot be used: %s; alarms go on from memory", error)
            return False
        self._fault = ""
        return True

    def restored(self, listener: socket.socket) -> socket.socket:
        """Make again what is missing, for this master and the next ones; return the socket for records."""
        missing = self.missing()
        if not missing or not self.make_directories():
            return listener
        self.report = f"files of this run were removed while it was running, and are made again: {', '.join(missing)}"
        log.error("%s", self.report)
        try:
            if _is_missing(self._state_dir / LOCK_NAME):
                self._restore_lock()
            if _is_missing(Path(self._socket)):
                return self._rebound(listener)
        except OSError as error:
            log.error("the files of this run cannot be made again: %s", error)
        return listener

    def _restore_lock(self) -> None:
        if self._lock is None:
            return
        fresh = open_lock(self._state_dir)
        fcntl.flock(fresh, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.dup2(fresh, self._lock, inheritable=False)
        os.close(fresh)
        self._link.replace("lock", self._lock)

    def _rebound(self, listener: socket.socket) -> socket.socket:
        fresh = RecordsSocket.bind(self._socket).listening
        self._link.replace("listen", fresh.fileno())
        listener.close()
        return fresh

    async def watch(self, make_way: Callable[[], object]) -> None:
        """Look again and again; call `make_way` when something is missing and can be made again."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if not await asyncio.to_thread(self.are_whole) and await asyncio.to_thread(self.make_directories):
                await asyncio.to_thread(make_way)


def _is_missing(path: Path) -> bool:
    """Return whether it is certain that there is no such file."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
