"""A disk without room, and a master without descriptors or memory."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

from faults.ground import Ground, wait_until
from faults.receiver import Receiver
from faults.row import Row, judge

#: Bytes of the disk that is filled.
DISK = 8 * 2**20

#: What the master says when it goes on without its file.
COMPLAINT = "Alarms go on from memory"

#: Bytes of address space that a master may have beyond what it has.
LITTLE = 2**20


# The disk


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[bool]:
    """Mount a small file system at a folder; say whether that was allowed."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=700", "none", str(folder)]
    is_mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def _full(folder: Path) -> Iterator[None]:
    """Leave no room on a small file system."""
    filler = folder / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        while True:
            os.write(file.fileno(), bytes(4096))
    try:
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def _limited(pid: int, kind: int, soft: int) -> Iterator[None]:
    """Limit what a process may have of a resource."""
    before = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (min(soft, before[1]), before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, kind, before)


def _wait_for(hook: Receiver, raised: set[int]) -> None:
    wait_until(lambda: hook.has(raised), what="alarms while the disk is full")


def _wait_for_the_file(ground: Ground, n: int) -> None:
    wait_until(lambda: ground.errors().count("can be written again") == n, what="the file's use")


def disk(folder: Path, times: int) -> list[Row]:
    """Fill the disk that has the outbox, while alarms are raised.

    Where nothing can be mounted, the master's files may not grow.
    """
    with _disk(folder / "state") as is_mounted, Receiver().serving() as hook:
        ground = Ground(folder, {"a": hook.url})
        with ground.running():
            for n in range(1, times + 1):
                master = ground.ready()
                with _full(ground.state) if is_mounted else _limited(master, resource.RLIMIT_FSIZE, 0):
                    while ground.errors().count(COMPLAINT) < n:
                        raised = ground.raise_alarms(100)
                        _wait_for(hook, raised)
                ground.raise_alarms(100)
                wait_until(lambda: hook.has(ground.accepted), what="all that was accepted")
                _wait_for_the_file(ground, n)
        return [judge("disk full", times, ground.outbox(), ground.accepted, hook.received)]


# The master's limits


def descriptors(folder: Path, times: int) -> list[Row]:
    """Take all descriptors from the master, and give them back."""
    with Receiver().serving() as hook:
        ground = Ground(folder, {"a": hook.url}, more='[alarms.c]\naction = "cmd"\ncommand = "true"\n')
        with ground.running():
            for _ in range(times):
                master = ground.ready()
                most = max(int(entry.name) for entry in Path(f"/proc/{master}/fd").iterdir())
                with _limited(master, resource.RLIMIT_NOFILE, min(most, 3)):
                    os.kill(ground.workers()[0], 9)  # the next one has to connect
                    ground.raise_alarms(100)
                wait_until(lambda: hook.has(ground.accepted), what="all that was accepted")
        return [judge("descriptors exhausted", times, ground.outbox(), ground.accepted, hook.received)]


def memory(folder: Path, times: int) -> list[Row]:
    """Let the master have no more memory, until it has died of that or all was taken."""
    with Receiver().serving() as hook:
        ground = Ground(folder, {"a": hook.url})
        with ground.running():
            for _ in range(times):
                master = ground.ready()
                pages = int(Path(f"/proc/{master}/statm").read_text().split()[0])
                with _limited(master, resource.RLIMIT_AS, pages * resource.getpagesize() + LITTLE):
                    ground.raise_alarms(1000)
                wait_until(lambda: hook.has(ground.accepted), what="all that was accepted")
        return [judge("memory limit", times, ground.outbox(), ground.accepted, hook.received)]
