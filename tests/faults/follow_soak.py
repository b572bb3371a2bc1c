"""Followed logs under load: many files are rotated and masters killed, and each alarm line must fire once.

``python tests/faults/follow_soak.py`` runs as long as its options say (`--help`) and prints what it found as JSON. Half
of the files are rotated by renaming, the others by copying and truncating, while somebody else writes to them.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alarm_mw.model.errors import NotRunningError
from alarm_mw.transports.control import ask
from alarm_mw.transports.places import SOCKET_NAME

CONFIG = """
alarm_freq = 0
[alarms.a]
action = "cmd"
command = "echo \\"$ALARM_ID $(cat)\\" >> fired.txt"
[[rules]]
pattern = 'ALARM line \\S+'
alarms = ["a"]
[[rules]]
pattern = 'upstream timed out .* while reading response header'
alarms = ["a"]
[[rules]]
pattern = 'FATAL: +terminating connection'
alarms = ["a"]
"""

#: What the logs say otherwise: nginx, PostgreSQL, an application.
ORDINARY = (
    '203.0.113.{n} - - [30/Nov/2026:03:12:{s:02d} +0000] "GET /shop/item/{n} HTTP/1.1" 200 {n}17 "-" "Mozilla/5.0"',
    "2026-11-30 03:12:{s:02d}.{n:03d} UTC [{n}] shop@shop LOG:  duration: {n}.417 ms  statement: SELECT * FROM item",
    "2026-11-30 03:12:{s:02d},{n:03d} INFO shop.pay order={n} customer=kim amount=99.50 state=paid in 0.{n:03d} s",
)

#: The first line of each write.
TIMED = "2026-11-30 03:12:07.{tick:09d} INFO shop.web worker {file} is alive\n"

#: Seconds between two writes to all files.
TICK = 0.02

#: Lines that were written so shortly before a cut, in seconds, may be lost with it.
CUT = 0.1

#: How many of the last writes to a file may have come between the copy and the cut.
KEPT_WRITES = 1000

#: How many rotated files are kept of a log.
KEPT = 3


@dataclass
class Soak:
    """What happens, and when."""

    files: int = 20
    lines_per_second: int = 50_000
    seconds: float = 300.0
    rotate_every: float = 10.0
    kill_every: float = 15.0
    #: How many alarm lines each file gets in a second.
    alarms_per_second: float = 1.0


@dataclass
class Written:
    """What was written to the logs."""

    lines: int = 0
    #: When each alarm line was written, and to which file.
    alarms: dict[str, tuple[float, int]] = field(default_factory=dict)
    #: By file, when it was truncated: before the copy began and after the cut.
    cuts: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    #: By file, the size of each copy, and each write: where it ended in the file, and how many lines it had.
    copied: dict[int, list[int]] = field(default_factory=dict)
    writes: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    @property
    def cut_lines(self) -> int:
        """How many lines came between a copy and the cut: no copy has them."""
        return sum(self._cut_lines(n, sizes) for n, sizes in self.copied.items())

    def _cut_lines(self, file: int, sizes: list[int]) -> int:
        found, cuts, before = 0, iter(sizes), 0
        behind: list[tuple[int, int]] = []
        for end, lines in self.writes[file]:
            if end <= before:
                size = next(cuts)
                found += sum(n for place, n in behind if place > size)
                behind = []
            behind = [*behind[-KEPT_WRITES:], (end, lines)]
            before = end
        return found + sum(sum(n for place, n in behind if place > size) for size in cuts)


class Writer:
    """Writes logs from one thread and rotates them in another."""

    def __init__(self, soak: Soak, folder: Path) -> None:
        self._soak, self._folder = soak, folder
        self.written = Written()
        self._files = [self._open(n) for n in range(soak.files)]
        self._reopen: set[int] = set()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._write), threading.Thread(target=self._rotate)]
        numbers = itertools.cycle(range(997))
        lines = soak.lines_per_second * TICK / soak.files
        self._blocks = [
            "".join(ORDINARY[n % 3].format(n=next(numbers), s=n % 60) + "\n" for _ in range(round(lines) - 1))
            for n in range(50 * 3)
        ]
        self._block_lines = round(lines)

    def path(self, n: int) -> Path:
        return self._folder / f"{('nginx', 'postgresql', 'app')[n % 3]}-{n:02d}x.log"

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        for file in self._files:
            os.close(file)

    def _open(self, n: int) -> int:
        return os.open(self.path(n), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def _write(self) -> None:
        begin, ticks = time.monotonic(), itertools.count()
        due = [begin + n / self._soak.files for n in range(self._soak.files)]
        serial = itertools.count()
        while not self._stopping.is_set():
            tick = next(ticks)
            for n in range(self._soak.files):
                if n in self._reopen:  # as after nginx -s reopen, which comes a moment after the rename
                    self._reopen.discard(n)
                    os.close(self._files[n])
                    self._files[n] = self._open(n)
                # No two lines of a log say the same at the same time: one of each block, at least, has the time.
                text = TIMED.format(tick=tick, file=n) + self._blocks[(tick * 3 + n % 3) % len(self._blocks)]
                lines = self._block_lines
                if time.monotonic() >= due[n]:
                    due[n] += 1 / self._soak.alarms_per_second
                    name = f"{n}-{next(serial)}"
                    text += f"2026-11-30 03:12:07 ERROR ALARM line {name} in the way\n"
                    self.written.alarms[name] = (time.monotonic(), n)
                    lines += 1
                os.write(self._files[n], text.encode())
                self.written.lines += lines
                if n % 2:
                    end = os.lseek(self._files[n], 0, os.SEEK_CUR)
                    self.written.writes.setdefault(n, []).append((end, lines))
            self._stopping.wait(max(begin + (tick + 1) * TICK - time.monotonic(), 0.0))

    def _rotate(self) -> None:
        for turn in itertools.count():
            if self._stopping.wait(self._soak.rotate_every / self._soak.files):
                return
            n = turn % self._soak.files
            path = self.path(n)
            self._shift(path)
            first = path.with_name(f"{path.name}.1")
            if n % 2:
                began = time.monotonic()
                shutil.copyfile(path, first)
                self.written.copied.setdefault(n, []).append(first.stat().st_size)
                os.truncate(path, 0)
                self.written.cuts.setdefault(n, []).append((began, time.monotonic()))
            else:
                path.rename(first)
                self._reopen.add(n)

    def _shift(self, path: Path) -> None:
        for number in range(KEPT, 0, -1):
            for suffix in ("", ".gz"):
                old = path.with_name(f"{path.name}.{number}{suffix}")
                if old.exists() and number == KEPT:
                    old.unlink()
                elif old.exists() and number == 1 and path.name.startswith("app"):
                    self._compress(old, path.with_name(f"{path.name}.2.gz"))
                elif old.exists():
                    old.rename(path.with_name(f"{path.name}.{number + 1}{suffix}"))

    def _compress(self, old: Path, new: Path) -> None:
        with gzip.open(new, "wb", compresslevel=1) as packed, old.open("rb") as plain:
            shutil.copyfileobj(plain, packed, 1024 * 1024)
        old.unlink()


class Watch:
    """Measures the masters, and kills them."""

    def __init__(self, soak: Soak, state: Path) -> None:
        self._soak, self._socket = soak, str(state / SOCKET_NAME)
        self.seconds = 0.0
        self.memory = 0
        self.kills = 0
        self.behind = 0
        self._cpu: dict[int, float] = {}

    def status(self) -> dict[str, Any]:
        with contextlib.suppress(NotRunningError):
            return dict(ask(self._socket, "/status", timeout=5.0))
        return {}

    def look(self) -> int | None:
        """Measure the master that answers, and return its pid."""
        answer = self.status()
        if not (answer.get("followed") or {}).get("files"):
            return None
        self.behind = max(self.behind, answer["followed"]["files"]["behind"])
        pid = int(answer["pid"])
        with contextlib.suppress(OSError):
            parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            self._cpu[pid] = (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS"):
                    self.memory = max(self.memory, int(line.split()[1]) * 1024)
        return pid

    @property
    def cpu(self) -> float:
        """Seconds of processor time of all masters, up to the last look at each."""
        return sum(self._cpu.values())

    def run(self) -> None:
        begin = time.monotonic()
        kill_at = begin + self._soak.kill_every
        while time.monotonic() - begin < self._soak.seconds:
            time.sleep(0.25)  # the pace at which the master is measured
            pid = self.look()
            if pid is not None and time.monotonic() >= kill_at:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self.kills += 1
                kill_at = time.monotonic() + self._soak.kill_every
        self.seconds = time.monotonic() - begin


def run(soak: Soak, folder: Path) -> dict[str, Any]:
    """Run a soak, and return what was found."""
    logs, state = folder / "logs", folder / "state"
    logs.mkdir()
    (folder / "follow.toml").write_text(CONFIG)
    command = [str(Path(sys.executable).with_name("alarm-mw")), "follow", "--config", "follow.toml"]
    log = (folder / "log.txt").open("wb")
    process = subprocess.Popen(
        [*command, "--state-dir", str(state), str(logs / "*.log")], cwd=folder, stdout=log, stderr=log
    )
    watch = Watch(soak, state)
    try:
        while watch.look() is None:
            time.sleep(0.1)  # whether a master answers is found out by asking
        writer = Writer(soak, logs)
        writer.start()
        watch.run()
        writer.stop()
        answer = _settled(watch, folder, writer.written)
    finally:
        process.terminate()
        process.wait(60)
        log.close()
    return {**_found(folder, writer.written), **_figures(watch, writer.written, answer)}


def _settled(watch: Watch, folder: Path, written: Written) -> dict[str, Any]:
    """Wait until all is read and delivered, or nothing comes any more; return the status."""
    last, since = -1, time.monotonic()
    while time.monotonic() - since < 10.0:
        time.sleep(0.5)  # between two questions to the master, which are work for it as well
        answer = watch.status()
        n = len(_fired(folder))
        if n != last:
            last, since = n, time.monotonic()
        files = (answer.get("followed") or {}).get("files")
        waiting = sum(row["waiting"] for row in answer.get("alarms", {}).values())
        if files and not files["behind"] and not waiting and n >= len(written.alarms):
            break
    watch.look()
    return answer


def _fired(folder: Path) -> list[tuple[str, str]]:
    """Return the ids and the names of the lines that have fired."""
    file = folder / "fired.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(line.partition(" ")[0], line.partition("ALARM line ")[2].partition(" ")[0]) for line in lines]


def _found(folder: Path, written: Written) -> dict[str, Any]:
    fired = _fired(folder)
    ids: dict[str, set[str]] = {}
    for firing, name in fired:
        ids.setdefault(name, set()).add(firing)
    missing = written.alarms.keys() - ids.keys()
    excused = {name for name in missing if _is_excused(*written.alarms[name], written.cuts)}
    return {
        "alarm_lines": len(written.alarms),
        "fired_once": sum(len(each) == 1 for each in ids.values()),
        "fired_twice": sorted(name for name, each in ids.items() if len(each) > 1),
        "lost": sorted(missing - excused),
        "lost_by_the_cut": sorted(excused),
        "unknown": sorted(ids.keys() - written.alarms.keys()),
        "delivered_again_after_a_kill": sum(n - 1 for n in Counter(firing for firing, _ in fired).values()),
    }


def _is_excused(written_at: float, file: int, cuts: dict[int, list[tuple[float, float]]]) -> bool:
    return any(began - CUT <= written_at <= cut for began, cut in cuts.get(file, ()))


def _figures(watch: Watch, written: Written, answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "seconds": round(watch.seconds, 1),
        "lines_written": written.lines,
        "lines_per_second": round(written.lines / watch.seconds),
        "lines_between_copy_and_cut": written.cut_lines,
        "lines_judged": answer["sources"].get("file", {}).get("lines", 0),
        "ledger_problems": answer["imbalances"],
        "masters_killed": watch.kills,
        "cpu_percent_of_a_core": round(100 * watch.cpu / watch.seconds, 1),
        "memory_mb": round(watch.memory / 1e6, 1),
        "most_behind_mb": round(watch.behind / 1e6, 1),
    }


@contextlib.contextmanager
def _folder(name: str | None) -> Iterator[Path]:
    if name is not None:
        Path(name).mkdir(parents=True)
        yield Path(name)
        return
    with tempfile.TemporaryDirectory(prefix="follow-soak-") as made:
        yield Path(made)


def main() -> None:
    """Run it as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in vars(Soak()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--folder", help="keep everything there")
    options = vars(parser.parse_args())
    with _folder(options.pop("folder")) as folder:
        sys.stdout.write(json.dumps(run(Soak(**options), folder), indent=1) + "\n")


if __name__ == "__main__":
    main()
