"""A flood: what a million lines that all match cost under `alarm-mw run`, beside `cat` in the same place.

    python bench/flood.py [LINES]

Prints, for lines that differ and for one line again and again: microseconds of a line, as the application that writes
it sees them, until the master has looked at it, and of the master's processor; its peak memory; and what became of the
lines and the messages, by the ledger.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from alarm_mw.delivery.outbox import Outbox
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

CASES = {
    "no limits but alarm_freq, one line": ("same", "{}"),
    "rate 5/1h, one line": ("same", '{ rate = "5/1h" }'),
    "rate 5/1h, lines that differ": ("differ", '{ rate = "5/1h" }'),
    "rate 5/2s, lines that differ": ("differ", '{ rate = "5/2s" }'),
}


def main() -> None:
    """Run all cases."""
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    for name, (kind, limits) in CASES.items():
        with tempfile.TemporaryDirectory() as directory:
            print(
                f"{name}: {json.dumps(measure(Path(directory), lines, kind, limits), ensure_ascii=False)}", flush=True
            )


def measure(directory: Path, lines: int, kind: str, limits: str) -> dict[str, object]:
    """Return the figures of one case."""
    (directory / "alarms.toml").write_text(CONFIG.replace("{limits}", limits))
    server = [sys.executable, "-c", SERVER, str(lines), kind]
    run = [str(Path(sys.executable).with_name("alarm-mw")), "run", "--config", "alarms.toml", "--state-dir", "state"]
    cat = report(["sh", "-c", '"$@" | cat', "-", *server], directory)
    ours = report([*run, "--", *server], directory)
    outbox = Outbox(directory / "state" / "outbox.db")
    books, waiting = outbox.ledger.books(), outbox.count_waiting()
    outbox.close()
    return {
        "µs a line, written": round(ours["written"] / lines * 1e6, 2),
        "µs a line, looked at": round(ours["seen"] / lines * 1e6, 2),
        "µs a line, processor": round(ours["processor"] / lines * 1e6, 2),
        "µs a line, with cat": round(cat["written"] / lines * 1e6, 2),
        "peak MB": int(ours["peak"]) // 1024,
        "source": books["sources"]["stdout"],
        "alarm": books["alarms"]["screen"],
        "imbalances": imbalances(books, waiting),
    }


def report(command: list[str], directory: Path) -> dict[str, float]:
    """Run a command to its end, and return what its server has noted."""
    subprocess.run(command, stdout=subprocess.DEVNULL, cwd=directory, check=True)
    noted: dict[str, float] = json.loads((directory / "report.json").read_text())
    return noted


if __name__ == "__main__":
    main()
