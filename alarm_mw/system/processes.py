"""Which processes descend from one, and which sockets they have, from ``/proc`` (Linux); and tying one to another."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

#: More than there is in it.
_LOADAVG_SIZE = 200

_SOCKET = re.compile(r"socket:\[(\d+)\]")


def family(root: int) -> Iterator[int]:
    """Yield a process and all that descend from it; those that end meanwhile may be among them."""
    yield root
    for child in _children(root):
        yield from family(child)


def newest_pid() -> int:
    """Return the number that was given to a process or thread last, the same as before where none is new (proc(5))."""
    descriptor = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(descriptor, _LOADAVG_SIZE).split()[-1])
    finally:
        os.close(descriptor)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in _entries(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_bytes().split())
    return found


def sockets_of(pid: int) -> dict[int, int]:
    """Return a process's sockets: the descriptor of each by the socket's inode."""
    found: dict[int, int] = {}
    for entry in _entries(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            match = _SOCKET.fullmatch(os.readlink(f"/proc/{pid}/fd/{entry}"))
            if match:
                found[int(match[1])] = int(entry)
    return found


def sockets_of_family(root: int) -> dict[int, int]:
    """Return the sockets of a process and its descendants; of a shared one, the descriptor of the eldest."""
    found: dict[int, int] = {}
    for pid in family(root):
        found = sockets_of(pid) | found
    return found


def _entries(folder: str) -> list[str]:
    """Return what is in a folder; nothing when its process has ended, or belongs to somebody else."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


#: Has the kernel send SIGTERM at the death of the parent (`PR_SET_PDEATHSIG`), and becomes another program.
_TIE = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execvp(sys.argv[1], sys.argv[1:])"


def tied(command: Sequence[str]) -> list[str]:
    """Return a command that runs another one, which the kernel ends together with the thread that starts it.

    Not a function that `subprocess` calls between fork and exec: other threads may hold locks there.
    """
    return [sys.executable, "-I", "-S", "-c", _TIE, *command]
