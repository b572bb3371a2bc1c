"""The benchmarks run, with numbers so small that their figures mean nothing; what is told of figures is right."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest

BENCH = Path(__file__).parents[1] / "bench"
NAMES = sorted(path.stem for path in BENCH.glob("*.py") if "import Case" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_measures_every_case(name: str, tmp_path: Path) -> None:
    """Each script measures all its cases once, and keeps the figures with what they were measured on."""
    result = tmp_path / "result.json"
    words = [sys.executable, str(BENCH / f"{name}.py"), "--tiny", "--json", str(result)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    kept = json.loads(result.read_text(encoding="utf-8"))
    assert kept["machine"]["versions"]["alarm-mw"]
    assert kept["sections"]
    for section in kept["sections"]:
        for case, figures in section["cases"].items():
            assert figures.keys() <= section["metrics"].keys(), case
            assert figures, case
            assert all(len(rounds) == 1 for rounds in figures.values()), case


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("harness")


def measured(harness: ModuleType, **keywords: object) -> list[list[str]]:
    """Return the table of two cases with given figures."""
    figures = {"ours": iter([1.0, 2.0, 3.0, 4.0, 5.0]), "theirs": iter([10.0, 20.0, 30.0, 40.0, 50.0])}
    cases = [harness.Case(name, lambda each=each: {"time": next(each)}) for name, each in figures.items()]
    section = harness.Section("title", {"time": harness.Metric("ms")}, cases, **keywords)
    return [*harness.rows(harness.asdict(harness.measure(section, harness.Options())))]


def test_figures_are_medians_with_quartiles_and_a_ratio(harness: ModuleType) -> None:
    """A row has the median of the rounds, the quartiles, and how that stands to the peer."""
    assert measured(harness, peer="theirs") == [
        ["", "ms", "quartiles", "× theirs"],
        ["ours", "3.00", "2.00 … 4.00", "0.10"],
        ["theirs", "30.0", "20.0 … 40.0", "1.00"],
    ]


def test_rounds_that_warm_up_do_not_count(harness: ModuleType) -> None:
    """The figures of the first rounds are thrown away."""
    assert measured(harness, warm_up=2, rounds=3)[1] == ["ours", "4.00", "3.50 … 4.50"]


def test_what_is_added_to_a_base_is_told(harness: ModuleType) -> None:
    """Where all contain the same, the others are told without it, round by round."""
    assert [row[1] for row in measured(harness, base="ours")] == ["ms", "3.00", "27.0"]


def test_goals_are_told_beside_the_newest_results(harness: ModuleType, tmp_path: Path) -> None:
    """A figure, or its ratio to another one or what it has more than that one; of full runs, and where there is one."""
    goals = importlib.import_module("goals")
    ours, theirs, nobody = (goals.Place("x", "What", case, "ms") for case in ("ours", "theirs", "nobody"))
    for day, value, size in (("01", 100.0, "full"), ("02", 6.0, "full"), ("03", 50.0, "quick")):
        cases = {"ours": {"ms": [value, value - 1, value + 1]}, "theirs": {"ms": [4.0]}}
        kept = {"size": size, "sections": [{"title": "What there is", "cases": cases}]}
        (tmp_path / f"2026-01-{day}-x.json").write_text(json.dumps(kept), encoding="utf-8")
    told = [
        goals.Goal("time", 6, ours, unit=" ms").row(tmp_path),
        goals.Goal("ratio", 2, ours, of=theirs, least=True).row(tmp_path),
        goals.Goal("more", 1, ours, less=theirs).row(tmp_path),
        goals.Goal("none", 1, nobody).row(tmp_path),
        goals.Goal("none to compare", 1, ours, of=nobody).row(tmp_path),
    ]
    assert told == [
        ("time", "at most 6 ms", f"{harness.shown(6.0)} ms", "reached"),
        ("ratio", "at least 2", "1.50", "not reached"),
        ("more", "at most 1", "2.00", "not reached"),
        None,
        None,
    ]


def test_every_goal_can_be_told_from_the_kept_results(harness: ModuleType) -> None:
    """No goal names a section or case that no benchmark has."""
    goals = importlib.import_module("goals")
    assert len([*goals.rows()]) == len(goals.GOALS)


def test_a_chart_shows_every_point(harness: ModuleType) -> None:
    """Each case is a dot with its name and its median, higher for more, and on the scale that fits."""
    charts = importlib.import_module("charts")
    for medians in ([1.0, 10.0, 1000.0], [5.0, 6.0, 7.0]):
        points = [(str(n), harness.Spread(value, value, value)) for n, value in enumerate(medians)]
        root = ET.fromstring(charts.draw(charts.Chart("title", "rules", points)))
        dots = root.findall("{*}circle")
        assert [dot.findtext("{*}title") for dot in dots] == [
            f"{n} rules: {harness.shown(value)}" for n, value in enumerate(medians)
        ]
        heights = [float(dot.attrib["cy"]) for dot in dots]
        assert heights == sorted(heights, reverse=True)
        assert all(0 < height < charts.HEIGHT for height in heights)
