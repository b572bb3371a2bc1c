"""What it costs to have it: memory, processor while nothing happens, and the time that starts take.

``python bench/footprint.py``, with the options of `harness`. Memory is what is resident, shared pages included.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from corpus import configuration, patterns
from harness import Case, Metric, Options, Section, run
from pipeline import ALARM_MW, family, processor_time, start

from alarm_mw.transports.control import ask_patiently
from alarm_mw.transports.places import SOCKET_NAME

PYTHON = sys.executable
CLOCK = [PYTHON, "-c", "import time; print(time.monotonic_ns(), flush=True)"]


def sections(options: Options) -> Iterator[Section]:
    """Measure memory and idle processor, then starts."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        seconds = options.pick(full=10.0, quick=3.0, tiny=0.2)
        cases = [
            Case(f"alarm-mw run, {rules:,} rules", partial(idle, rules, folder, seconds))
            for rules in options.pick(full=(1, 1000), quick=(1,), tiny=(1,))
        ]
        metrics = {
            "master": Metric("master, MB"),
            "supervisor": Metric("supervisor, MB"),
            "idle": Metric(f"processor over {seconds:g} s, %"),
        }
        yield Section("While nothing happens", metrics, cases, rounds=2)
        config = str(configuration(folder, patterns(10)))
        ours = [ALARM_MW, "run", "--config", config, "--state-dir", str(folder / "state"), "--", *CLOCK]
        starts = [
            Case("by a shell", partial(start_delay, ["sh", "-c", '"$@"; true', "-", *CLOCK])),
            Case("by alarm-mw run, 10 rules", partial(start_delay, ours)),
        ]
        yield Section("Until a server's first statement", {"ms": Metric("ms")}, starts, peer="by a shell", rounds=11)
        yield Section("A Python process", {"ms": Metric("ms")}, list(_imports()), peer="python -c pass", rounds=21)


def _imports() -> Iterator[Case]:
    for statement in ("pass", "import logging, json, asyncio", "import alarm_mw"):
        yield Case(f"python -c {statement!r}" if " " in statement else "python -c pass", partial(whole, statement))
    yield Case("alarm-mw --version", partial(whole, None))


def idle(rules: int, folder: Path, seconds: float) -> dict[str, float | None]:
    """Start a server that does nothing, and look at what stands around it."""
    own = folder / f"idle-{rules}"
    own.mkdir(exist_ok=True)
    config = str(configuration(own, patterns(rules)))
    words = [ALARM_MW, "run", "--config", config, "--state-dir", str(own / "state"), "--", "sleep", "1000"]
    with ExitStack() as stack:
        supervisor = start(stack, words, stdout=subprocess.DEVNULL)
        status = _status(own)
        master = status["pid"]
        server = next(pid for pid in family(supervisor.pid) if _name(pid) == "sleep")
        time.sleep(min(1.0, seconds))
        before = processor_time(supervisor.pid, server)
        time.sleep(seconds)
        used = processor_time(supervisor.pid, server) - before
        figures: dict[str, float | None] = {"master": _resident(master), "supervisor": _resident(supervisor.pid)}
        return {**figures, "idle": used / seconds * 100}


def _status(folder: Path) -> dict[str, int]:
    deadline = time.monotonic() + 30
    while not (folder / "state" / SOCKET_NAME).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return ask_patiently(str(folder / "state" / SOCKET_NAME), "/status")


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()


def _resident(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def start_delay(words: Sequence[str]) -> dict[str, float | None]:
    """Return how long it takes from the command to the first statement of the program under it."""
    began = time.monotonic_ns()
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return {"ms": (int(done.stdout) - began) / 1e6}


def whole(statement: str | None) -> dict[str, float | None]:
    """Return how long a process takes from its start to its end: the shorter of two."""
    words = [ALARM_MW, "--version"] if statement is None else [PYTHON, "-c", statement]
    took = []
    for _ in range(2):
        began = time.perf_counter()
        subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
        took.append((time.perf_counter() - began) * 1e3)
    return {"ms": min(took)}


if __name__ == "__main__":
    run("footprint", sections)
