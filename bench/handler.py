"""What a log call costs beyond `NullHandler`: `AlarmHandler` beside the handlers of the standard library.

``python bench/handler.py``, with the options of `harness`. Each contestant is a process of its own, which alternates
between its handler and a `NullHandler`; all of them take turns, round by round. Ours run below a real ``alarm-mw run``,
whose rules have no common prefix.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import queue
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from harness import Case, Metric, Options, Section, run

import alarm_mw

#: Log calls of a round: so few that a round is seldom interrupted. Of those that are sent fewer, so that the master
#: keeps up.
CALLS = 500
HITS = 100

METRICS = {"added": Metric("ns added"), "null": Metric("NullHandler, ns")}

ALARM_MW = str(Path(sys.executable).with_name("alarm-mw"))


def timed(logger: logging.Logger, calls: int, path: str) -> float:
    """Return the nanoseconds of this thread that one call takes: what else runs on the machine counts less."""
    began = time.thread_time_ns()
    for _ in range(calls):
        logger.info("request %s took %d ms", path, 17)
    return (time.thread_time_ns() - began) / calls


def handlers() -> dict[str, Callable[[], logging.Handler]]:
    """Return the contestants."""

    def queued() -> logging.Handler:
        records: queue.Queue[object] = queue.Queue()
        logging.handlers.QueueListener(records, logging.NullHandler()).start()
        return logging.handlers.QueueHandler(records)  # type: ignore[arg-type]

    return {
        "stream": lambda: logging.StreamHandler(Path(os.devnull).open("w")),
        "queue": queued,
        "ours": alarm_mw.AlarmHandler,
    }


def contestant(kind: str, path: str, calls: int) -> None:
    """Be measured once for each line of standard input."""
    base, logger = logging.getLogger("bench.null"), logging.getLogger("bench.it")
    for each, handler in ((base, logging.NullHandler()), (logger, handlers()[kind]())):
        each.setLevel(logging.INFO)
        each.propagate = False
        each.addHandler(handler)
    for _ in sys.stdin:
        null = timed(base, calls, path)
        print(f"result {null} {timed(logger, calls, path)}", flush=True)


def rules(number: int, seed: int = 1) -> Iterator[str]:
    """Yield patterns without a common prefix, which no line of the benchmark matches."""
    chosen = random.Random(seed)  # noqa: S311 - the same each time
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

    def ours(name: str, patterns: list[str], *arguments: object, conditions: str = "") -> list[str]:
        config = configuration(folder, patterns, name, conditions)
        state = str(folder / f"state-{name}")
        return [ALARM_MW, "run", "--config", config, "--state-dir", state, "--", *start("ours", *arguments)]  # type: ignore[arg-type]

    found = {"StreamHandler to /dev/null": start("stream"), "QueueHandler + QueueListener": start("queue")}
    for number in (1, 10, 100, 1000):
        found[f"AlarmHandler, {number} rules, no hit"] = ours(f"rules-{number}", [*rules(number)])
    found["AlarmHandler, 100 rules with level = ERROR"] = ours("level", [*rules(100)], conditions='level = "ERROR"')
    found["AlarmHandler, 100 rules, every record a hit"] = ours("hit", [*rules(99), "/terrible"], "/terrible", HITS)
    return found


def sections(options: Options) -> Iterator[Section]:
    """Let all contestants run, and measure them."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        chosen = commands(Path(folder))
        if options.size == "tiny":
            chosen = {name: words for name, words in chosen.items() if "ours" not in words or "every record" in name}
        running = {
            name: stack.enter_context(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for name, words in chosen.items()
        }
        cases = [Case(name, partial(one_round, process)) for name, process in running.items()]
        title, peer = "A log call, added to what NullHandler takes", "QueueHandler + QueueListener"
        yield Section(title, METRICS, cases, peer, warm_up=1, rounds=200)
        for process in running.values():
            assert process.stdin
            process.stdin.close()


def one_round(process: subprocess.Popen[str]) -> dict[str, float | None]:
    """Return what the process has measured."""
    null, it = _round(process)
    return {"added": it - null, "null": null}


def _round(process: subprocess.Popen[str]) -> tuple[float, float]:
    assert process.stdin
    assert process.stdout
    process.stdin.write("go\n")
    process.stdin.flush()
    line = next(line for line in process.stdout if line.startswith("result"))
    null, it = map(float, line.split()[1:])
    return null, it


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contestant"]:
        contestant(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        run("handler", sections)
