"""The stream: what stands in the place of `cat` behind a server that writes, and what searches a file.

``python bench/stream.py``, with the options of `harness`. A program that is not installed is named and left out.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from corpus import access_lines, configuration, patterns
from harness import Case, Metric, Options, Section, run
from pipeline import ALARM_MW, WRITER, Writing, below_us, in_place_of_cat, into_a_file

METRICS = {"lines": Metric("thousand lines/s", more=True), "processor": Metric("processor, ns/line")}
WHOLE = {"lines": Metric("thousand lines/s, start-up included", more=True), "processor": Metric("processor, ns/line")}

COPY = "import os\nwhile data := os.read(0, 65536): os.write(1, data)"

#: What searches a file beside `alarm-mw replay`, by its program.
NAMES = {"grep": "grep -cE", "rg": "ripgrep", "sec": "SEC", "fail2ban-regex": "fail2ban-regex"}
FAIL2BAN_NOTE = (
    "SEC and fail2ban-regex are given so much of the file as takes them some two seconds; fail2ban-regex is told "
    "how the dates are written, takes what follows a match for what to ban, and looks at lines behind their dates"
)

#: Of how many lines a second each is thought capable, by the number of rules: none is to take minutes.
SEC_SPEED = {1: 300_000, 10: 80_000, 100: 10_000, 1000: 1_000}
FAIL2BAN_SPEED = {1: 100_000, 10: 80_000, 100: 30_000}
UWSGI_SPEED = {0: 280_000, 1: 250_000, 10: 230_000, 100: 110_000, 1000: 20_000}


def sections(options: Options) -> Iterator[Section]:
    """Measure in the place of `cat`, then uWSGI's log-master, then programs that search a file."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        lines = folder / "lines"
        lines.write_text("".join(access_lines(10_000)), encoding="utf-8")
        yield from behind_a_server(folder, lines, options)
        yield beside_uwsgi(folder, lines, options)
        yield from on_a_file(folder, options)


def configured(folder: Path, rules: int) -> tuple[Path, Path]:
    """Return a folder of its own for so many rules, and the configuration in it."""
    own = folder / f"rules-{rules}"
    own.mkdir(exist_ok=True)
    return own, configuration(own, patterns(rules))


def behind_a_server(folder: Path, lines: Path, options: Options) -> Iterator[Section]:
    """Yield the sections for ``writer | X | reader``."""
    for portion, how, times in (
        (0, "a write for each line", options.pick(full=200, quick=50, tiny=1)),
        (65_536, "writes of 64 KB", options.pick(full=1500, quick=400, tiny=2)),
    ):
        writing = Writing(lines, times, portion)
        cases = [
            Case("cat", partial(_as_cat, ["cat"], writing, folder)),
            Case("Python, read and write", partial(_as_cat, [sys.executable, "-c", COPY], writing, folder)),
        ]
        for rules in options.pick(full=(1, 10, 100, 1000), quick=(1, 1000), tiny=(10,)):
            own, config = configured(folder, rules)
            cases.append(Case(f"alarm-mw run, {rules:,} rules", partial(_as_ours, config, writing, own)))
        yield Section(f"In the place of cat, {how}", METRICS, cases, peer="cat", warm_up=1)


def _as_cat(words: Sequence[str], writing: Writing, folder: Path) -> dict[str, float | None]:
    return in_place_of_cat(words, writing, folder).per_line(writing)


def _as_ours(config: Path, writing: Writing, folder: Path) -> dict[str, float | None]:
    return below_us(config, writing, folder).per_line(writing)


# --- uWSGI ---


def beside_uwsgi(folder: Path, lines: Path, options: Options) -> Section:
    """Return the section for output into a file, by uWSGI's log-master and by ours."""
    seconds = options.pick(full=2.0, quick=0.7, tiny=0.02)
    installed = shutil.which("uwsgi") is not None
    cases = []
    for rules in options.pick(full=(0, 1, 10, 100, 1000), quick=(1, 1000), tiny=(1,)):
        own, config = configured(folder, rules)
        if installed:
            writing = Writing(_head(lines, own, int(UWSGI_SPEED[rules] * seconds)), 1)
            words = ["uwsgi", "--ini", str(uwsgi_ini(own, patterns(rules)))]
            cases.append(Case(f"uWSGI, {rules:,} rules", partial(_to_file, words, writing, own)))
        writing = Writing(lines, max(1, int(100 * seconds)))
        ours = partial(_to_file, config, writing, own)
        cases.append(Case(f"alarm-mw run, {rules:,} rules", ours, f"uWSGI, {rules:,} rules"))
    notes = [] if installed else ["uWSGI is not installed"]
    title = "Into a file, a write for each line, beside uWSGI's log-master"
    return Section(title, METRICS, cases, peer="uWSGI", notes=notes, warm_up=1, rounds=9)


def uwsgi_ini(folder: Path, rules: list[str]) -> Path:
    """Write what uWSGI needs to run the writer as a mule, with rules that log, and return the file."""
    file = folder / "uwsgi.ini"
    keys = ["plugin = python3", "master = true", f"socket = {folder}/uwsgi.sock", "log-master = true"]
    keys += [f"mule = {WRITER[1]}", "alarm = a log:", "die-on-term = true", "disable-logging = true"]
    keys += [f"log-alarm = a {rule}" for rule in rules]
    file.write_text("\n".join(["[uwsgi]", *keys]) + "\n", encoding="utf-8")
    return file


def _to_file(words: list[str] | Path, writing: Writing, folder: Path) -> dict[str, float | None]:
    return into_a_file(words, writing, folder).per_line(writing)


# --- a file ---


def on_a_file(folder: Path, options: Options) -> Iterator[Section]:
    """Yield the sections for programs that search a file."""
    file = folder / "log"
    with file.open("w", encoding="utf-8") as output:
        output.writelines(access_lines(options.pick(full=1_160_000, quick=300_000, tiny=10_000)))
    cases: list[Case] = []
    notes = [f"{name} is not installed" for name in NAMES if not shutil.which(name)]
    for rules in options.pick(full=(1, 10, 100, 1000), quick=(1, 1000), tiny=(10,)):
        own, config = configured(folder, rules)
        seconds = options.pick(full=2.0, quick=1.0, tiny=0.1)
        contestants: dict[str, Callable[[], dict[str, float | None]]] = {
            "grep": partial(_search, ["grep", "-cE", "-f", _listed(own, rules), str(file)], file),
            "rg": partial(_search, ["rg", "-c", "-f", _listed(own, rules), str(file)], file),
            "sec": partial(_search_with_sec, own, rules, file, seconds),
        }
        if rules in FAIL2BAN_SPEED:
            contestants["fail2ban-regex"] = partial(_search_with_fail2ban, own, rules, file, seconds)
        words = [ALARM_MW, "replay", "--config", str(config), str(file)]
        contestants[ALARM_MW] = partial(_search, words, file, own / "cache")
        cases += [
            Case(f"{NAMES.get(word, 'alarm-mw replay')}, {rules:,} rules", one, f"grep -cE, {rules:,} rules")
            for word, one in contestants.items()
            if shutil.which(word)
        ]
    size = file.stat().st_size / 1e6
    if shutil.which("fail2ban-regex"):
        notes.append(FAIL2BAN_NOTE)
    yield Section(f"A file of {size:.1f} MB", WHOLE, cases, peer="grep -cE", notes=notes, warm_up=1, rounds=3)


def _listed(folder: Path, rules: int) -> str:
    file = folder / "patterns"
    file.write_text("\n".join(patterns(rules)) + "\n", encoding="utf-8")
    return str(file)


def _search(words: Sequence[str], file: Path, cache: Path | None = None) -> dict[str, float | None]:
    lines = file.read_bytes().count(b"\n")
    environ = {**os.environ, "LC_ALL": "C", **({"XDG_CACHE_HOME": str(cache)} if cache else {})}
    before, began = _of_children(), time.perf_counter()
    # Not to /dev/null: grep would stop at the first match.
    subprocess.run(words, env=environ, capture_output=True, check=True)
    took, processor = time.perf_counter() - began, _of_children() - before
    return {"lines": lines / took / 1e3, "processor": processor / lines * 1e9}


def _of_children() -> float:
    """Return the processor's seconds of the children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _search_with_sec(folder: Path, rules: int, file: Path, seconds: float) -> dict[str, float | None]:
    config = folder / "sec.conf"
    config.write_text(
        "\n".join(f"type=Single\nptype=RegExp\npattern={rule}\ndesc=found\naction=none\n" for rule in patterns(rules)),
        encoding="utf-8",
    )
    part = _head(file, folder, int(SEC_SPEED[rules] * seconds))
    return _search(["sec", f"--conf={config}", f"--input={part}", "--notail", f"--log={os.devnull}"], part)


def _search_with_fail2ban(folder: Path, rules: int, file: Path, seconds: float) -> dict[str, float | None]:
    """Search with a filter: each of its regexps must name what is to be banned."""
    keys = [r"datepattern = ^%%Y-%%m-%%d %%H:%%M:%%S,%%f", "failregex ="]
    keys += [f"    {rule}<F-ID>.*</F-ID>" for rule in patterns(rules)]
    config = folder / "filter.conf"
    config.write_text("\n".join(["[Definition]", *keys]) + "\n", encoding="utf-8")
    part = _head(file, folder, int(FAIL2BAN_SPEED[rules] * seconds))
    return _search(["fail2ban-regex", str(part), str(config)], part)


def _head(file: Path, folder: Path, lines: int) -> Path:
    """Return a file with so many lines of another one, or all of it again and again until there are as many."""
    part = folder / f"head-{lines}"
    if not part.exists():
        content = file.read_bytes().splitlines(keepends=True)
        part.write_bytes(b"".join(islice(content * (lines // len(content) + 1), lines)))
    return part


if __name__ == "__main__":
    run("stream", sections, packages=["hyperscan"], programs=["cat", "grep", "rg", "sec", "fail2ban-regex", "uwsgi"])
