"""Two and three faults at a time, chosen by a seed: after each composition, and at the end, the books balance."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

from faults.ground import START, Ground, wait_until
from faults.processes import send
from faults.receiver import Behaviour, Receiver, closes, drips, hangs
from faults.row import Row, judge
from faults.seeds import new_seed

#: Seconds for which the faults of one composition overlap.
WHILE = 1.0

#: Seconds from one fault to the next.
APART = 0.3

Fault = Callable[[Ground, Receiver, Random], contextlib.AbstractContextManager[object]]


@contextlib.contextmanager
def _master_killed(ground: Ground, _: Receiver, __: Random) -> Iterator[None]:
    send(ground.masters(), signal.SIGKILL)
    yield


@contextlib.contextmanager
def _worker_killed(ground: Ground, _: Receiver, chance: Random) -> Iterator[None]:
    send(ground.workers()[: chance.randint(1, 2)], signal.SIGKILL)
    yield


@contextlib.contextmanager
def _master_stopped(ground: Ground, _: Receiver, __: Random) -> Iterator[None]:
    masters = ground.masters()
    send(masters, signal.SIGSTOP)
    try:
        yield
    finally:
        send(masters, signal.SIGCONT)


@contextlib.contextmanager
def _reload(ground: Ground, _: Receiver, __: Random) -> Iterator[None]:
    os.kill(ground.supervisor, signal.SIGHUP)
    yield


@contextlib.contextmanager
def _misbehaving(_: Ground, hook: Receiver, chance: Random) -> Iterator[None]:
    behaviours: tuple[Behaviour, ...] = (closes, drips, hangs)
    hook.well.clear()
    hook.behaviour = chance.choice(behaviours)
    try:
        yield
    finally:
        hook.recover()


@contextlib.contextmanager
def _outbox_locked(ground: Ground, _: Receiver, chance: Random) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(ground.state / "outbox.db", isolation_level=None)) as database:
        with contextlib.suppress(sqlite3.OperationalError):  # a master that starts has it
            database.execute("BEGIN IMMEDIATE")
        threading.Event().wait(chance.uniform(0, 0.2))
    yield


@contextlib.contextmanager
def _without_descriptors(ground: Ground, _: Receiver, __: Random) -> Iterator[None]:
    with _limited(ground, resource.RLIMIT_NOFILE, 3):
        yield


@contextlib.contextmanager
def _limited(ground: Ground, kind: int, soft: int) -> Iterator[None]:
    before: dict[int, tuple[int, int]] = {}
    for pid in ground.masters():
        with contextlib.suppress(ProcessLookupError):
            before[pid] = resource.prlimit(pid, kind)
            resource.prlimit(pid, kind, (soft, before[pid][1]))
    try:
        yield
    finally:
        for pid, limits in before.items():
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, kind, limits)


@contextlib.contextmanager
def _burst(ground: Ground, _: Receiver, __: Random) -> Iterator[None]:
    ground.raise_alarms(500)
    yield


FAULTS: dict[str, Fault] = {
    "master killed": _master_killed,
    "worker killed": _worker_killed,
    "master stopped": _master_stopped,
    "configuration read again": _reload,
    "receiver misbehaves": _misbehaving,
    "outbox locked": _outbox_locked,
    "master without descriptors": _without_descriptors,
    "burst": _burst,
}


def monkey(folder: Path, seconds: float) -> list[Row]:
    """Compose faults for so long, and return a row for each server: one has ten compositions."""
    chance = Random(new_seed())
    folder.mkdir(exist_ok=True)
    deadline = time.monotonic() + seconds
    rows: list[Row] = []
    while not rows or time.monotonic() < deadline:
        seed = chance.randrange(2**32)
        rows.append(_server(folder / f"monkey-{len(rows)}", seed))
    return rows


def _server(folder: Path, seed: int) -> Row:
    chance = Random(seed)
    compositions: list[str] = []
    with Receiver().serving() as hook:
        ground = Ground(folder, {"a": hook.url})
        name = f"monkey, seed {seed}"
        with ground.running():
            for _ in range(10):
                ground.ready()
                names = chance.sample(list(FAULTS), chance.choice((2, 3)))
                compositions.append(" + ".join(names))
                with ground.under_load(pause=0.02), contextlib.ExitStack() as stack:
                    for fault in names:
                        stack.enter_context(FAULTS[fault](ground, hook, chance))
                        threading.Event().wait(chance.uniform(0, APART))
                    threading.Event().wait(chance.uniform(0, WHILE))
            with contextlib.suppress(TimeoutError):  # the row tells what is missing
                wait_until(lambda: hook.has(ground.accepted), START)
        row = judge(name, len(compositions), ground.outbox(), ground.accepted, hook.received)
        is_well = not row.lost and not row.complaints
        return row if is_well else replace(row, complaints=(*row.complaints, "; ".join(compositions)))
