"""What the command line hands to the supervisor, and the supervisor to every master: a plan in a memory file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from alarm_mw.supervisor.descriptors import content, memory_file

#: Lets Python processes write their stacks when they crash; it counts from their start on.
STACKS = "PYTHONFAULTHANDLER"


class Plan(NamedTuple):
    """Everything that was checked before the server starts."""

    #: The server's command and its arguments.
    command: list[str]
    #: The complete command that starts a master.
    master_argv: list[str]
    #: Path of the socket where workers hand in their records.
    socket: str
    #: Unique to this run.
    run_id: str
    #: A descriptor that keeps other servers out of the state directory while the supervisor or a master has it open.
    lock: int | None = None
    #: Added to the server's environment.
    server_env: Mapping[str, str] = {}
    #: Seconds that the master gets at the end, to deliver what it has.
    shutdown_timeout: float = 5.0
    #: Whether that is to deliver all of it, later attempts included; else what waits for one waits for the next start.
    waits: bool = False
    #: The exit status says whether everything was delivered.
    is_strict: bool = False
    #: Descriptors that were open on entry, which every master gets as well as the server.
    master_fds: Sequence[int] = ()
    #: For the master; the supervisor does not look inside. Whatever JSON can hold.
    settings: Mapping[str, object] = {}

    def write(self) -> int:
        """Return a new descriptor of a memory file that holds this plan; it stays open over an exec."""
        return memory_file("alarm-mw-plan", json.dumps(self._asdict()))

    @classmethod
    def read(cls, fd: int) -> Plan:
        """Return the plan that `write` put into `fd`, which may be read any number of times, by any process."""
        return cls(**json.loads(content(fd)))
