"""All faults: what each is called, how often it is injected in the short form, and in the long one at 100 times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from faults import clock, copies, damage, endings, endpoints, exceptions, kills, resources, volume
from faults.row import Row


@dataclass(frozen=True, slots=True)
class Fault:
    """Runs a server in a folder, injects so many times, and returns what came of it."""

    inject: Callable[[Path, int], list[Row]]
    #: In the short form, for every run of the tests.
    short: int
    #: For each hundred times of the long form; what takes long is injected less often.
    long: int


CATALOGUE = {
    "kill-master": Fault(kills.master, 3, 100),
    "kill-master-slow-disk": Fault(kills.late, 2, 20),
    "kill-worker": Fault(kills.worker, 3, 100),
    "kill-supervisor": Fault(kills.supervisor, 1, 30),
    "kill-everything": Fault(kills.everything, 2, 30),
    "process-ends": Fault(endings.endings, 1, 5),
    "closed-descriptors": Fault(endings.closing, 1, 50),
    "exceptions": Fault(exceptions.exceptions, 2, 100),
    "receivers": Fault(endpoints.receivers, 2, 100),
    "disk-full": Fault(resources.disk, 1, 20),
    "disk-full-at-start": Fault(resources.disk_at_start, 1, 20),
    "no-descriptors": Fault(resources.descriptors, 2, 50),
    "no-memory": Fault(resources.memory, 1, 50),
    "clock": Fault(clock.jumps, 2, 20),
    "outbox-damaged": Fault(damage.damaged, 1, 20),
    "outbox-system-calls": Fault(damage.system_calls, 3, 100),
    "disk-full-and-kills": Fault(damage.full_with_kills, 3, 100),
    "state-removed": Fault(damage.state_removed, 2, 50),
    "state-read-only": Fault(damage.state_read_only, 1, 20),
    "power-cut": Fault(copies.power_cut, 5, 100),
    "backtracking": Fault(volume.backtracking, 2, 100),
    "nested-repeats": Fault(volume.nested, 2, 100),
    "hostile-lines": Fault(volume.hostile, 2, 100),
    "backlog": Fault(volume.backlog, 1, 100),
    "many-alarms": Fault(volume.many, 5, 100),
}
