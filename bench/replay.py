"""``alarm-mw replay`` over a large log, beside `grep -cE -f`, ripgrep and `fail2ban-regex` with the same regexps.

``python bench/replay.py``, with the options of `harness`; in full, 5 GB are written to the directory for temporary
files, and deleted afterwards. ``--quick`` takes 200 MB. One line in 10,000 matches; all must find as many of them.
fail2ban gets the first lines only, and the time that it states itself, without its start: it would take hours.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from corpus import access_lines, configuration, patterns
from harness import Case, Metric, Options, Section, run

METRICS = {
    "speed": Metric("MB/s", more=True),
    "whole": Metric("s for the log"),
    "processor": Metric("processor, s/GB"),
}

OURS = "alarm-mw replay"

#: How many lines are generated; the log repeats them.
LINES = 1_000_000

#: In C, the peers do not decode what they read.
ENVIRONMENT = {**os.environ, "LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class Log:
    """What is searched."""

    path: Path
    size: int
    #: Its first lines, for those who take longer.
    part: Path


def sections(options: Options) -> Iterator[Section]:
    """Measure all programs with one rule, with 100, and with 1,000."""
    with tempfile.TemporaryDirectory(prefix="bench-replay-") as name:
        folder = Path(name)
        log = _written(
            folder,
            options.pick(full=5_000, quick=200, tiny=1) * 1_000_000,
            options.pick(full=3000, quick=1000, tiny=20),
        )
        for number in options.pick(full=(1, 100, 1000), quick=(1000,), tiny=(10,)):
            yield _section(folder, log, number)


def _written(folder: Path, size: int, part: int) -> Log:
    """Write a log of about so many bytes, and another one of its first lines."""
    lines = "".join(access_lines(min(LINES, size // 100))).encode()
    log, first = folder / "app.log", folder / "part.log"
    with log.open("wb") as file:
        while file.tell() + len(lines) <= size:
            file.write(lines)
    first.write_bytes(b"".join(lines.splitlines(keepends=True)[:part]))
    return Log(log, log.stat().st_size, first)


def _section(folder: Path, log: Log, number: int) -> Section:
    rules = patterns(number)
    here = folder / f"{number}"
    here.mkdir()
    regexps, filters = here / "regexps", here / "filter.conf"
    regexps.write_text("\n".join(rules) + "\n", encoding="utf-8")
    failregex = "\n ".join(f"^<F-ID>{each[1:]}</F-ID>" if each[0] == "^" else f"<F-ID>{each}</F-ID>" for each in rules)
    filters.write_text(f"[Definition]\nfailregex = {failregex}\n", encoding="utf-8")
    ours = Path(sys.executable).with_name("alarm-mw")
    config = configuration(here, rules, top="alarm_freq = 0")
    commands = {
        OURS: [str(ours), "replay", "--config", str(config), str(log.path)],
        "grep -cE -f": ["grep", "-cE", "-f", str(regexps), str(log.path)],
        "ripgrep": ["rg", "-c", "-f", str(regexps), str(log.path)],
    }
    cases = [
        Case(name, partial(_timed, name, number, log, words))
        for name, words in commands.items()
        if shutil.which(words[0])
    ]
    if shutil.which("fail2ban-regex"):
        cases.append(Case("fail2ban-regex, a part", partial(_fail2ban, log, filters, here)))
    missing = [name for name in ("grep", "rg", "fail2ban-regex") if not shutil.which(name)]
    notes = [f"not installed: {', '.join(missing)}"] if missing else []
    title = f"{number:,} rules, a log of {log.size / 1e9:.2g} GB"
    return Section(title, METRICS, cases, peer=OURS, rounds=3, notes=notes)


def _timed(name: str, number: int, log: Log, words: Sequence[str]) -> dict[str, float]:
    before, began = _processor(), time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    took = time.perf_counter() - began
    found = len(done.stdout.splitlines()) if name == OURS else int(done.stdout or 0)
    if done.returncode:
        raise RuntimeError(done.stderr)
    _expect(name, number, found)
    return _figures(took, _processor() - before, log.size, log.size)


def _fail2ban(log: Log, filters: Path, folder: Path) -> dict[str, float]:
    words = ["fail2ban-regex", "--config", str(folder / "none"), str(log.part), str(filters)]
    before = _processor()
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    processor = _processor() - before
    found = re.search(r"\[processed in ([\d.]+) sec\]", done.stdout)
    if found is None:
        raise RuntimeError(done.stdout + done.stderr)
    return _figures(max(float(found[1]), 0.01), processor, log.part.stat().st_size, log.size)


def _figures(took: float, processor: float, size: int, whole: int) -> dict[str, float]:
    return {"speed": size / took / 1e6, "whole": took * whole / size, "processor": processor / (size / 1e9)}


def _processor() -> float:
    """Return the seconds of processor time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


#: By the number of rules.
_counts: dict[int, int] = {}


def _expect(name: str, number: int, found: int) -> None:
    """Raise where a program has found another number of lines than the one before it."""
    if _counts.setdefault(number, found) != found:
        raise RuntimeError(f"{name} has found {found} lines, another program {_counts[number]}")


if __name__ == "__main__":
    run("replay", sections, packages=["hyperscan"], programs=["grep", "rg", "fail2ban-regex"])
