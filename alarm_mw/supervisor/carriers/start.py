"""Starts what carries the output: masters, with everything that the one before left behind, and relays."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from alarm_mw.supervisor.carriers.carrier import PATIENCE_AT_START, Carrier, Watchdog
from alarm_mw.supervisor.carriers.relay import Relay
from alarm_mw.supervisor.descriptors import close_all_but, hand_down
from alarm_mw.supervisor.plan import Plan
from alarm_mw.supervisor.process import fork, spawn
from alarm_mw.supervisor.signals import Inherited, give_back
from alarm_mw.supervisor.streams import Stream

# A terminal's ^C is for the server; its last lines are still to be looked at, and what they fire to be delivered.
_DEAF_TO = frozenset({signal.SIGINT, signal.SIGQUIT})


class CarrierStart:
    """What every master of a run is started with. `patience`, in seconds, is that of its watchdog; 0 for none."""

    def __init__(
        self, plan: Plan, plan_fd: int, listening: socket.socket, inherited: Inherited, *, patience: float
    ) -> None:
        self.patience = patience
        self._plan = plan
        self._plan_fd = plan_fd
        self._listening = listening
        self._inherited = inherited

    def replace_plan(self, fd: int) -> None:
        """Start the next masters with the plan in `fd`, which is closed here."""
        os.dup2(fd, self._plan_fd, inheritable=False)
        os.close(fd)

    def replace(self, what: str, fd: int) -> None:
        """Start the next masters with `fd`, which is closed here, as the records socket (``listen``) or the lock."""
        former = self._listening.fileno() if what == "listen" else self._plan.lock
        if former is not None:
            os.dup2(fd, former, inheritable=False)
        os.close(fd)

    def master(self, streams: list[Stream], connections: Mapping[str, int], replaced: list[str]) -> Carrier:
        """Return a new master; raises OSError. `connections` are the workers' descriptors by their tokens.

        `replaced` says how each master before it has ended.
        """
        with _control() as (ours, theirs):
            shared = {"streams": [stream._asdict() for stream in streams], "connections": connections}
            ends = {"replaced": len(replaced), "last_end": replaced[-1] if replaced else ""}
            handed = {**shared, **ends, "listen": self._listening.fileno(), "control": theirs.fileno()}
            descriptors = {self._plan_fd, self._listening.fileno(), theirs.fileno(), *connections.values()}
            descriptors.update(self._plan.master_fds, *(stream.descriptors for stream in streams))
            if self._plan.lock is not None:
                descriptors.add(self._plan.lock)

            def prepare() -> dict[str, str]:
                for fd in descriptors:
                    hand_down(fd)
                give_back(self._inherited, deaf_to=_DEAF_TO)
                return {**os.environ, "ALARM_MW_PLAN_FD": str(self._plan_fd), "ALARM_MW_FDS": json.dumps(handed)}

            pid = spawn(prepare, self._plan.master_argv)
        at_start = PATIENCE_AT_START if self.patience else 0.0
        return Carrier(pid, ours, Watchdog(at_start, time.monotonic()))


def start_relay(streams: list[Stream]) -> Carrier:
    """Return a new relay; raises OSError."""
    with _control() as (ours, theirs):
        needed = {theirs.fileno()}.union(*(stream.descriptors for stream in streams))

        def run() -> None:
            close_all_but(needed)
            Relay(streams, theirs).run()

        return Carrier(fork(run), ours)


@contextmanager
def _control() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give our end of a control socket and the child's; afterwards the child's is closed, and ours where it failed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        try:
            yield ours, theirs
        except OSError:
            ours.close()
            raise
