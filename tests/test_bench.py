"""The benchmarks run, with numbers so small that their figures mean nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"
NAMES = sorted(path.stem for path in BENCH.glob("*.py") if "from harness import" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_measures_every_case(name: str, tmp_path: Path) -> None:
    """Each script measures all its cases by all its figures, and keeps them with what they were measured on."""
    result = tmp_path / "result.json"
    words = [sys.executable, str(BENCH / f"{name}.py"), "--tiny", "--json", str(result)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    kept = json.loads(result.read_text(encoding="utf-8"))
    assert kept["machine"]["versions"]["alarm-mw"]
    for section in kept["sections"]:
        for case, figures in section["cases"].items():
            assert figures.keys() == section["metrics"].keys(), case
            assert all(len(rounds) == 1 for rounds in figures.values()), case
