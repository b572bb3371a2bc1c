"""Exceptions in the threads of the master, at any statement: it is replaced as after a kill."""

from __future__ import annotations

import ast
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import alarm_mw
from alarm_mw.supervisor.carriers.carriers import EARLY
from faults.ground import Ground, wait_until
from faults.receiver import Receiver
from faults.row import Row, judge
from faults.seeds import new_seed

#: Where threads of the master are at work.
MODULES = (
    "streams/reader",
    "streams/intake",
    "records/receiver",
    "records/regions",
    "worker/thread",
    "runtime/loop_thread",
    "threads",
)

KINDS = ("RuntimeError", "OSError", "MemoryError", "SystemExit", "KeyboardInterrupt")

#: Seconds for a statement to be reached; many are only for what seldom happens.
REACHED = 3.0

#: Seconds for which a master has to live, so that the next one is not the last of many that die early.
STEADY = EARLY + 0.1

#: What `sitecustomize` is told by.
INJECTED = Path(__file__).parent.parent / "injected"


def statements() -> list[tuple[str, int]]:
    """Return the file and the line of each statement in a function of these modules."""
    folder = Path(alarm_mw.__file__).parent / "master"
    return [(str(file), line) for file in (folder / f"{name}.py" for name in MODULES) for line in _lines(file)]


def _lines(file: Path) -> Iterator[int]:
    found: set[int] = set()
    for function in ast.walk(ast.parse(file.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            found |= {node.lineno for node in ast.walk(function) if isinstance(node, ast.stmt) and node is not function}
    yield from sorted(found)


def exceptions(folder: Path, times: int) -> list[Row]:
    """Raise an exception at one statement after the other, each in a master of its own, under load."""
    seed = new_seed()
    chance = Random(seed)
    chosen = statements()
    chance.shuffle(chosen)
    raised = 0
    with Receiver().serving() as hook:
        ground = Ground(folder, {"a": hook.url})
        order = ground.folder / "order"
        path = os.pathsep.join(filter(None, [str(INJECTED), os.environ.get("PYTHONPATH")]))
        ground.environ.update(PYTHONPATH=path, ALARM_MW_INJECT=str(order))
        with ground.running():
            with ground.under_load(pause=0.01):
                for file, line in chosen[:times]:
                    order.write_text(json.dumps({"file": file, "line": line, "kind": chance.choice(KINDS)}))
                    raised += _is_raised(ground, order)
            wait_until(lambda: hook.has(ground.accepted), what=f"all that was accepted, seed {seed}")
        name = f"exception in a thread of the master ({raised} of {times} statements were reached)"
        return [judge(name, times, ground.outbox(), ground.accepted, hook.received)]


def _is_raised(ground: Ground, order: Path) -> bool:
    """Replace the master by one that raises, and return whether it did so; it is replaced in any case."""
    taken = order.with_suffix(".taken")
    master = ground.ready()
    threading.Event().wait(STEADY)
    os.kill(master, signal.SIGKILL)
    wait_until(lambda: not order.exists(), what="a master that raises")
    try:
        wait_until(lambda: not taken.exists(), REACHED)
    except TimeoutError:
        taken.unlink(missing_ok=True)
        return False
    return True
