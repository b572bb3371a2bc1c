"""Incidents: what a match of a rule with a key costs, and a start and a list with many that are open.

``python bench/incidents.py``, with the options of `harness`.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from harness import Case, Metric, Options, Section, run

from alarm_mw.config.build import engine_of
from alarm_mw.config.settings import Alarm, Settings
from alarm_mw.engine.incidents.stored import Saved
from alarm_mw.master.control.incidents import shown_as_json
from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.master.worker.batch import Batch, Item
from alarm_mw.model.types import IncidentOptions, Record, Rule
from alarm_mw.testing import Recorder
from alarm_mw.testing.recorder import NoOptions

HITS = {"hit": Metric("processor, µs/match")}
MANY = {
    "start": Metric("start, processor s"),
    "list": Metric("list, processor s"),
    "idle": Metric("idle, % of a processor"),
    "memory": Metric("memory, KB/incident"),
}

#: Seconds for anything to happen.
LIMIT = 250.0

_numbers = itertools.count()

#: Measures a start in a process of its own: the first argument is the outbox, the second the seconds to be idle.
START = (
    "import sys; sys.path.insert(0, sys.argv[1]); import incidents; incidents.start(sys.argv[2], float(sys.argv[3]))"
)


def sections(options: Options) -> Iterator[Section]:
    """Measure matches of open incidents beside those of a stateless rule, and many open incidents."""
    count = options.pick(full=50_000, quick=10_000, tiny=100)
    rules = {
        "a stateless rule": None,
        "a rule without a key": IncidentOptions(resolve_after=600.0),
        "a rule with a key": IncidentOptions(("db",), resolve_after=600.0),
    }
    cases = [Case(name, partial(_hits, options_of, count)) for name, options_of in rules.items()]
    yield Section("A match of an incident that is open", HITS, cases, peer="a stateless rule", warm_up=1)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        number = options.pick(full=100_000, quick=10_000, tiny=100)
        outbox = Path(name) / "outbox.db"
        _open(outbox, number)
        idle = options.pick(full=20.0, quick=5.0, tiny=0.1)
        cases = [Case(f"{number:,} incidents", partial(_start, outbox, number, idle))]
        yield Section("Open incidents after a restart", MANY, cases)


def _settings(incident: IncidentOptions | None) -> Settings:
    rule = Rule(r"lost (?P<db>\S+)", ("a",), name="db", incident=incident)
    return Settings((Alarm("a", "recording", NoOptions()),), (rule,))


def _records(count: int, keys: int) -> list[Record]:
    """Return records whose keys nobody has seen before."""
    return [
        Record(b"lost eu-%d.example.org\n" % (number % keys), "logging", time.time(), f"k{next(_numbers)}")
        for number in range(count)
    ]


def _hits(incident: IncidentOptions | None, count: int) -> Mapping[str, float]:
    """Put records to an engine whose alarm has fired, so that nothing is sent."""
    engine = engine_of(_settings(incident))
    if engine.incidents is not None:
        engine.incidents.start(Saved())
    for record in _records(200, 100):
        engine.evaluate(record, 0.0)
    records = _records(count, 100)
    begin = time.process_time()
    for record in records:
        engine.evaluate(record, 0.1)
    return {"hit": (time.process_time() - begin) / count * 1e6}


def _runtime(outbox: Path) -> Runtime:
    incident = IncidentOptions(("db",), max_keys=200_000, resolve_after=86_400.0)
    return Runtime(_settings(incident), outbox=outbox, write_log=print, find_action=Recorder().find)


def _worked_off(runtime: Runtime, *records: Record) -> None:
    done = threading.Event()
    runtime.worker.submit(Batch([Item(record) for record in records], done=done.set))
    if not done.wait(LIMIT):
        raise TimeoutError


def _open(outbox: Path, number: int) -> None:
    """Open so many incidents, deliver their messages and end."""
    runtime = _runtime(outbox)
    runtime.start()
    records = _records(number, number)
    for begin in range(0, number, 1000):
        _worked_off(runtime, *records[begin : begin + 1000])
    runtime.stop(LIMIT)


def _start(outbox: Path, number: int, idle: float) -> Mapping[str, float]:
    command = [sys.executable, "-c", START, str(Path(__file__).parent), str(outbox), str(idle)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT)
    start, listed, idling, memory = map(float, done.stdout.split())
    return {"start": start, "list": listed, "idle": idling, "memory": memory / number}


def start(outbox: str, idle: float) -> None:
    """Print the processor's seconds for a start and a list, its share while idle, and the KB of memory."""
    before, begin = _memory(), time.process_time()
    runtime = _runtime(Path(outbox))
    runtime.start()
    _worked_off(runtime)
    started, memory = time.process_time(), _memory() - before
    shown_as_json(runtime, False)
    listed = time.process_time()
    time.sleep(idle)
    idling = time.process_time()
    print(started - begin, listed - started, (idling - listed) / idle * 100, memory)
    runtime.stop(LIMIT)


def _memory() -> float:
    """Return the memory in use, in KB."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


if __name__ == "__main__":
    run("incidents", sections, packages=["msgspec"], programs=[])
