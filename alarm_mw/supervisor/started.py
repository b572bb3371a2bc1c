"""What is there when the supervisor begins, in an interpreter of its own: the server runs, and these are its parts."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from alarm_mw.supervisor.descriptors import content, hand_down, keep_back, memory_file
from alarm_mw.supervisor.plan import Plan
from alarm_mw.supervisor.signals import Inherited
from alarm_mw.supervisor.streams import Stream


class Started(NamedTuple):
    """Facts that outlive an exec, as this process's children and its blocked signals do."""

    #: The server's pid.
    server: int
    streams: Sequence[Stream]
    #: The records socket, and the device and inode of its file.
    records: int
    file: tuple[int, int]
    #: The socket for the server's notifications to systemd, where there is one.
    notify: int | None
    inherited: Inherited

    def supervisor_argv(self, plan: Plan) -> list[str]:
        """Return the command line to execute in this process for this and a plan; `ps` shows the server's, too."""
        plan_fd = plan.write()
        started = memory_file("alarm-mw-started", json.dumps([plan_fd, self]))
        for fd in self._descriptors(plan):
            hand_down(fd)
        main = os.path.join(os.path.dirname(__file__), "__main__.py")  # noqa: PTH118  # the supervisor has no pathlib
        return [sys.executable, "-I", "-S", main, "--started-fd", str(started), "--", *plan.command]

    @classmethod
    def take(cls, fd: int) -> tuple[Started, Plan, int]:
        """Return what `supervisor_argv` wrote, the plan and its descriptor; no other exec hands any of it down."""
        plan_fd, (server, streams, records, file, notify, inherited) = json.loads(content(fd))
        os.close(fd)
        started = cls(
            server,
            [Stream(*stream) for stream in streams],
            records,
            (file[0], file[1]),
            notify,
            Inherited(*inherited),
        )
        plan = Plan.read(plan_fd)
        for kept in (plan_fd, *started._descriptors(plan)):
            keep_back(kept)
        return started, plan, plan_fd

    def _descriptors(self, plan: Plan) -> Iterator[int]:
        yield from plan.master_fds
        yield self.records
        for stream in self.streams:
            yield from stream.descriptors
        yield from (fd for fd in (plan.lock, self.notify) if fd is not None)
