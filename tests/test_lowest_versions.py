"""The lowest versions that `pyproject.toml` allows are enough."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest
from environments import ROOT, TOOLS, UV, Environment, run

#: One for each dependency at least: what the package does with it.
TESTS = (
    "tests/actions/curl/test_http_transport.py",
    "tests/actions/curl/test_mail.py",
    "tests/actions/test_hostile_receivers.py",
    "tests/cli/test_check.py",
    "tests/config/test_load.py",
    "tests/engine",
    "tests/patterns",
    "tests/master/control",
    "tests/master/worker",
    "tests/transports",
    "tests/test_structlog.py",
    # These depend on none.
    "--ignore=tests/engine/incidents/test_bounds.py",
    "--ignore=tests/engine/test_tracebacks.py",
    "--ignore=tests/patterns/test_rule_sets.py",
    "-k",
    "not logcheck",
)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_lowest_versions_pass_the_unit_tests(tmp_path: Path) -> None:
    """Installations that keep the oldest versions that are allowed get a package that works."""
    environment = Environment(tmp_path / "venv", sys.executable)
    pins = str(tmp_path / "pins.txt")
    lowest = ("--resolution", "lowest-direct", "--python", environment.python)
    run(*UV, "pip", "compile", *lowest, "-o", pins, "pyproject.toml")
    environment.install("--requirements", pins, *TOOLS)
    environment.install("--no-deps", "--editable", str(ROOT))
    environment.test(*TESTS)


def test_what_builds_the_package_is_pinned() -> None:
    """Two installations of one commit are built by the same code."""
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    constraints = (ROOT / "constraints.txt").read_text()
    for requirement in requires:
        name = re.split(r"[<>=!~]", requirement)[0]
        assert re.search(rf"^{name}==", constraints, re.MULTILINE), name
    installs = re.findall(r"^.*pip install.*$|^.*\$\(PIP\) install.*$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert all("$(PIP)" in line for line in installs)
