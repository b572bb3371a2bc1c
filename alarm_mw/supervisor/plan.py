"""What the command line hands to the supervisor, and the supervisor to every master: a plan in a memory file."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, field

from alarm_mw.descriptors import beyond_standard


@dataclass(frozen=True, slots=True)
class Plan:
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
    server_env: dict[str, str] = field(default_factory=dict)
    #: Seconds that the master gets at the end, to deliver what it has.
    shutdown_timeout: float = 5.0
    #: Descriptors that were open on entry, which every master gets as well as the server.
    master_fds: list[int] = field(default_factory=list)
    #: For the master; the supervisor does not look inside. Whatever JSON can hold.
    settings: dict[str, object] = field(default_factory=dict)

    def write(self) -> int:
        """Return a new descriptor of a memory file that holds this plan; it stays open over an exec."""
        memory = os.memfd_create("alarm-mw-plan")
        with os.fdopen(memory, "wb", closefd=False) as file:
            file.write(json.dumps(asdict(self)).encode("ascii"))
        plan = beyond_standard(memory)
        os.set_inheritable(plan, True)
        return plan

    def supervisor_argv(self, fd: int) -> list[str]:
        """Return the command line to execute for this plan, which is in `fd`; `ps` shows the server's, too."""
        main = os.path.join(os.path.dirname(__file__), "__main__.py")  # noqa: PTH118  # the supervisor has no pathlib
        return [sys.executable, "-I", "-S", main, "--plan-fd", str(fd), "--", *self.command]

    @classmethod
    def read(cls, fd: int) -> Plan:
        """Return the plan that `write` put into `fd`, which may be read any number of times, by any process."""
        return cls(**json.loads(os.pread(fd, os.fstat(fd).st_size, 0)))
