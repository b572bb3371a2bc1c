"""From the line that is printed to the action that sees it: milliseconds, beside uWSGI in the same run.

``python bench/latency.py``, with the options of `harness`. The application prints a line at a time, some milliseconds
after the last one was seen; the line says when it was printed. ``log:`` is seen when the entry can be read, ``cmd:``
when the message comes out of ``cat``, ``mule:`` when the mule's program has it, ``curl:`` when the request is there.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from io import FileIO
from pathlib import Path
from typing import IO

from corpus import NEEDLE
from harness import Case, Metric, Options, Section, Spread, run
from hooks import Hook, receiving
from pipeline import ALARM_MW, control_socket, start

from alarm_mw.transports.control import ask_patiently
from alarm_mw.transports.places import SOCKET_NAME

METRICS = {"median": Metric("median, ms"), "p99": Metric("p99, ms")}
HERE = Path(__file__).parent
PRINTER = [sys.executable, str(HERE / "printer.py")]
CURL_PLUGIN = Path("/usr/lib/uwsgi/plugins/alarm_curl_plugin.so")

#: Returns the next message that was seen, and when.
Watch = Callable[[], tuple[int, int]]


def sections(options: Options) -> Iterator[Section]:
    """Measure one action after the other."""
    firings = options.pick(full=400, quick=60, tiny=3)
    with tempfile.TemporaryDirectory(prefix="bench-") as name, receiving() as hook:
        folder = Path(name)
        os.mkfifo(folder / "seen")
        alarms = {
            "log": "log:",
            "cmd": f"cmd:cat > {folder}/seen",
            "curl": f"curl:{hook.url}",
            "mule": "mule:1",
        }
        if options.size == "tiny":  # a start of two servers for each is too long
            alarms = {"mule": alarms["mule"]}
        cases = [
            Case(
                "cat, to its reader",
                partial(measure, ["sh", "-c", '"$@" | cat', "-", *PRINTER], "", folder, hook, firings),
            )
        ]
        cases += [*_cases(alarms, folder, hook, firings)]
        notes = [] if shutil.which("uwsgi") else ["uWSGI is not installed"]
        if not CURL_PLUGIN.exists():
            notes.append("uWSGI's plugin alarm_curl is not installed")
        yield Section("From the line to the action", METRICS, cases, peer="uWSGI", notes=notes, rounds=3)


def _cases(alarms: dict[str, str], folder: Path, hook: Hook, firings: int) -> Iterator[Case]:
    for kind, alarm in alarms.items():
        theirs = f"uWSGI, {kind}:"
        if shutil.which("uwsgi") and (kind != "curl" or CURL_PLUGIN.exists()):
            uwsgi = "mule:2" if kind == "mule" else alarm  # the first one is the printer
            words = ["uwsgi", "--ini", str(_ini(folder, kind, uwsgi))]
            yield Case(theirs, partial(measure, words, kind, folder, hook, firings))
        words = [ALARM_MW, "run", "--state-dir", str(folder / "state"), "--alarm", f"a {alarm}"]
        words += ["--log-alarm", f"a ^{NEEDLE}", *(["--mule", str(HERE / "mule.py")] if kind == "mule" else [])]
        yield Case(
            f"alarm-mw run, {kind}:", partial(measure, [*words, "--", *PRINTER], kind, folder, hook, firings), theirs
        )


def _ini(folder: Path, kind: str, alarm: str) -> Path:
    file = folder / f"{kind}.ini"
    keys = ["plugin = python3", "master = true", f"socket = {folder}/uwsgi.sock", "log-master = true"]
    keys += [f"mule = {PRINTER[1]}", f"alarm = a {alarm}", f"log-alarm = a ^{NEEDLE}", "die-on-term = true"]
    keys += ["plugin = alarm_curl"] * (kind == "curl") + [f"mule = {HERE / 'mule.py'}"] * (kind == "mule")
    file.write_text("\n".join(["[uwsgi]", *keys]) + "\n", encoding="utf-8")
    return file


def measure(words: Sequence[str], kind: str, folder: Path, hook: Hook, firings: int) -> dict[str, float | None]:
    """Have so many lines printed, each after the last one was seen."""
    shutil.rmtree(folder / "state", ignore_errors=True)
    chosen = random.Random(3)
    environ = {"BENCH_CONTROL": str(folder / "control"), "BENCH_SEEN": str(folder / "seen")}
    with ExitStack() as stack:
        seen = stack.enter_context(os.fdopen(os.open(folder / "seen", os.O_RDWR), "rb", buffering=0))
        control = control_socket(stack, folder)
        output, end = os.pipe()
        reader = stack.enter_context(os.fdopen(output, "rb"))
        # What nobody reads must not go into a pipe: it would fill.
        target = end if kind in ("", "log") else subprocess.DEVNULL
        start(stack, words, stdout=target, stderr=target, env={**os.environ, **environ})
        os.close(end)
        watch = _watch(kind, reader, seen, hook)
        printer, _ = control.accept()
        stack.enter_context(printer)
        if words[0] == ALARM_MW:
            ask_patiently(str(folder / "state" / SOCKET_NAME), "/status")
        if kind == "mule":
            seen.read(100)  # it is ready
        took = [_one(printer, watch, chosen) for _ in range(firings + 2)][2:]
    return {"median": Spread.of(took).median, "p99": sorted(took)[int(len(took) * 0.99)]}


def _one(printer: socket.socket, watch: Watch, chosen: random.Random) -> float:
    """Return the milliseconds of one firing."""
    time.sleep(chosen.uniform(0.005, 0.02))
    printer.sendall(b"!")
    printed, seen = watch()
    return (seen - printed) / 1e6


def _watch(kind: str, output: IO[bytes], seen: FileIO, hook: Hook) -> Watch:
    """Return what sees messages of an alarm."""
    if kind == "curl":
        return hook.next
    if kind == "mule":
        return lambda: _noted(seen.read(100))
    if kind == "cmd":  # a message need not end in a newline
        return lambda: (int(seen.read(100).split()[-1]), time.monotonic_ns())
    if kind == "log":
        return lambda: _found(output, re.compile(rb".+TERRIBLE ALARM at (\d+)"))
    return lambda: _found(output, re.compile(rb"TERRIBLE ALARM at (\d+)"))


def _noted(line: bytes) -> tuple[int, int]:
    printed, seen = line.split()
    return int(printed), int(seen)


def _found(lines: IO[bytes], pattern: re.Pattern[bytes]) -> tuple[int, int]:
    while line := lines.readline():
        seen = time.monotonic_ns()
        if found := pattern.match(line):
            return int(found[1]), seen
    raise RuntimeError("the output has ended")


if __name__ == "__main__":
    run("latency", sections, programs=["uwsgi"])
