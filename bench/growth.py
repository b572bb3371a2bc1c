"""How the cost grows with the work: rules, alarms, the length of lines, workers, hits, letters beyond ASCII.

``python bench/growth.py``, with the options of `harness`; `charts.py` draws what it keeps. Workers and hits are
measured below a real ``alarm-mw run``; the others in this process, by the reader of the master and the rules behind it.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from corpus import NEEDLE, access_lines, configuration, patterns
from harness import Case, Metric, Options, Section, run
from pipeline import Writing, below_us, until

from alarm_mw.config.build import engine_of
from alarm_mw.config.load import load
from alarm_mw.config.sources import Sources
from alarm_mw.engine.engine import Engine
from alarm_mw.master.streams.lines import Chunk
from alarm_mw.master.streams.reader import StreamReader
from alarm_mw.master.worker.batch import Batch, Lines
from alarm_mw.master.worker.evaluator import Evaluator
from alarm_mw.model.types import Record
from alarm_mw.patterns.prefilter import Hit
from alarm_mw.transports.control import ask_patiently
from alarm_mw.transports.places import SOCKET_NAME

PER_LINE = {"line": Metric("processor, ns/line")}
PER_BYTE = {"byte": Metric("processor, ns/byte")}


def sections(options: Options) -> Iterator[Section]:
    """Measure what grows, one after the other."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")  # each is compiled once
        size = options.pick(full=30_000_000, quick=5_000_000, tiny=50_000)
        yield with_rules(folder, size, options)
        yield with_alarms(folder, size // 10, options)
        yield with_length(folder, size, options)
        yield with_length_of_hits(folder, size // 3, options)
        yield beyond_ascii(folder, size, options)
        yield with_workers(folder, options)
        yield with_hits(folder, options)


def _file(folder: Path, name: str, text: str, size: int) -> Path:
    """Return a file of at least so many bytes: the text again and again."""
    file = folder / name
    data = text.encode()
    file.write_bytes(data * (size // len(data) + 1))
    return file


def in_process(engine: Engine, file: Path) -> dict[str, float | None]:
    """Read the file, and apply the rules to its hits as the master does."""
    evaluator = Evaluator(engine)

    def record(hit: Hit) -> Record:
        return Record(hit.line, "stdout", 0.0, "")

    def evaluate(chunk: Chunk) -> None:
        for _ in evaluator.evaluate(Batch(lines=Lines("stdout", chunk.hits, record)), 0.0, each=False):
            pass

    with file.open("rb") as source:
        reader = StreamReader("stdout", source.fileno(), None, prefilter=engine.prefilter, hand_over=evaluate)
        began = time.process_time()
        reader.run()
        used = time.process_time() - began
    size, lines = file.stat().st_size, file.read_bytes().count(b"\n")
    return {"line": used / lines * 1e9, "byte": used / size * 1e9}


def _only(metrics: Sequence[str], measure: partial[dict[str, float | None]]) -> dict[str, float | None]:
    figures = measure()
    return {name: figures[name] for name in metrics}


def _engine(folder: Path, rules: list[str]) -> Engine:
    return _loaded(configuration(folder, rules))


def _loaded(config: Path) -> Engine:
    return engine_of(load(Sources.of_files([str(config)]), os.environ))


def with_rules(folder: Path, size: int, options: Options) -> Section:
    """Return the section for more and more rules."""
    file = _file(folder, "lines", "".join(access_lines(10_000)), size)
    counts = options.pick(full=(1, 3, 10, 30, 100, 300, 1000, 3000, 10_000), quick=(1, 10, 100, 1000), tiny=(1, 10))
    cases = [
        Case(
            f"{count:,} rules",
            partial(_only, ["line"], partial(in_process, _engine(folder, patterns(count)), file)),
            at=count,
        )
        for count in counts
    ]
    return Section("Rules", PER_LINE, cases, axis="rules", rounds=5, warm_up=1)


def with_alarms(folder: Path, size: int, options: Options) -> Section:
    """Return the section for more and more alarms, each with a rule; each line fires one."""
    cases = []
    for count in options.pick(full=(1, 10, 100, 1000), quick=(1, 100, 1000), tiny=(1, 10)):
        config = folder / f"alarms-{count}.toml"
        tables = (
            f"[alarms.a{n}]\naction = 'log'\n[[rules]]\npattern = 'order {n} '\nalarms = 'a{n}'\n" for n in range(count)
        )
        config.write_text("".join(tables), encoding="utf-8")
        text = "".join(
            f"2026-01-02 03:04:05 ERROR shop: {NEEDLE}: order {n % count} is lost: {n}\n" for n in range(1000)
        )
        file = _file(folder, f"alarms-{count}", text, size)
        measure = partial(in_process, _loaded(config), file)
        cases.append(Case(f"{count:,} alarms", partial(_only, ["line"], measure), at=count))
    return Section("Alarms, each line fires one", PER_LINE, cases, axis="alarms", rounds=5, warm_up=1)


def with_length(folder: Path, size: int, options: Options) -> Section:
    """Return the section for longer and longer lines, by 100 rules."""
    engine = _engine(folder, patterns(100))
    cases = []
    for length in options.pick(
        full=(10, 100, 1000, 10_000, 100_000, 1_000_000), quick=(10, 1000, 1_000_000), tiny=(10, 1000)
    ):
        chosen = random.Random(length)
        line = "".join(chosen.choices("abcdefghijklmnopqrstuvwxyz    ", k=length - 1)) + "\n"
        file = _file(folder, f"length-{length}", line, size)
        cases.append(Case(f"{length:,} bytes", partial(_only, ["byte"], partial(in_process, engine, file)), at=length))
    return Section("Length of a line, 100 rules", PER_BYTE, cases, axis="bytes of a line", rounds=5, warm_up=1)


def with_length_of_hits(folder: Path, size: int, options: Options) -> Section:
    """Return the section for longer and longer lines that all match, of a limited alarm."""
    own = folder / "hits-of-length"
    own.mkdir()
    engine = _loaded(configuration(own, ["ERR", *patterns(100)], 'action = "log"\nlimits = { rate = "5/1h" }'))
    cases = []
    for length in options.pick(full=(10, 20, 30, 40, 100, 1000, 10_000), quick=(10, 30, 40, 1000), tiny=(10, 1000)):
        file = _file(own, f"length-{length}", "ERR ".ljust(length - 1, "x") + "\n", size)
        cases.append(Case(f"{length:,} bytes", partial(_only, ["line"], partial(in_process, engine, file)), at=length))
    title = "Length of a line that matches, 101 rules, a limited alarm"
    return Section(title, PER_LINE, cases, axis="bytes of a line", rounds=5, warm_up=1)


def beyond_ascii(folder: Path, size: int, options: Options) -> Section:
    """Return the section for lines of which more and more are not ASCII, by 100 rules."""
    engine = _engine(folder, patterns(100))
    lines = list(access_lines(10_000))
    cases = []
    for share in options.pick(full=(0, 1, 10, 50, 100), quick=(0, 10, 100), tiny=(0, 100)):
        text = "".join(line.replace("shop", "würstchen") if n % 100 < share else line for n, line in enumerate(lines))
        file = _file(folder, f"share-{share}", text, size)
        cases.append(Case(f"{share} %", partial(_only, ["line"], partial(in_process, engine, file)), at=share))
    return Section("Lines beyond ASCII, 100 rules", PER_LINE, cases, axis="% of the lines", rounds=5, warm_up=1)


def with_workers(folder: Path, options: Options) -> Section:
    """Return the section for more and more processes that write line by line into one output, by 100 rules."""
    own = folder / "workers"
    own.mkdir()
    config = configuration(own, patterns(100))
    file = _file(own, "lines", "".join(access_lines(10_000)), 1)
    times = options.pick(full=64, quick=32, tiny=2)
    counts = options.pick(full=(1, 2, 4, 8, 16, 32), quick=(1, 8, 32), tiny=(2,))
    cases = [
        Case(f"{count} workers", partial(_of_workers, config, Writing(file, times, 0, count), own), at=count)
        for count in counts
    ]
    metrics = {"lines": Metric("thousand lines/s", more=True), "processor": Metric("processor, ns/line")}
    return Section("Workers that write line by line, 100 rules", metrics, cases, axis="workers", rounds=3)


def _of_workers(config: Path, writing: Writing, folder: Path) -> dict[str, float | None]:
    return below_us(config, writing, folder).per_line(writing)


def with_hits(folder: Path, options: Options) -> Section:
    """Return the section for more and more lines that match, until the master has judged all of them."""
    own = folder / "hits"
    own.mkdir()
    config = configuration(own, patterns(100), 'action = "log"\nlimits = { rate = "5/1h" }')
    times = options.pick(full=200, quick=50, tiny=1)
    cases = []
    for share in options.pick(full=(0.0, 0.1, 1.0, 10.0, 100.0), quick=(0.0, 1.0, 100.0), tiny=(1.0,)):
        lines = access_lines(10_000, rare=round(100 / share) if share else 10**9)
        file = _file(own, f"hits-{share}", "".join(lines), 1)
        cases.append(Case(f"{share:g} %", partial(_with_hits, config, Writing(file, times, 65_536), own), at=share))
    return Section("Lines that match, 100 rules, a limited alarm", PER_LINE, cases, axis="% of the lines", rounds=3)


def _with_hits(config: Path, writing: Writing, folder: Path) -> dict[str, float | None]:
    judged = 0

    def judged_all(size: int) -> None:
        nonlocal judged
        judged += writing.lines * size // writing.size
        while _lines(folder) < judged:
            time.sleep(0.1)  # a question costs the master something as well

    return {"line": until(judged_all, config, writing, folder).processor / writing.lines * 1e9}


def _lines(folder: Path) -> int:
    sources = ask_patiently(str(folder / "state" / SOCKET_NAME), "/status")["sources"]
    return int(sources.get("stdout", {}).get("lines", 0))


if __name__ == "__main__":
    run("growth", sections, packages=["hyperscan", "regex"])
