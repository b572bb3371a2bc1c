"""The lowest versions that `pyproject.toml` allows are enough."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: What runs the tests below, in the versions that run this one.
TOOLS = ("aiosmtpd", "hypothesis", "pytest", "pytest-timeout", "trustme", "uvloop")

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
)


def test_the_lowest_versions_pass_the_unit_tests(tmp_path: Path) -> None:
    """Whoever keeps the oldest versions that are allowed gets a package that works."""
    python = tmp_path / "venv" / "bin" / "python"
    pins = tmp_path / "pins.txt"
    uv = [sys.executable, "-m", "uv", "--quiet"]
    environ = {name: value for name, value in os.environ.items() if name not in {"XDG_CACHE_HOME", "PIP_CONSTRAINT"}}

    def run(*command: str) -> None:
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]

    run(*uv, "venv", "--python", sys.executable, str(tmp_path / "venv"))
    run(
        *uv,
        "pip",
        "compile",
        "--resolution",
        "lowest-direct",
        "--python",
        str(python),
        "-o",
        str(pins),
        "pyproject.toml",
    )
    tools = [f"{name}=={version(name)}" for name in TOOLS]
    run(*uv, "pip", "install", "--python", str(python), "--requirements", str(pins), *tools)
    run(*uv, "pip", "install", "--python", str(python), "--no-deps", "--editable", str(ROOT))
    run(str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS)


def test_what_builds_the_package_is_pinned() -> None:
    """Two installations of one commit are built by the same code."""
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    constraints = (ROOT / "constraints.txt").read_text()
    for requirement in requires:
        name = re.split(r"[<>=!~]", requirement)[0]
        assert re.search(rf"^{name}==", constraints, re.MULTILINE), name
    installs = re.findall(r"^.*pip install.*$|^.*\$\(PIP\) install.*$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert all("$(PIP)" in line for line in installs)
