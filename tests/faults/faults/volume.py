"""Large configurations, and a regexp that would take for ever."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from faults.ground import Ground, wait_until
from faults.receiver import Receiver
from faults.row import Row, judge

#: So many alarms for each time, each with a rule of its own.
MANY = 100

#: The search tries each way to share the letters out; the screen cannot tell what a look ahead would find.
PATTERN = r"(?=(x|xx)+\d)x"

BACKTRACKING = f"""
[[rules]]
pattern = '{PATTERN}'
alarms = "never"

[alarms.never]
action = "log"
"""

#: A line that takes it some 2 ** 60 steps.
LONG = "x" * 60


def many(folder: Path, times: int) -> list[Row]:
    """Configure many alarms and rules: what is fired goes to its own alarm, and to the one for all."""
    each = "".join(
        f'[alarms.a{n}]\naction = "log"\n[[rules]]\npattern = "^TERRIBLE ALARM {n}$"\nalarms = "a{n}"\n'
        for n in range(times * MANY)
    )
    with Receiver().serving() as hook:
        ground = Ground(folder, {"a": hook.url}, more=each)
        with ground.running():
            ground.ready()
            for _ in range(times):
                ground.raise_alarms()
            wait_until(lambda: hook.has(ground.accepted), what="all that was accepted")
        outbox = ground.outbox()
    own = {name: book["delivered"] for name, book in outbox.books["alarms"].items() if name != "a"}
    row = judge("as many alarms, each with a rule", times * MANY, outbox, ground.accepted, hook.received)
    return [row if own == {f"a{n}": 1 for n in ground.accepted} else replace(row, complaints=(f"fired: {own}",))]


def backtracking(folder: Path, times: int) -> list[Row]:
    """Print a line that a rule's regexp would search for ever: it is cut off, and named; the other rules go on."""
    with Receiver().serving() as hook:
        ground = Ground(folder, {"a": hook.url}, more=BACKTRACKING)
        ground.suffix = LONG
        with ground.running():
            for _ in range(times):
                ground.raise_alarms()
            wait_until(lambda: hook.has(ground.accepted), what="all that was accepted")
            wait_until(lambda: f"{PATTERN!r} was cut off" in ground.errors(), what="the rule named in the log")
        return [judge("regexp that backtracks for ever", times, ground.outbox(), ground.accepted, hook.received)]
