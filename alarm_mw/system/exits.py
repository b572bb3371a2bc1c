"""How processes end, as Linux reports it.

proc(5), cgroups(7), pidfd_open(2) and, since Linux 6.15, ``PIDFD_GET_INFO`` (linux/pidfd.h). Nothing here blocks.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alarm_mw.system.permissions import parent_of

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")

#: ``struct pidfd_info`` in its first form: mask, cgroup, eleven ids, and the status as of wait(2).
_INFO = struct.Struct("=QQ44xi")
_INFO_EXIT = 1 << 3
#: ``_IOWR(0xFF, 11, struct pidfd_info)``
_GET_INFO = 3 << 30 | _INFO.size << 16 | 0xFF << 8 | 11

#: Where the status stands in ``/proc/PID/stat``, counted from behind the name.
_EXIT_CODE = 49

#: The longest command that is shown, in characters.
MAX_COMMAND = 200


def command(pid: int, proc: Path = PROC) -> str:
    """Return a process's command line; of one that is dying or dead, as much as is still known; else nothing.

    A process that has not executed anything of its own has the command line of its parent.
    """
    name = _name(pid, proc)
    parent = parent_of(pid, str(proc))
    inherited = _command_line(parent, proc) if parent and name == _name(parent, proc) else ""
    return _command_line(pid, proc) or inherited or name


def _command_line(pid: int, proc: Path) -> str:
    line = _read(proc / str(pid) / "cmdline").rstrip(b"\0").replace(b"\0", b" ")
    return " ".join(line.decode("utf-8", "replace").split())[:MAX_COMMAND]


def _name(pid: int, proc: Path) -> str:
    return _read(proc / str(pid) / "comm").rstrip(b"\n").decode("utf-8", "replace")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # the process has gone
        return b""


def is_dumping_core(pid: int, proc: Path = PROC) -> bool:
    """Return whether a fatal signal has hit the process and the kernel is still writing its core file."""
    return b"\nCoreDumping:\t1\n" in _read(proc / str(pid) / "status")


def returncode(pidfd: int, pid: int, proc: Path = PROC) -> int | None:
    """Return how a process has ended, as `subprocess` reports it, or None where the kernel does not say.

    Before Linux 6.15 it does so only until the parent has asked.
    """
    status = status_of_zombie(pid, proc)
    if status is None:
        # The parent has asked, and from then on the pidfd knows.
        status = status_of_pidfd(pidfd)
    return None if status is None else os.waitstatus_to_exitcode(status)


def status_of_pidfd(pidfd: int) -> int | None:
    """Return the status of a process that has ended and that its parent has asked about, else None."""
    info = bytearray(_INFO.size)
    _INFO.pack_into(info, 0, _INFO_EXIT, 0, 0)
    try:
        fcntl.ioctl(pidfd, _GET_INFO, info)
    except OSError:  # an older kernel
        return None
    mask, _, status = _INFO.unpack(info)
    return int(status) if mask & _INFO_EXIT else None


def status_of_zombie(pid: int, proc: Path = PROC) -> int | None:
    """Return the status of a process that has ended and that its parent has not asked about, else None."""
    fields = _read(proc / str(pid) / "stat").rpartition(b")")[2].split()
    return int(fields[_EXIT_CODE]) if fields[:1] in ([b"Z"], [b"X"]) else None


@dataclass(frozen=True, slots=True)
class OomKills:
    """Where the kernel counts the processes that it killed because memory ran out."""

    file: Path

    @classmethod
    def of(cls, pid: int, proc: Path = PROC, cgroups: Path = CGROUPS) -> OomKills:
        """Return the nearest counter for a process: its control group's, else that of the whole machine."""
        for file in _cgroup_files(pid, proc, cgroups):
            if _count(file) is not None:
                return cls(file)
        return cls(proc / "vmstat")

    def count(self) -> int:
        """Return the count; 0 where there is none."""
        return _count(self.file) or 0


def _cgroup_files(pid: int, proc: Path, cgroups: Path) -> Iterator[Path]:
    """Yield the files that may hold the counter, of both versions of control groups."""
    for line in _read(proc / str(pid) / "cgroup").decode("utf-8", "surrogateescape").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield cgroups / path.lstrip("/") / "memory.events"
        elif "memory" in controllers.split(","):
            yield cgroups / "memory" / path.lstrip("/") / "memory.oom_control"


def _count(file: Path) -> int | None:
    found = re.search(rb"^oom_kill (\d+)$", _read(file), re.MULTILINE)
    return int(found[1]) if found else None
