"""Exceptions in the threads of the master, at any statement: it is replaced as after a kill."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import alarm_mw
from alarm_mw.supervisor.carriers.master_pool import EARLY
from faults.ground import Ground, wait_until
from faults.receiver import Receiver
from faults.row import Row, judge
from faults.seeds import new_seed

#: Where threads of the master are at work.
ROOMS = ("streams", "records", "worker", "runtime")

KINDS = ("RuntimeError", "OSError", "MemoryError", "SystemExit", "KeyboardInterrupt")

#: Seconds for a statement to be reached, by a master that starts on a busy machine, too.
REACHED = 10.0

#: Seconds for which a master has to live, so that the next one is not the last of many that die early.
STEADY = EARLY + 0.1

#: So many masters in a row may die early, fewer than lead to output without a master.
EARLY_DEATHS = 3

#: How often a master is killed, and alarms are raised, while the statements that are reached are noted.
NOTED = 3

#: What `sitecustomize` is told by.
INJECTED = Path(__file__).parent.parent / "injected"


def statements() -> list[tuple[str, int]]:
    """Return the file and the line of each statement in a function of these rooms."""
    master = Path(alarm_mw.__file__).parent / "master"
    files = [file for room in ROOMS for file in sorted((master / room).glob("*.py"))]
    return [(str(file), line) for file in files for line in _lines(file)]


def _lines(file: Path) -> Iterator[int]:
    found: set[int] = set()
    for function in ast.walk(ast.parse(file.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            found |= {node.lineno for node in ast.walk(function) if isinstance(node, ast.stmt) and node is not function}
    yield from sorted(found)


def exceptions(folder: Path, times: int) -> list[Row]:
    """Raise an exception at one statement after the other, each in a master of its own, under load.

    A statement is chosen from those that masters under load come to; the others are for what seldom happens.
    """
    seed = new_seed()
    chance = Random(seed)
    with Receiver().serving() as hook:
        ground = Ground(folder, {"a": hook.url})
        order = ground.folder / "order"
        path = os.pathsep.join(filter(None, [str(INJECTED), os.environ.get("PYTHONPATH")]))
        ground.environ.update(PYTHONPATH=path, ALARM_MW_INJECT=str(order))
        with ground.running():
            with ground.under_load(pause=0.1):
                chosen = _reached(ground, order)
                chance.shuffle(chosen)
                chosen = chosen[:times]
                raised = sum(
                    _is_raised(ground, order, file, line, chance.choice(KINDS), is_steady=n % EARLY_DEATHS == 0)
                    for n, (file, line) in enumerate(chosen)
                )
            hook.wait_for(ground.accepted, f"all that was accepted, seed {seed}", ground.counted)
        name = "exception in a thread of the master"
        return [judge(name, raised, ground.outbox(), ground.accepted, hook.received)]


def _reached(ground: Ground, order: Path) -> list[tuple[str, int]]:
    """Return the statements that masters come to which start, work, read their configuration again, and die."""
    known = statements()
    order.write_text(json.dumps({"files": sorted({file for file, _ in known})}))
    for _ in range(NOTED):
        _kill_master(ground)
        ground.ready()
        os.kill(ground.supervisor, signal.SIGHUP)
        os.kill(ground.workers()[0], signal.SIGKILL)
        ground.raise_alarms(100)
    order.unlink()
    noted = {tuple(json.loads(line)) for line in order.with_suffix(".reached").read_text().splitlines()}
    return [place for place in known if place in noted]


def _kill_master(ground: Ground) -> None:
    for master in ground.masters():
        with contextlib.suppress(ProcessLookupError):  # it was about to die of the last exception
            os.kill(master, signal.SIGKILL)


def _is_raised(ground: Ground, order: Path, file: str, line: int, kind: str, *, is_steady: bool) -> bool:
    """Replace the master by one that raises, and return whether it did so; it is replaced in any case."""
    taken = order.with_suffix(".taken")
    ground.ready()
    if is_steady:
        threading.Event().wait(STEADY)
    order.write_text(json.dumps({"file": file, "line": line, "kind": kind}))
    _kill_master(ground)
    wait_until(lambda: not order.exists(), what="a master that raises")
    try:
        wait_until(lambda: not taken.exists(), REACHED)
    except TimeoutError:
        taken.unlink(missing_ok=True)
        return False
    return True
