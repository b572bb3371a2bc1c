"""A disk without room, and a master without descriptors or memory."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from faults.ground import Ground, wait_until
from faults.receiver import Receiver, closes
from faults.row import Row, judge

#: Bytes of the disk that is filled.
DISK = 8 * 2**20

#: What the master says when it goes on without its file.
COMPLAINT = "Alarms go on from memory"

#: Bytes of address space that a master may have beyond what it has.
LITTLE = 2**20


# The disk


@contextlib.contextmanager
def disk_mounted(folder: Path) -> Iterator[bool]:
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
def filled(folder: Path) -> Iterator[None]:
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
    hard = before[1]
    resource.prlimit(pid, kind, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, kind, before)


def _wait_for(hook: Receiver, raised: set[int]) -> None:
    hook.wait_for(raised, "alarms while the disk is full")


def _is_in_memory(ground: Ground) -> bool:
    """Return whether a master answers that it goes on without its file."""
    return any(COMPLAINT in finding for finding in ground.status().get("findings", ()))


def _wait_for_the_file(ground: Ground) -> None:
    wait_until(lambda: ground.ready() and not _is_in_memory(ground), what="the file's use")


def disk(folder: Path, times: int) -> list[Row]:
    """Fill the disk that has the outbox, while alarms are raised.

    Where nothing can be mounted, the master's files may not grow.
    """
    with disk_mounted(folder / "state") as is_mounted, Receiver().serving() as hook:
        ground = Ground(folder, {"a": hook.url})
        with ground.running():
            for _ in range(times):
                master = ground.ready()
                with filled(ground.state) if is_mounted else _limited(master, resource.RLIMIT_FSIZE, 0):
                    while not _is_in_memory(ground):
                        raised = ground.raise_alarms(100)
                        _wait_for(hook, raised)
                ground.raise_alarms(100)
                hook.wait_for(ground.accepted, "all that was accepted", ground.counted)
                _wait_for_the_file(ground)
        return [judge("disk full", times, ground.outbox(), ground.accepted, hook.received)]


def disk_at_start(folder: Path, times: int) -> list[Row]:
    """Let masters start on a full disk, with firings in the outbox that nobody has taken yet.

    Where nothing can be mounted, the files of a new master may not grow.
    """
    with disk_mounted(folder / "state") as is_mounted, Receiver().serving() as hook:
        ground = Ground(folder, {"a": hook.url})
        are_away: list[bool] = []
        with ground.running():
            for _ in range(times):
                raised = _leave_waiting(ground, hook)
                with filled(ground.state) if is_mounted else _heirs_limited(ground):
                    _replace_master(ground)
                    are_away.append(_is_in_memory(ground))
                    hook.behaviour = None
                    _wait_for(hook, raised | ground.raise_alarms(100))
                _wait_for_the_file(ground)
        # Some find enough room in the log that the last one has left.
        assert any(are_away), "each master had room"
        return [judge("disk full at the start", times, ground.outbox(), ground.accepted, hook.received)]


def _leave_waiting(ground: Ground, hook: Receiver) -> set[int]:
    """Raise alarms that nobody takes; return when they wait in the outbox."""
    hook.behaviour = closes
    ground.ready()
    raised = ground.raise_alarms(100)
    wait_until(lambda: ground.status()["alarms"]["a"]["waiting"] == len(raised), what="firings in the outbox")
    return raised


def _replace_master(ground: Ground) -> None:
    before = ground.masters()[0]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: ground.ready() != before, what="another master")


@contextlib.contextmanager
def _heirs_limited(ground: Ground) -> Iterator[None]:
    """Let a new master write no files, as long as the context lasts: it has the supervisor's limits."""
    with _limited(ground.supervisor, resource.RLIMIT_FSIZE, 0):
        yield
    before = resource.prlimit(ground.supervisor, resource.RLIMIT_FSIZE)
    resource.prlimit(ground.masters()[0], resource.RLIMIT_FSIZE, before)


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
                hook.wait_for(ground.accepted, "all that was accepted", ground.counted)
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
                hook.wait_for(ground.accepted, "all that was accepted", ground.counted)
        return [judge("memory limit", times, ground.outbox(), ground.accepted, hook.received)]
