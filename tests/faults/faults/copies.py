"""A power cut: the outbox's files as they were at some moment, the end of the log not written yet."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import SystemRandom

from faults.ground import Ground, wait_until
from faults.receiver import Receiver
from faults.row import Outbox, Row, judge

#: Of SQLite's log: the header, and each frame, a page with its own header (sqlite.org/fileformat2.html).
HEADER = 32
FRAME = 4096 + 24

#: Where the index of the log says how many frames may be in the database already, be it in part: the log is on the disk
#: before the first of them is written there (``nBackfillAttempted`` in SQLite's wal.c; sqlite.org/walformat.html).
BACKFILLED = slice(128, 132)


chance = SystemRandom()


@contextlib.contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt", what="a stop")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _cut(outbox: Path) -> None:
    """Cut the log's end off, anywhere behind what had to be on the disk before it went into the database."""
    log, index = (outbox.with_name(outbox.name + suffix) for suffix in ("-wal", "-shm"))
    backfilled = int.from_bytes(index.read_bytes()[BACKFILLED], "little")
    index.unlink()  # it is memory
    least, size = HEADER + backfilled * FRAME, log.stat().st_size
    if size > least:
        os.truncate(log, chance.randint(least, size))


def power_cut(folder: Path, times: int) -> list[Row]:
    """Copy the outbox at any moment, under load: each copy opens, is whole, and balances."""
    complaints: list[str] = []
    with Receiver().serving() as hook:
        ground = Ground(folder, {"a": hook.url})
        with ground.running():
            master = ground.ready()
            with ground.under_load(pause=0.01):
                for n in range(times):
                    threading.Event().wait(chance.uniform(0, 0.2))
                    copy = folder / f"copy{n}"
                    copy.mkdir()
                    with _stopped(master):
                        for part in ground.state.glob("outbox.db*"):
                            shutil.copy(part, copy)
                    _cut(copy / "outbox.db")
                    complaints += Outbox.read(copy / "outbox.db").imbalances()
                    shutil.rmtree(copy)
            hook.wait_for(ground.accepted, "all that was accepted", ground.counted)
        row = judge("power cut: a copy of the outbox", times, ground.outbox(), ground.accepted, hook.received)
        return [replace(row, complaints=(*row.complaints, *complaints))]
