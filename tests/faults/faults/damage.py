"""An outbox that is damaged, taken away, or whose system calls fail, while alarms flow."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import SystemRandom

from syscalls import Syscalls

from faults.ground import Ground, wait_until
from faults.receiver import Receiver
from faults.resources import disk_mounted, filled
from faults.row import Row, judge

chance = SystemRandom()

PAGE = 4096

#: The longest that one file may take to be begun anew, in seconds, and more than the pause between two tries of it.
SOON = 60.0


def _garbage(outbox: Path) -> None:
    with outbox.open("r+b") as file:
        file.write(chance.randbytes(max(outbox.stat().st_size, PAGE)))


def _page(outbox: Path) -> None:
    pages = max(outbox.stat().st_size // PAGE, 1)
    with outbox.open("r+b") as file:
        file.seek(chance.randrange(pages) * PAGE)
        file.write(chance.randbytes(PAGE))


def _zeros(outbox: Path) -> None:
    for part in (outbox, outbox.with_name(f"{outbox.name}-shm")):
        with part.open("r+b") as file:
            file.write(bytes(part.stat().st_size))


def _truncated(outbox: Path) -> None:
    os.truncate(outbox, 0)


def _removed(outbox: Path) -> None:
    for part in outbox.parent.glob(f"{outbox.name}*"):
        if ".broken-" not in part.name:
            part.unlink()


def _replaced(outbox: Path) -> None:
    other = outbox.with_name("other")
    other.write_bytes(b"something else")
    other.replace(outbox)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "outbox overwritten": _garbage,
    "outbox, a page overwritten": _page,
    "outbox and index zeroed": _zeros,
    "outbox truncated": _truncated,
    "outbox removed": _removed,
    "outbox replaced": _replaced,
}


def damaged(folder: Path, times: int) -> list[Row]:
    """Damage the outbox in every way under load, `times` times each: all is delivered, and `status` answers."""
    folder.mkdir()
    return [
        _under_load(folder / str(n), name, times, _at_outbox(damage))
        for n, (name, damage) in enumerate(DAMAGES.items())
    ]


def _at_outbox(damage: Callable[[Path], None]) -> Callable[[Ground], None]:
    return lambda ground: damage(ground.state / "outbox.db")


def _kill_master(ground: Ground) -> None:
    before = ground.masters()
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: set(ground.masters()) - set(before), what="another master")


def _under_load(
    folder: Path, name: str, times: int, fault: Callable[[Ground], None], *, is_reachable: bool = True
) -> Row:
    complaints: list[str] = []
    with Receiver().serving() as hook:
        ground = Ground(folder, {"a": hook.url})
        with ground.running():
            ground.ready()
            for _ in range(times):
                ground.raise_alarms(100)
                with ground.under_load(pause=0.01):
                    fault(ground)
                    threading.Event().wait(chance.uniform(0, 0.5))
                if not is_reachable:
                    wait_until(ground.status, SOON, what="an answer")
                elif not ground.status():
                    complaints.append("status does not answer")
                hook.wait_for(ground.accepted, "all that was accepted", ground.counted)
            wait_until(lambda: _is_at_rest(ground), SOON, what="the file's use")
        if not _is_sound(ground):  # a page that nobody has read since
            with ground.running():
                ground.ready()
        row = judge(name, times, ground.outbox(), ground.accepted, hook.received)
    return replace(row, complaints=(*row.complaints, *complaints))


def _is_sound(ground: Ground) -> bool:
    with contextlib.suppress(sqlite3.DatabaseError, AssertionError):
        ground.outbox()
        return True
    return False


def _is_at_rest(ground: Ground) -> bool:
    status = ground.status()
    return bool(status) and not any("memory" in finding for finding in status["findings"])


def system_calls(folder: Path, times: int) -> list[Row]:
    """Let a system call on the outbox fail under load, any one, once or for a while."""
    folder.mkdir()
    syscalls = Syscalls.built(folder, "outbox.db")
    with Receiver().serving() as hook:
        ground = Ground(folder / "ground", {"a": hook.url})
        ground.environ.update(syscalls.environ)
        with ground.running():
            ground.ready()
            for _ in range(times):
                with ground.under_load(pause=0.01):
                    number = chance.choice([errno.EIO, errno.ENOSPC])
                    syscalls.fail(chance.randrange(100), number, is_lasting=chance.random() < 0.5)
                    threading.Event().wait(chance.uniform(0, 1.0))
                    syscalls.stop()
                hook.wait_for(ground.accepted, "all that was accepted", ground.counted)
            wait_until(lambda: _is_at_rest(ground), SOON, what="the file's use")
        return [judge("a system call on the outbox fails", times, ground.outbox(), ground.accepted, hook.received)]


def full_with_kills(folder: Path, times: int) -> list[Row]:
    """Kill masters while the disk is full: what the one before had in memory is the next one's."""
    with disk_mounted(folder / "state") as is_mounted, Receiver().serving() as hook:
        assert is_mounted, "only root can mount a small disk"
        ground = Ground(folder, {"a": hook.url})
        with ground.running():
            ground.ready()
            with filled(ground.state):
                for _ in range(times):
                    with ground.under_load(pause=0.01):
                        threading.Event().wait(chance.uniform(0.2, 0.8))
                        _kill_master(ground)
                    ground.ready()
                hook.wait_for(ground.accepted, "all that was accepted while the disk was full", ground.counted)
            wait_until(lambda: _is_at_rest(ground), SOON, what="the file's use")
        return [judge("disk full, and `SIGKILL` of the master", times, ground.outbox(), ground.accepted, hook.received)]


def state_removed(folder: Path, times: int) -> list[Row]:
    """Remove the state directory under load; another master makes it again, as does one that starts without it."""

    def remove(ground: Ground) -> None:
        before = ground.masters()
        shutil.rmtree(ground.state, ignore_errors=True)
        wait_until(lambda: set(ground.masters()) - set(before), what="another master")
        ground.ready()
        _kill_master(ground)

    return [_under_load(folder, "state directory removed", times, remove, is_reachable=False)]


@contextlib.contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    """Let nothing be written in a folder by who opens it from now on."""
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def state_read_only(folder: Path, times: int) -> list[Row]:
    """Make the state directory read-only and kill masters: alarms go on, `status` answers, the file gets it all."""
    with Receiver().serving() as hook:
        ground = Ground(folder, {"a": hook.url})
        with ground.running():
            ground.ready()
            for _ in range(times):
                with _read_only(ground.state):
                    for _ in range(2):
                        _kill_master(ground)
                        ground.ready()
                        ground.raise_alarms(100)
                    hook.wait_for(ground.accepted, "alarms from memory", ground.counted)
                wait_until(lambda: _is_at_rest(ground), SOON, what="the file's use")
                ground.raise_alarms(10)
                hook.wait_for(ground.accepted, "all that was accepted", ground.counted)
        row = judge("state directory read-only, and `SIGKILL`", times, ground.outbox(), ground.accepted, hook.received)
        return [row]
