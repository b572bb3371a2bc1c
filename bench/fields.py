"""Rules on the fields of lines in JSON, beside a regexp on the same lines: one line in 10,000 matches.

``python bench/fields.py``, with the options of `harness`.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from corpus import RARE
from harness import Case, Metric, Options, Section, run
from pipeline import Writing, below_us

METRICS = {"lines": Metric("thousand lines/s", more=True), "processor": Metric("processor, ns/line")}

#: The rule of each case, as TOML.
RULES = {
    "a regexp": 'pattern = \'"event": "payment_failed"\'',
    "a field": 'where = { event = "payment_failed" }',
    "six fields": 'where = { event = "payment_failed", level = ["error", "critical"], amount = ">=100", '
    'user.plan = "pro", path = "~^/pay", coupon = "!" }',
    "the level": 'pattern = ""\nlevel = "ERROR"',
}


def sections(options: Options) -> Iterator[Section]:
    """Measure each rule below ``alarm-mw run``, line by line and in large portions."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        lines = folder / "lines"
        lines.write_text("".join(json_lines(10_000)), encoding="utf-8")
        for portion, how, times in (
            (0, "a write for each line", options.pick(full=100, quick=30, tiny=1)),
            (65_536, "writes of 64 KB", options.pick(full=600, quick=200, tiny=2)),
        ):
            writing = Writing(lines, times, portion)
            cases = [Case(case, partial(_measured, folder / case, rule, writing)) for case, rule in RULES.items()]
            yield Section(f"Lines in JSON, {how}", METRICS, cases, peer="a regexp", warm_up=1)


def json_lines(count: int) -> Iterator[str]:
    """Yield lines as structlog's `JSONRenderer` writes them, newline included; one in `RARE` matches."""
    chosen = random.Random(1)
    for number in range(count):
        is_rare = number % RARE == RARE // 2
        fields = {
            "path": "/pay/4211" if is_rare else f"/orders/{chosen.randrange(10_000)}",
            "amount": 250.5 if is_rare else chosen.randrange(1000) / 10,
            "user": {"id": chosen.randrange(10_000), "plan": "pro" if is_rare else "free"},
            "event": "payment_failed"
            if is_rare
            else chosen.choice(["request_finished", "payment_accepted", "cart_saved"]),
            "level": "error" if is_rare else "info",
            "timestamp": f"2026-01-02T03:04:{number % 60:02}.{number % 1000:03}Z",
        }
        yield json.dumps(fields) + "\n"


def _measured(folder: Path, rule: str, writing: Writing) -> dict[str, float | None]:
    folder.mkdir(exist_ok=True)
    config = folder / "alarms.toml"
    config.write_text(f'[alarms.a]\naction = "log"\n[[rules]]\n{rule}\nalarms = "a"\n', encoding="utf-8")
    return below_us(config, writing, folder).per_line(writing)


if __name__ == "__main__":
    run("fields", sections, packages=["hyperscan", "msgspec"], programs=[])
