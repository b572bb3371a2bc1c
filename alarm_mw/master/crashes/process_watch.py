"""Watches a server's processes by their pidfds, and reports the end of each, with its exit status."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from alarm_mw.system.exits import command, returncode
from alarm_mw.system.processes import family

log = logging.getLogger(__name__)

#: How many processes are watched at most; each takes a descriptor.
MAX_WATCHED = 512
#: How many commands of processes that have ended are remembered.
MAX_REMEMBERED = 64


@dataclass(slots=True)
class _Watched:
    pidfd: int
    command: str


class ProcessWatch:
    """Belongs to the running event loop. `on_end(pid, returncode, command)`, where None is a status nobody knows."""

    def __init__(self, on_end: Callable[[int, int | None, str], None]) -> None:
        self._on_end = on_end
        self._watched: dict[int, _Watched] = {}
        self._former: OrderedDict[int, str] = OrderedDict()

    def look(self, root: int) -> bool:
        """Watch `root` and all that comes from it, and what has left it since; return whether anything is new."""
        before = len(self._watched)
        for pid in family(root):
            if pid in self._watched:
                # It may have executed another program meanwhile.
                self._watched[pid].command = command(pid) or self._watched[pid].command
            elif len(self._watched) < MAX_WATCHED:
                self._add(pid)
        return len(self._watched) > before

    def pids(self) -> list[int]:
        """Return the processes that are watched."""
        return list(self._watched)

    def command(self, pid: int) -> str:
        """Return the command of a process that is watched or was lately; empty for any other."""
        watched = self._watched.get(pid)
        return watched.command if watched is not None else self._former.get(pid, "")

    def close(self) -> None:
        """Stop watching."""
        for pid in self.pids():
            self._remove(pid)

    def _add(self, pid: int) -> None:
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:  # it has ended, or we have no descriptors left
            return
        self._watched[pid] = _Watched(pidfd, command(pid))
        asyncio.get_running_loop().add_reader(pidfd, self._ended, pid)

    def _ended(self, pid: int) -> None:
        status = returncode(self._watched[pid].pidfd, pid)
        shown = self._watched[pid].command
        self._remove(pid)
        self._on_end(pid, status, shown)

    def _remove(self, pid: int) -> None:
        watched = self._watched.pop(pid)
        asyncio.get_running_loop().remove_reader(watched.pidfd)
        os.close(watched.pidfd)
        self._former[pid] = watched.command
        while len(self._former) > MAX_REMEMBERED:
            self._former.popitem(last=False)
