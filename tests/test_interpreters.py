"""The unit tests pass on every version of Python that the package names and the machine has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from environments import ROOT, TOOLS, Environment

NAMED = "Programming Language :: Python :: "

#: What depends on the interpreter most: its parsers of regexps, its threads and forks, its codecs.
TESTS = ("tests/engine", "tests/patterns", "tests/model", "tests/texts", "tests/transports")
#: What takes long, and depends on it least: bounds of memory, and thousands of rules of the same kinds.
LEFT_OUT = ("--ignore=tests/engine/incidents/test_bounds.py", "-k", "not logcheck")


def named_versions() -> list[str]:
    """Return the versions that `pyproject.toml` names, as in ``3.13``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [name.removeprefix(NAMED) for name in project["classifiers"] if name.startswith(f"{NAMED}3.")]


def candidates(version: str) -> Iterator[str]:
    """Yield where an interpreter may be: on the path, and among pyenv's."""
    if found := shutil.which(f"python{version}"):
        yield found
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from map(str, sorted(root.glob(f"versions/{version}.*/bin/python"), reverse=True))


def other_interpreters() -> dict[str, str]:
    """Return the interpreters of this machine by their versions, without the one that runs this."""
    ours = ".".join(map(str, sys.version_info[:2]))
    found = {}
    for version in named_versions():
        works = (each for each in candidates(version) if version != ours and is_of_version(each, version))
        if interpreter := next(works, None):
            found[version] = interpreter
    return found


def is_of_version(interpreter: str, version: str) -> bool:
    """Return whether an interpreter runs, which a shim of pyenv's may not, and is of that version."""
    done = subprocess.run([interpreter, "--version"], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.startswith(f"Python {version}.")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("version", "interpreter"), other_interpreters().items())
def test_the_unit_tests_pass(version: str, interpreter: str, tmp_path: Path) -> None:
    """With the versions of all packages that are pinned."""
    environment = Environment(tmp_path / "venv", interpreter)
    environment.install("--constraints", "constraints.txt", *TOOLS, "--editable", ".")
    environment.test(*TESTS, *LEFT_OUT)


def test_an_interpreter_that_only_pretends_is_left_out(tmp_path: Path) -> None:
    """A shim without its interpreter is none."""
    shim = tmp_path / "python3.13"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    assert not is_of_version(str(shim), "3.13")
