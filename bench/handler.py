"""What a log call costs beyond `NullHandler`: `AlarmHandler` beside the handlers of the standard library and of others.

``python bench/handler.py``, with the options of `harness`. Each contestant is a process of its own, which alternates
between its handler and a `NullHandler`; all of them take turns, round by round. Ours run below a real ``alarm-mw run``,
whose rules have no common prefix. `AlarmProcessor` is compared with the same chain of structlog without it.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from harness import Case, Metric, Options, Section, run
from loggers import KINDS, Call, is_here

#: Log calls of a round: so few that a round is seldom interrupted. Of those that are sent fewer, so that the master
#: keeps up.
CALLS = 500
HITS = 100

METRICS = {"added": Metric("ns added"), "without": Metric("without it, ns")}

ALARM_MW = str(Path(sys.executable).with_name("alarm-mw"))


def timed(call: Call, calls: int, path: str) -> float:
    """Return the nanoseconds of this thread that one call takes: what else runs on the machine counts less."""
    began = time.thread_time_ns()
    for _ in range(calls):
        call(path)
    return (time.thread_time_ns() - began) / calls


def contestant(kind: str, path: str, calls: int) -> None:
    """Be measured once for each line of standard input."""
    pair = KINDS[kind].make()
    for _ in sys.stdin:
        without = timed(pair.without, calls, path)
        print(f"result {without} {timed(pair.it, calls, path)}", flush=True)


def rules(number: int, seed: int = 1) -> Iterator[str]:
    """Yield patterns without a common prefix, which no line of the benchmark matches."""
    chosen = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    for n in range(number):
        word, other = ("".join(chosen.choices(letters, k=8)) for _ in range(2))
        yield (f"{word}.*{other}", f"{word} \\d+ {other}", f"^{word}")[n % 3]


def configuration(folder: Path, patterns: list[str], name: str, conditions: str = "") -> str:
    """Write a configuration and return its path."""
    path = folder / f"{name}.toml"
    tables = "".join(f"[[rules]]\npattern = '{each}'\nalarms = [\"a\"]\n{conditions}\n" for each in patterns)
    path.write_text(f'alarm_freq = 3600\n[alarms.a]\naction = "log"\n{tables}')
    return str(path)


def commands(folder: Path) -> dict[str, list[str]]:
    """Return how each contestant is started."""

    def start(kind: str, path: str = "/orders", calls: int = CALLS) -> list[str]:
        return [sys.executable, __file__, "--contestant", kind, path, str(calls)]

    def ours(kind: str, patterns: list[str], path: str = "/orders", calls: int = CALLS, *, only: str = "") -> list[str]:
        name = f"{kind}-{len(patterns)}-{calls}-{len(only)}"
        config, state = configuration(folder, patterns, name, only), str(folder / f"state-{name}")
        return [ALARM_MW, "run", "--config", config, "--state-dir", state, "--", *start(kind, path, calls)]

    found = {
        name: start(name) for name, kind in KINDS.items() if not name.startswith("Alarm") and is_here(kind.package)
    }
    for number in (1, 10, 100, 1000):
        found[f"AlarmHandler, {number} rules, no hit"] = ours("AlarmHandler", [*rules(number)])
    found["AlarmHandler, 100 rules with level = ERROR"] = ours("AlarmHandler", [*rules(100)], only='level = "ERROR"')
    found["AlarmHandler, 100 rules, every record a hit"] = ours(
        "AlarmHandler", [*rules(99), "/terrible"], "/terrible", HITS
    )
    found["AlarmProcessor of structlog, 100 rules, no hit"] = ours("AlarmProcessor", [*rules(100)])
    return found


def sections(options: Options) -> Iterator[Section]:
    """Let all contestants run, and measure them."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        chosen = commands(Path(folder))
        if options.size == "tiny":
            chosen = {name: words for name, words in chosen.items() if ALARM_MW not in words or "every record" in name}
        running = {
            name: stack.enter_context(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for name, words in chosen.items()
        }
        cases = [Case(name, partial(one_round, process)) for name, process in running.items()]
        title, peer = "A log call, added to what NullHandler takes", "QueueHandler + QueueListener"
        packages = sorted({kind.package for kind in KINDS.values() if not is_here(kind.package)})
        notes = [f"{package} is not installed" for package in packages]
        yield Section(title, METRICS, cases, peer, warm_up=1, rounds=200, notes=notes)
        for process in running.values():
            assert process.stdin
            process.stdin.close()


def one_round(process: subprocess.Popen[str]) -> dict[str, float | None]:
    """Return what the process has measured."""
    without, it = _round(process)
    return {"added": it - without, "without": without}


def _round(process: subprocess.Popen[str]) -> tuple[float, float]:
    assert process.stdin
    assert process.stdout
    process.stdin.write("go\n")
    process.stdin.flush()
    line = next(line for line in process.stdout if line.startswith("result"))
    without, it = map(float, line.split()[1:])
    return without, it


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contestant"]:
        contestant(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        run("handler", sections, packages=["structlog", "loguru", "sentry-sdk", "opentelemetry-sdk"])
