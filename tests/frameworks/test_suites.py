"""Frameworks' own tests, without the middleware and around every app; logging's, without our handler and with it.

The outcomes are the same. The suites come from the source distributions of the versions that are installed, through
pip, and are kept for the next run; logging's comes with Python. Left out of both runs is what gives no evidence: tests
of servers, whose apps are in processes of their own, and slow ones that call no app.
"""

from __future__ import annotations

import importlib.util
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
from waiting import SUITE_LIMIT

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Suite:
    """A framework's tests."""

    name: str
    #: How many tests there are at least, and how many requests go through the middleware.
    tests: int
    requests: int
    options: tuple[str, ...] = field(default=())
    #: Where the tests are, in the source distribution.
    paths: tuple[str, ...] = ("tests",)
    #: Whether pytest-asyncio runs them; the other suites do not expect it.
    has_asyncio: bool = False


#: Left out are tests that start servers, wait for seconds, or fail by themselves with this Python.
FALCON = (
    "--ignore=tests/test_wsgi_servers.py",
    "--ignore=tests/asgi/test_asgi_servers.py",
    "--ignore=tests/test_static.py",
    "--ignore=tests/test_uri_templates.py",
    "--ignore=tests/test_buffered_reader.py",
    "--ignore=tests/asgi/test_buffered_reader.py",
    "--ignore=tests/asgi/test_boundedstream_asgi.py",
    "--ignore=tests/asgi/test_sync.py",
    "--deselect=tests/asgi/test_ws.py::test_echo",
    "--deselect=tests/asgi/test_ws.py::test_ws_enter_context_timeout",
)

SUITES = [
    Suite("flask", tests=450, requests=800),
    Suite(
        "werkzeug",
        tests=900,
        requests=150,
        options=("-m", "not dev_server", "--deselect", "tests/test_routing.py::test_long_build"),
    ),
    Suite("starlette", tests=1300, requests=2000),
    Suite("falcon", tests=2500, requests=1800, options=FALCON),
    Suite("webob", tests=2000, requests=200, options=("--deselect=tests/test_client_functional.py::test_client_slow",)),
    Suite("bottle", tests=300, requests=150, paths=("test",)),
    # The test that is left out needs another framework.
    Suite(
        "a2wsgi",
        tests=15,
        requests=20,
        options=("--deselect=tests/test_asgi.py::test_baize_stream_response",),
        has_asyncio=True,
    ),
    # What is left out is about threads and context variables.
    Suite("asgiref", tests=10, requests=15, paths=("tests/test_wsgi.py", "tests/test_testing.py"), has_asyncio=True),
]

#: Of CPython's: four tests that put a filter on the root logger's first handler, and one that wants it to have none;
#: two that wait for seconds, and what is no test.
LEFT_OUT = (
    "test_filter",
    "test_callable_filter",
    "test_handler_filter",
    "test_specific_filters",
    "test_last_resort",
    "test_race",
    "test_noserver",
    "test_compute_rollover",
)

#: CPython's, with the handler first on the root logger.
LOGGING = Suite(
    "logging",
    tests=190,
    requests=300,
    options=(
        "-pno:logging",
        "-pno:warnings",
        "-k",
        f"not ({' or '.join(LEFT_OUT)})",
        "--pyargs",
    ),
    paths=("test.test_logging",),
)


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
    plugins = ["-psuite_plugin", "-pno:cacheprovider", *([] if suite.has_asyncio else ["-pno:asyncio"])]
    options = ["-q", *plugins, *suite.options, *tests]
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
        run.wait(SUITE_LIMIT)
    plain, wrapped = (Outcomes(**json.loads(report.read_text(encoding="utf-8"))) for report in reports)
    return plain, wrapped


def differing(plain: Outcomes, wrapped: Outcomes) -> list[str]:
    tests = plain.outcomes.keys() | wrapped.outcomes.keys()
    return sorted(test for test in tests if plain.outcomes.get(test) != wrapped.outcomes.get(test))


@pytest.mark.slow
@pytest.mark.timeout(2 * SUITE_LIMIT)
@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_a_frameworks_own_tests_do_not_notice_the_middleware(suite: Suite, shelf: Path, tmp_path: Path) -> None:
    """Every test of the framework passes, fails or is skipped with the middleware around its apps as without it."""
    compare(suite, source_of(suite.name, shelf, tmp_path), tmp_path)


@pytest.mark.timeout(2 * SUITE_LIMIT)
def test_loggings_own_tests_do_not_notice_the_handler(tmp_path: Path) -> None:
    """Every test of CPython's `logging` has the same outcome with an `AlarmHandler` that sees each record first."""
    if importlib.util.find_spec("test.test_logging") is None and "CI" not in os.environ:
        pytest.skip("this Python came without its own tests")
    compare(LOGGING, tmp_path, tmp_path)


def compare(suite: Suite, source: Path, directory: Path) -> None:
    """Run the suite without and with our code; fail where that makes a difference."""
    plain, wrapped = run_both(suite, source, directory, suite.paths)
    assert plain.requests == 0
    assert wrapped.requests >= suite.requests
    assert sum(outcome == "passed" for outcome in plain.outcomes.values()) >= suite.tests
    if differ := differing(plain, wrapped):  # what depends on time gets a second chance, in both runs
        differ = differing(*run_both(suite, source, directory, differ))
    assert differ == []
