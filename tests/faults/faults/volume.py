"""Large configurations, and regexps that would take for ever."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial
from pathlib import Path

from faults.ground import START, Ground, wait_until
from faults.receiver import Receiver
from faults.row import Row, judge

#: So many alarms for each time, each with a rule of its own.
MANY = 100

#: So many firings for each time, for a receiver that is down.
BACKLOG = 3_000

#: So many of them at a time.
PORTION = 500

#: Kilobytes of memory that a master may have, whatever waits.
MUCH = 100_000

#: The search tries each way to share the letters out.
LOOK_AHEAD = r"(?=(x|xx)+\d)x"

#: The best known of all such regexps.
NESTED = "(a+)+$"

#: Each would take for ever on a line that begins as those of `HOSTILE` end.
CATASTROPHES = (
    r"(?=(x|xx)+\d)x",
    r"^TERRIBLE.*(?:x|x)+$",
    r"(x+x+)+y",
    r"(?:x*)*y",
    r"(x|x?)+y",
    r"([a-z]+)*=",
    r"(?:x.*x)*y$",
    r"(x{1,9}){1,9}y",
    r"(?:.*,)*;",
    r"(?=(x+)+$)\d",
    r"((x+)+y|x)+\d$",
)

#: Bytes of such a line, of which the first 64 KB are judged.
HOSTILE = 90_000

RULE = """
[[rules]]
pattern = '{pattern}'
alarms = "never"
"""

NEVER = """
[alarms.never]
action = "log"
"""

#: What ends a line so that the regexp takes some 2 ** 60 steps, or more.
LONG = {LOOK_AHEAD: "x" * 60, NESTED: " ß " + "a" * 60 + "!"}


def many(folder: Path, times: int) -> list[Row]:
    """Configure many alarms and rules, and raise each: it goes to its own alarm, and to the one for all."""
    each = "".join(
        f'[alarms.a{n}]\naction = "log"\n[[rules]]\npattern = "^TERRIBLE ALARM {n}$"\nalarms = "a{n}"\n'
        for n in range(times * MANY)
    )
    with Receiver().serving() as hook:
        ground = Ground(folder, {"a": hook.url}, more=each)
        with ground.running():
            ground.ready()
            for _ in range(times):  # all at once would be more than the socket of a process holds
                ground.raise_alarms(MANY)
                hook.wait_for(ground.accepted, "all that was accepted", ground.counted)
        outbox = ground.outbox()
    own = {name: book["delivered"] for name, book in outbox.books["alarms"].items() if name != "a"}
    name = f"{times * MANY:,} alarms, each with a rule of its own"
    row = judge(name, 1, outbox, ground.accepted, hook.received)
    return [row if own == {f"a{n}": 1 for n in ground.accepted} else replace(row, complaints=(f"fired: {own}",))]


def backlog(folder: Path, times: int) -> list[Row]:
    """Print and log alarms for a receiver that is down: they wait, or are counted as too many; memory is bounded."""
    down = Receiver()
    ground = Ground(folder, {"a": down.url})
    with contextlib.closing(down), ground.running():
        ground.ready()
        for _ in range(times):
            for _ in range(BACKLOG // PORTION):  # all at once would be more than the socket of a process holds
                ground.raise_alarms(PORTION, PORTION)
                wait_until(partial(_is_known, ground, len(ground.accepted)), START, what="all that was accepted")
        peak = ground.peak()
    outbox = ground.outbox()
    book = outbox.books["alarms"]["a"]
    dropped = sum(book["dropped"].values())
    waiting = outbox.waiting["a"]
    name = f"{len(ground.accepted):,} firings for a receiver that is down ({waiting:,} wait)"
    complaints = [*outbox.imbalances(), *([f"the master has taken {peak} kB"] if peak > MUCH else [])]
    lost = len(ground.accepted) - waiting - dropped
    return [Row(name, 1, len(ground.accepted), 0, 0, 0, book["dropped"], lost, tuple(complaints))]


def _is_known(ground: Ground, n: int) -> bool:
    book = ground.status()["alarms"].get("a")  # there is none before the first match
    return book is not None and bool(book["matched"] >= n)


def backtracking(folder: Path, times: int) -> list[Row]:
    """Print a line that a rule's regexp would search for ever: it is cut off, and named; the other rules go on."""
    return [_backtracking(folder, times, LOOK_AHEAD, said=f"{LOOK_AHEAD!r} was cut off")]


def nested(folder: Path, times: int) -> list[Row]:
    """Print a line for the best known of all such regexps: it is answered, or cut off; the other rules go on."""
    return [_backtracking(folder, times, NESTED)]


def hostile(folder: Path, times: int) -> list[Row]:
    """Print long lines for many such regexps at a time: each is judged, or counted; each alarm of theirs goes out."""
    more = "".join(RULE.format(pattern=pattern) for pattern in CATASTROPHES) + NEVER
    return [_survived(folder, times, more, " " + "x" * HOSTILE, f"lines of {HOSTILE // 1000} KB, and 11 such regexps")]


def _backtracking(folder: Path, times: int, pattern: str, said: str = "") -> Row:
    more = RULE.format(pattern=pattern) + NEVER
    return _survived(folder, times, more, LONG[pattern], f"regexp `{pattern}`", said)


def _survived(folder: Path, times: int, more: str, suffix: str, name: str, said: str = "") -> Row:  # noqa: PLR0917
    with Receiver().serving() as hook:
        ground = Ground(folder, {"a": hook.url}, more=more)
        ground.suffix = suffix
        with ground.running():
            for _ in range(times):
                ground.raise_alarms()
            hook.wait_for(ground.accepted, "all that was accepted", ground.counted)
            wait_until(lambda: said in ground.errors(), what="the rule named in the log")
        return judge(name, times, ground.outbox(), ground.accepted, hook.received)
