"""What was to be reached, beside what the newest full results say; ``python bench/goals.py`` measures nothing."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness import RESULTS, shown
from rich.console import Console
from rich.table import Table

LINES, BLOCKS = "In the place of cat, a write for each line", "In the place of cat, writes of 64 KB"
FILE = "Into a file, a write for each line, beside uWSGI's log-master"
CALL = "A log call, added to what NullHandler takes"
IDLE = "While nothing happens"
WAY = "From the line to the action"
QUEUE = "QueueHandler + QueueListener"

HEAD = ("", "to reach", "measured", "")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a figure stands in the results."""

    bench: str
    #: How the section's title begins.
    section: str
    case: str
    metric: str


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure, or its ratio to another one of the same run, and its limit."""

    text: str
    limit: float
    figure: Place
    #: What it is a multiple of.
    of: Place | None = None
    #: What is to be taken off it.
    less: Place | None = None
    unit: str = ""
    #: The limit is the least that is to be reached, in place of the most.
    least: bool = False

    def row(self, results: Path) -> tuple[str, str, str, str] | None:
        """Return what a table has of it; None where it was not measured."""
        value = self._value(results)
        if value is None:
            return None
        is_reached = value >= self.limit if self.least else value <= self.limit
        limit = f"{'at least' if self.least else 'at most'} {self.limit:,g}{self.unit}"
        return self.text, limit, f"{shown(value)}{self.unit}", "reached" if is_reached else "not reached"

    def _value(self, results: Path) -> float | None:
        value = _median(results, self.figure)
        for other in (self.of, self.less):
            other_value = None if other is None else _median(results, other)
            if value is None or (other is not None and other_value is None):
                return None
            if other_value is not None:
                value = value / other_value if other is self.of else value - other_value
        return value


def _ours(rules: str) -> str:
    return f"alarm-mw run, {rules} rules"


def _call(rules: int) -> Place:
    return Place("handler", CALL, f"AlarmHandler, {rules} rules, no hit", "added")


def _stream(section: str, case: str, metric: str = "lines") -> Place:
    return Place("stream", section, case, metric)


def _way(case: str, metric: str = "median") -> Place:
    return Place("latency", WAY, case, metric)


def _long(section: str, case: str, metric: str) -> Place:
    return Place("endurance", section, case, metric)


GOALS: Sequence[Goal] = (
    Goal(
        "a write for each line, 1,000 rules: lines, × cat",
        1.3,
        _stream(LINES, _ours("1,000")),
        _stream(LINES, "cat"),
        least=True,
    ),
    Goal(
        "the same: processor, × cat",
        0.5,
        _stream(LINES, _ours("1,000"), "processor"),
        _stream(LINES, "cat", "processor"),
    ),
    Goal(
        "the same: lines, × those with 1 rule",
        0.85,
        _stream(LINES, _ours("1,000")),
        _stream(LINES, _ours("1")),
        least=True,
    ),
    Goal(
        "writes of 64 KB, 1,000 rules: lines, × cat",
        0.85,
        _stream(BLOCKS, _ours("1,000")),
        _stream(BLOCKS, "cat"),
        least=True,
    ),
    Goal(
        "the same: lines, × those with 1 rule",
        0.85,
        _stream(BLOCKS, _ours("1,000")),
        _stream(BLOCKS, _ours("1")),
        least=True,
    ),
    Goal(
        "into a file, 1 rule: lines, × uWSGI", 6, _stream(FILE, _ours("1")), _stream(FILE, "uWSGI, 1 rules"), least=True
    ),
    Goal(
        "into a file, 1,000 rules: lines, × uWSGI",
        80,
        _stream(FILE, _ours("1,000")),
        _stream(FILE, "uWSGI, 1,000 rules"),
        least=True,
    ),
    Goal(
        "`replay`, 1,000 rules, with its start: lines, × grep",
        1,
        _stream("A file of", "alarm-mw replay, 1,000 rules"),
        _stream("A file of", "grep -cE, 1,000 rules"),
        least=True,
    ),
    Goal(
        "a flood: processor a line",
        1.5,
        Place("flood", "A flood of", "rate 5/1h, lines that differ", "processor"),
        unit=" µs",
    ),
    *(
        Goal(f"a log call, {n:,} rule{'s' if n > 1 else ''}, no hit", 1300, _call(n), unit=" ns")
        for n in (1, 10, 100, 1000)
    ),
    *(
        Goal(
            f"the same with {n:,} rule{'s' if n > 1 else ''}, × QueueHandler",
            0.25,
            _call(n),
            Place("handler", CALL, QUEUE, "added"),
        )
        for n in (1, 10, 100, 1000)
    ),
    Goal(
        "a log call that hits",
        10_000,
        Place("handler", CALL, "AlarmHandler, 100 rules, every record a hit", "added"),
        unit=" ns",
    ),
    Goal(
        "a WSGI request, 10 rules",
        1.0,
        Place("middleware", "A request through WSGI", "ours, 10 configured rules", "request"),
        unit=" µs",
    ),
    Goal(
        "an ASGI request, 10 rules",
        1.5,
        Place("middleware", "A request through ASGI", "ours, 10 configured rules", "request"),
        unit=" µs",
    ),
    Goal(
        "webhooks through the outbox, a second",
        2500,
        Place("delivery", "A burst", "alarm-mw run, durable outbox", "hooks"),
        least=True,
    ),
    Goal(
        "a burst of 1,000: all received within",
        0.5,
        Place("delivery", "A burst", "alarm-mw run, durable outbox", "seconds"),
        unit=" s",
    ),
    Goal("from the line to a webhook, median", 1.0, _way("alarm-mw run, curl:"), unit=" ms"),
    Goal("from the line to a webhook, p99", 3.0, _way("alarm-mw run, curl:", "p99"), unit=" ms"),
    Goal("`log:`, median, × uWSGI", 2, _way("alarm-mw run, log:"), _way("uWSGI, log:")),
    Goal("`mule:`, median, × uWSGI", 2, _way("alarm-mw run, mule:"), _way("uWSGI, mule:")),
    Goal("`cmd:`, median", 2.0, _way("alarm-mw run, cmd:"), unit=" ms"),
    Goal("idle: processor, 1 rule", 0.1, Place("footprint", IDLE, _ours("1"), "idle"), unit=" %"),
    Goal("master, 1 rule", 45, Place("footprint", IDLE, _ours("1"), "master"), unit=" MB"),
    Goal("master, 1,000 rules", 45, Place("footprint", IDLE, _ours("1,000"), "master"), unit=" MB"),
    Goal("supervisor, 1,000 rules", 15, Place("footprint", IDLE, _ours("1,000"), "supervisor"), unit=" MB"),
    Goal(
        "a server starts later by",
        100,
        Place("footprint", "Until a server's", "by alarm-mw run, 10 rules", "ms"),
        less=Place("footprint", "Until a server's", "by a shell", "ms"),
        unit=" ms",
    ),
    Goal(
        "`import alarm_mw`",
        30,
        Place("footprint", "A Python process", "python -c 'import alarm_mw'", "ms"),
        less=Place("footprint", "A Python process", "python -c pass", "ms"),
        unit=" ms",
    ),
    Goal(
        "10 GB of output: master's memory, × that after 1 GB",
        1.02,
        _long("10 GB", "after 10 GB", "memory"),
        _long("10 GB", "after 1 GB", "memory"),
    ),
    Goal(
        "100,000 webhooks: descriptors, more than after 10,000",
        0,
        _long("100,000", "after 100,000 webhooks", "descriptors"),
        less=_long("100,000", "after 10,000 webhooks", "descriptors"),
    ),
    Goal(
        "100,000 webhooks: threads, more than after 10,000",
        0,
        _long("100,000", "after 100,000 webhooks", "threads"),
        less=_long("100,000", "after 10,000 webhooks", "threads"),
    ),
)


def rows(results: Path = RESULTS) -> Iterator[tuple[str, str, str, str]]:
    """Yield a row for each goal of which the newest results know."""
    return filter(None, (goal.row(results) for goal in GOALS))


def _median(results: Path, place: Place) -> float | None:
    kept = _newest(results, place.bench)
    section = next((one for one in kept["sections"] if one["title"].startswith(place.section)), None)
    figures = section and section["cases"].get(place.case, {}).get(place.metric)
    return statistics.median(figures) if figures else None


@cache
def _newest(results: Path, bench: str) -> dict[str, Any]:
    """Return what was kept last of a full run."""
    for file in sorted(results.glob(f"*-{bench}.json"), reverse=True):
        kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if kept["size"] == "full":
            return kept
    return {"sections": []}


def main() -> None:
    """Print them."""
    table = Table(*HEAD, title="What was to be reached, and the newest full results", title_justify="left")
    for row in rows():
        table.add_row(*row, style="" if row[-1] == "reached" else "yellow")
    Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    main()
