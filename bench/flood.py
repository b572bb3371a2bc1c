"""A flood: what a million lines that all match cost under `alarm-mw run`, beside `cat` in the same place.

``python bench/flood.py``, with the options of `harness`. It shows, for lines that differ and for one line again and
again, microseconds of a line: as the application that writes it sees them, until the master has looked at it, and of
the master's processor; and its peak memory. A ledger that does not balance ends it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from harness import Case, Metric, Options, Section, run

from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.engine.ledger import imbalances

#: Prints the lines as fast as Python can, and notes how long that took; under `alarm-mw run`, begins when the master is
#: there, waits until it has looked at all lines, and notes its peak memory.
SERVER = """
import json, os, sys, time
lines, same = int(sys.argv[1]), sys.argv[2] == "same"
socket, master = os.environ.get("ALARM_MW_SOCKET"), {}
if socket:
    from alarm_mw.transports.control import ask_patiently
texts = ["TERRIBLE ALARM number %d: the database is gone\\n" % (0 if same else n) for n in range(lines)]
chunks = ["".join(texts[n : n + 1000]).encode() for n in range(0, lines, 1000)]
if socket:
    pid = ask_patiently(socket, "/status")["pid"]
    idle = sum(map(int, open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")
begin = time.monotonic()
for data in chunks:
    while data:
        data = data[os.write(1, data):]
written = time.monotonic()
while socket and master.get("sources", {}).get("stdout", {}).get("lines", 0) < lines:
    time.sleep(0.02)
    master = ask_patiently(socket, "/status")
seen = time.monotonic()
report = {"written": written - begin, "seen": seen - begin}
if socket:
    facts = f"/proc/{master['pid']}"
    report["peak"] = int(next(line for line in open(f"{facts}/status") if line.startswith("VmHWM")).split()[1])
    user, system = open(f"{facts}/stat").read().rpartition(")")[2].split()[11:13]
    report["processor"] = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK") - idle
json.dump(report, open("report.json", "w"))
"""

CONFIG = """
[alarms.screen]
action = "cmd"
command = "cat >> messages.txt"
limits = {limits}

[[rules]]
pattern = "^TERRIBLE ALARM"
alarms = "screen"
"""

METRICS = {
    "written": Metric("written, µs/line"),
    "seen": Metric("looked at, µs/line"),
    "processor": Metric("processor, µs/line"),
    "peak": Metric("peak, MB"),
}

CASES = {
    "no limits but alarm_freq, one line": ("same", "{}"),
    "rate 5/1h, one line": ("same", '{ rate = "5/1h", for_humans = true }'),
    "rate 5/1h, lines that differ": ("differ", '{ rate = "5/1h", for_humans = true, repeat_after = 0 }'),
    "rate 5/2s, lines that differ": ("differ", '{ rate = "5/2s", for_humans = true, repeat_after = 0 }'),
}


def sections(options: Options) -> Iterator[Section]:
    """Measure all kinds of a flood."""
    lines = options.pick(full=1_000_000, quick=200_000, tiny=2_000)
    kinds = dict([*CASES.items()][: options.pick(full=None, quick=None, tiny=1)])
    cases = [Case("cat", partial(behind_cat, lines))]
    cases += [Case(name, partial(measure, lines, kind, limits)) for name, (kind, limits) in kinds.items()]
    yield Section(f"A flood of {lines:,} lines that all match", METRICS, cases, "cat", rounds=3)


def behind_cat(lines: int) -> dict[str, float | None]:
    """Return what `cat` lets the application do."""
    with tempfile.TemporaryDirectory() as directory:
        noted = report(["sh", "-c", '"$@" | cat', "-", *server(lines, "differ")], Path(directory))
    return {"written": noted["written"] / lines * 1e6}


def server(lines: int, kind: str) -> list[str]:
    """Return the application's command."""
    return [sys.executable, "-c", SERVER, str(lines), kind]


def measure(lines: int, kind: str, limits: str) -> dict[str, float | None]:
    """Return the figures of one kind."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "alarms.toml").write_text(CONFIG.replace("{limits}", limits))
        run_it = [str(Path(sys.executable).with_name("alarm-mw")), "run", "--config", "alarms.toml"]
        noted = report([*run_it, "--state-dir", "state", "--", *server(lines, kind)], directory)
        with closing(Outbox(directory / "state" / "outbox.db")) as outbox:
            if wrong := imbalances(outbox.ledger.books(), outbox.count_waiting()):
                raise SystemExit(f"the ledger does not balance: {wrong}")
    times = {key: noted[key] / lines * 1e6 for key in ("written", "seen", "processor")}
    return {**times, "peak": noted["peak"] / 1024}


def report(command: list[str], directory: Path) -> dict[str, float]:
    """Run a command to its end, and return what its server has noted."""
    subprocess.run(command, stdout=subprocess.DEVNULL, cwd=directory, check=True)
    noted: dict[str, float] = json.loads((directory / "report.json").read_text())
    return noted


if __name__ == "__main__":
    run("flood", sections)
