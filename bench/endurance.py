"""What a long run leaves behind: the master's memory, descriptors and threads while much passes.

``python bench/endurance.py``, with the options of `harness`. First 10 GB of output in writes of 64 KB, through
``alarm-mw run`` into a pipe that is read; then 100,000 lines that each fire a webhook, all of which must arrive. The
figures stand beside how much had passed by then: what grows with it, leaks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path

from corpus import NEEDLE, access_lines, configuration, patterns
from harness import Case, Metric, Options, Section, run
from hooks import Hook, receiving
from pipeline import Writing, below_us, until

from alarm_mw.transports.control import ask_patiently
from alarm_mw.transports.places import SOCKET_NAME

METRICS = {"memory": Metric("master, MB"), "descriptors": Metric("descriptors"), "threads": Metric("threads")}
#: In so many parts a run is looked at.
PARTS = 10

Figures = dict[str, float | None]


def sections(options: Options) -> Iterator[Section]:
    """Measure the stream, then the firings."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, receiving() as hook:
        folder = Path(name)
        gigabytes = options.pick(full=10.0, quick=1.0, tiny=0.02)
        stream = cache(partial(_stream, folder, round(gigabytes * 1e9)))
        yield _section(f"{gigabytes:g} GB of output, 1,000 rules", stream, gigabytes, "GB")
        firings = options.pick(full=100_000, quick=10_000, tiny=100)
        yield _section(f"{firings:,} webhooks", cache(partial(_firings, folder, firings, hook)), firings, "webhooks")


def _section(title: str, samples: Callable[[], Sequence[Figures]], amount: float, unit: str) -> Section:
    cases = []
    for part in range(1, PARTS + 1):
        at = amount * part / PARTS
        cases.append(Case(f"after {at:,g} {unit}", partial(_sample, samples, part), at=at))
    return Section(title, METRICS, cases, axis=unit, rounds=1)


def _sample(samples: Callable[[], Sequence[Figures]], part: int) -> Figures:
    return samples()[part - 1]


class Samples:
    """Looks at the master each time that another part has passed."""

    def __init__(self, folder: Path, whole: int) -> None:
        self._socket = str(folder / "state" / SOCKET_NAME)
        self._whole = whole
        self.taken: list[Figures] = []

    def passed(self, amount: int) -> None:
        """Note how much of it has passed."""
        while self.taken_until() <= amount and len(self.taken) < PARTS:
            self.taken.append(_figures(ask_patiently(self._socket, "/status")["pid"]))

    def taken_until(self) -> float:
        """Return at how much the next look is due."""
        return self._whole * (len(self.taken) + 1) / PARTS


def _figures(pid: int) -> Figures:
    facts = Path(f"/proc/{pid}")
    status = (facts / "status").read_text(encoding="utf-8").splitlines()
    resident = next(line for line in status if line.startswith("VmRSS"))
    return {
        "memory": int(resident.split()[1]) / 1024,
        "descriptors": len([*(facts / "fd").iterdir()]),
        "threads": len([*(facts / "task").iterdir()]),
    }


def _stream(folder: Path, size: int) -> Sequence[Figures]:
    own = folder / "stream"
    own.mkdir()
    lines = own / "lines"
    lines.write_text("".join(access_lines(10_000)), encoding="utf-8")
    writing = Writing(lines, size // lines.stat().st_size, 65_536)
    samples = Samples(own, writing.size)
    below_us(configuration(own, patterns(1000)), writing, own, samples.passed)
    return samples.taken


def _firings(folder: Path, firings: int, hook: Hook) -> Sequence[Figures]:
    own = folder / "firings"
    own.mkdir()
    lines = own / "lines"
    lines.write_text("".join(f"{NEEDLE}: order {n}\n" for n in range(100)), encoding="utf-8")
    config = configuration(
        own, [NEEDLE], f'action = "curl"\nurl = "{hook.url}"\nlimits = {{ repeat_after = 0 }}', "alarm_freq = 0"
    )
    writing = Writing(lines, firings // 100)
    samples = Samples(own, firings)

    def arrived(size: int) -> None:
        for number in range(size * 100 // lines.stat().st_size):
            hook.expect(1)
            if size == writing.size:
                samples.passed(number + 1)

    until(arrived, config, writing, own)
    return samples.taken


if __name__ == "__main__":
    run("endurance", sections, packages=["hyperscan", "httpx"])
