"""Flask's, Werkzeug's and Starlette's own tests, without the middleware and around every app: the same outcomes.

The suites come from the source distributions of the versions that are installed, through pip, and are kept for the
next run. Left out of both runs: tests of Werkzeug's development server, whose apps are in processes of their own, and
one of its router that takes ten seconds and calls no app.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import pytest

HERE = Path(__file__).parent

#: Seconds for one suite on a busy machine.
PATIENCE = 240.0


@dataclass(frozen=True)
class Suite:
    """A framework's tests."""

    name: str
    #: How many tests there are at least, and how many requests go through the middleware.
    tests: int
    requests: int
    options: tuple[str, ...] = field(default=())


SUITES = [
    Suite("flask", tests=450, requests=800),
    Suite(
        "werkzeug",
        tests=900,
        requests=150,
        options=("-m", "not dev_server", "--deselect", "tests/test_routing.py::test_long_build"),
    ),
    Suite("starlette", tests=1300, requests=2000),
]


@dataclass(frozen=True)
class Outcomes:
    """What a run of a suite came to."""

    outcomes: dict[str, str]
    requests: int
    facts: int


@pytest.fixture(scope="session")
def shelf() -> Path:
    """Provide the directory in which source distributions are kept, beside what is installed."""
    path = Path(sys.prefix) / "cache" / "suites"
    path.mkdir(parents=True, exist_ok=True)
    return path


def source_of(name: str, shelf: Path, directory: Path) -> Path:
    """Return the unpacked source distribution of the installed version."""
    archive = shelf / f"{name}-{version(name)}.tar.gz"
    if not archive.exists():
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--no-binary",
            name,
            "-d",
            str(directory),
        ]
        done = subprocess.run([*command, f"{name}=={version(name)}"], capture_output=True, text=True, check=False)
        if done.returncode and "CI" not in os.environ:
            pytest.skip(f"pip cannot get it here: {done.stderr}")
        assert done.returncode == 0, done.stderr
        (directory / archive.name).replace(archive)
    with tarfile.open(archive) as tar:
        tar.extractall(directory, filter="data")
    return directory / archive.name.removesuffix(".tar.gz")


def start(suite: Suite, source: Path, report: Path, wrapped: str, tests: Sequence[str]) -> subprocess.Popen[bytes]:
    options = ["-q", "-p", "suite_plugin", "-p", "no:cacheprovider", *suite.options, *tests]
    environ = {
        **os.environ,
        "PYTHONPATH": str(HERE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "SUITE_REPORT": str(report),
        "SUITE_WRAPPED": wrapped,
    }
    with report.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *options], cwd=source, env=environ, stdout=log, stderr=log
        )


def run_both(suite: Suite, source: Path, directory: Path, tests: Sequence[str]) -> tuple[Outcomes, Outcomes]:
    """Run the suite without and with the middleware, at the same time."""
    reports = [directory / "plain.json", directory / "wrapped.json"]
    runs = [
        start(suite, source, report, wrapped, tests) for report, wrapped in zip(reports, ["", suite.name], strict=True)
    ]
    for run in runs:
        run.wait(PATIENCE)
    plain, wrapped = (Outcomes(**json.loads(report.read_text(encoding="utf-8"))) for report in reports)
    return plain, wrapped


def differing(plain: Outcomes, wrapped: Outcomes) -> list[str]:
    tests = plain.outcomes.keys() | wrapped.outcomes.keys()
    return sorted(test for test in tests if plain.outcomes.get(test) != wrapped.outcomes.get(test))


@pytest.mark.timeout(2 * PATIENCE)
@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_a_frameworks_own_tests_do_not_notice_the_middleware(suite: Suite, shelf: Path, tmp_path: Path) -> None:
    """Every test of the framework passes, fails or is skipped with the middleware around its apps as without it."""
    source = source_of(suite.name, shelf, tmp_path)
    plain, wrapped = run_both(suite, source, tmp_path, ["tests"])
    assert plain.requests == 0
    assert wrapped.requests >= suite.requests
    assert sum(outcome == "passed" for outcome in plain.outcomes.values()) >= suite.tests
    if differ := differing(plain, wrapped):  # what depends on time gets a second chance, in both runs
        differ = differing(*run_both(suite, source, tmp_path, differ))
    assert differ == []
