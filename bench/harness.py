"""One way of measuring: named cases take turns, round by round, and are compared with a peer of the same run.

A script here is ``python bench/NAME.py [--quick | --tiny] [--rounds N] [--json FILE]``. It prints, for each case, the
median over the rounds with the quartiles, and the ratio to the peer. All rounds are kept in
``bench/results/DATE-NAME.json``, with the machine and how busy others kept it. ``--tiny`` sees only that it works.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from machine import BUSY, Others, describe
from rich.console import Console
from rich.table import Table

Size = Literal["full", "quick", "tiny"]
T = TypeVar("T")

#: Seconds after which a round of a case is given up.
LIMIT = 300

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Options:
    """How much is to be measured."""

    size: Size = "full"
    rounds: int | None = None

    def pick(self, *, full: T, quick: T, tiny: T) -> T:
        """Return what belongs to the size."""
        return {"full": full, "quick": quick, "tiny": tiny}[self.size]


@dataclass(frozen=True, slots=True)
class Metric:
    """What a figure of a round means."""

    #: With its unit, as it stands over the column.
    title: str
    #: Is more of it better?
    more: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One contestant: `measure` does one round and returns its figures by metric; None stands for one not had."""

    name: str
    measure: Callable[[], Mapping[str, float | None]]
    #: The case that this one is compared with, where it is not the section's.
    peer: str = ""
    #: Where it stands on the section's axis.
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """Cases that take turns, and how they are shown."""

    title: str
    metrics: Mapping[str, Metric]
    cases: Sequence[Case]
    #: The case that the others are compared with, or what those have in common that each is compared with.
    peer: str = ""
    #: The case that all others contain: their figures are what they add to it, round by round.
    base: str = ""
    #: Where something has to be warm: rounds at the start that are not counted.
    warm_up: int = 0
    rounds: int = 5
    #: Sentences about peers that are not there, and what else has to be known.
    notes: Sequence[str] = ()
    #: What grows from case to case, for a chart: `Case.at`.
    axis: str = ""


@dataclass(slots=True)
class Outcome:
    """All figures of a section's rounds, by case and metric."""

    title: str
    peer: str
    metrics: dict[str, dict[str, Any]]
    notes: list[str]
    #: With which case each one is compared.
    peers: dict[str, str] = field(default_factory=dict)
    #: What grows from case to case, and how far it has grown in each.
    axis: str = ""
    at: dict[str, float] = field(default_factory=dict)
    cases: dict[str, dict[str, list[float]]] = field(default_factory=dict)


def run(
    name: str,
    sections: Callable[[Options], Iterable[Section]],
    *,
    packages: Sequence[str] = (),
    programs: Sequence[str] = (),
    arguments: Sequence[str] | None = None,
) -> None:
    """Read the command line, measure section after section, print each as it is done, and keep the figures.

    The sections come from a generator: what one needs may be open while it is measured. `packages` and `programs` are
    those whose versions matter.
    """
    given = _parse(name, arguments)
    console = Console(width=None if sys.stdout.isatty() else 160)
    machine, others = describe(["alarm-mw", *packages], programs), Others()
    outcomes = []
    options = Options(given.size, given.rounds)
    for section in sections(options):
        outcomes.append(measure(section, options))
        show(outcomes[-1], console)
    machine["others"] = round(others.share(), 3)
    console.print(remark(machine), style="yellow" if machine["others"] > BUSY else "")
    keep(given.json or RESULTS / f"{time.strftime('%Y-%m-%d')}-{name}.json", name, options, machine, outcomes)


def _parse(name: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"bench/{name}.py", description=__doc__.partition("\n")[0])
    parser.set_defaults(size="full")
    parser.add_argument("--quick", dest="size", action="store_const", const="quick", help="a first impression")
    parser.add_argument("--tiny", dest="size", action="store_const", const="tiny", help="only see that it works")
    parser.add_argument("--rounds", type=int, help="instead of what is usual for each section")
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"instead of {RESULTS.name}/DATE-{name}.json")
    return parser.parse_args(arguments)


def measure(section: Section, options: Options) -> Outcome:
    """Let the cases take turns; who begins changes from round to round."""
    metrics = {key: asdict(metric) for key, metric in section.metrics.items()}
    outcome = Outcome(section.title, section.peer, metrics, list(section.notes))
    outcome.peers = {case.name: case.peer or section.peer for case in section.cases}
    outcome.axis = section.axis
    outcome.at = {case.name: case.at for case in section.cases if case.at is not None}
    outcome.cases = {case.name: {} for case in section.cases}
    rounds = options.rounds or options.pick(
        full=section.rounds, quick=max(min(section.rounds, 3), section.rounds // 10), tiny=1
    )
    warm_up = min(section.warm_up, options.pick(full=9, quick=9, tiny=0))
    for number in range(-warm_up, rounds):
        for case in section.cases[:: 1 if number % 2 else -1]:
            for key, value in _limited(case).items():
                if number >= 0 and value is not None:
                    outcome.cases[case.name].setdefault(key, []).append(value)
    if section.base:
        _take_off(outcome.cases, section.base)
    return outcome


def _limited(case: Case) -> Mapping[str, float | None]:
    """Do one round; raise `TimeoutError` where it does not come to its end."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"{case.name}: no end after {LIMIT} seconds")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(LIMIT)
    try:
        return case.measure()
    finally:
        signal.alarm(0)


def _take_off(cases: dict[str, dict[str, list[float]]], base: str) -> None:
    """Leave of all cases but one what they add to that one."""
    for name, figures in cases.items():
        for key, values in figures.items():
            if name != base:
                figures[key] = [value - less for value, less in zip(values, cases[base][key], strict=True)]


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of some figures, and the quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(low, median, high)


def rows(outcome: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield the table of a section as it was kept: first what stands over the columns, then a row for each case."""
    metrics: Mapping[str, Any] = outcome["metrics"]
    cases: Mapping[str, Any] = outcome["cases"]
    compared = any(peer in cases for peer in outcome["peers"].values())
    head = [""]
    for metric in metrics.values():
        head += [metric["title"], "quartiles", *([f"× {outcome['peer']}"] if compared else [])]
    yield head
    for name, figures in cases.items():
        row, peer = [name], cases.get(outcome["peers"][name], {})
        for key in metrics:
            row += [*_cells(figures.get(key)), *([_ratio(figures.get(key), peer.get(key))] if compared else [])]
        yield row


def _cells(values: Sequence[float] | None) -> tuple[str, str]:
    if not values:
        return "–", ""
    spread = Spread.of(values)
    return shown(spread.median), f"{shown(spread.low)} … {shown(spread.high)}" if len(values) > 1 else ""


def _ratio(values: Sequence[float] | None, peer: Sequence[float] | None) -> str:
    if not values or not peer or not (middle := Spread.of(peer).median):
        return ""
    return f"{Spread.of(values).median / middle:.2f}"


def shown(value: float) -> str:
    """Return a number with three digits that count."""
    if not value or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def show(outcome: Outcome, console: Console) -> None:
    """Print the table of a section."""
    head, *lines = rows(asdict(outcome))
    table = Table(title=outcome.title, title_justify="left", caption="\n".join(outcome.notes) or None)
    for number, title in enumerate(head):
        table.add_column(title, justify="right" if number else "left")
    for line in lines:
        table.add_row(*line)
    console.print(table)


def remark(machine: Mapping[str, Any]) -> str:
    """Return a sentence about the machine, and whether its figures can be trusted."""
    busy = machine["others"] > BUSY
    return (
        f"{machine['processors']} × {machine['processor']}, Linux {machine['kernel']}, Python {machine['python']}, "
        f"load {machine['load'][0]} at the start; others had {machine['others']:.0%} of the processors"
        + ("; the machine was busy: trust the ratios only." if busy else ".")
    )


def keep(file: Path, name: str, options: Options, machine: Mapping[str, Any], outcomes: Sequence[Outcome]) -> None:
    """Write all figures to a file."""
    facts = {
        "name": name,
        "when": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "size": options.size,
        "machine": machine,
        "sections": [asdict(outcome) for outcome in outcomes],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(_rounded(facts), indent=1) + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    """Return what is kept, with six digits of each figure."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value
