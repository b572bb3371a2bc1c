"""Virtual environments in which the unit tests run with other versions of Python or of what the package depends on."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]

UV = (sys.executable, "-m", "uv", "--quiet")

#: What runs the tests there, in the versions that run these.
TOOLS = [
    f"{name}=={version(name)}" for name in ("aiosmtpd", "hypothesis", "pytest", "pytest-timeout", "trustme", "uvloop")
]


class Environment:
    """A virtual environment in `folder` for the interpreter `base`."""

    def __init__(self, folder: Path, base: str) -> None:
        self.python = str(folder / "bin" / "python")
        run(*UV, "venv", "--python", base, str(folder))

    def install(self, *options: str) -> None:
        """Install with uv: requirements, or options for them."""
        run(*UV, "pip", "install", "--python", self.python, *options)

    def test(self, *tests: str) -> None:
        """Run tests of this repository, the generated ones briefly; all must pass."""
        run(self.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=brief", *tests)


def run(*command: str, given: str = "", **environ: str) -> str:
    """Run a command in the repository, and return what it printed; what it printed last is shown where it fails."""
    kept = {name: value for name, value in os.environ.items() if name not in {"XDG_CACHE_HOME", "PIP_CONSTRAINT"}}
    done = subprocess.run(
        command, cwd=ROOT, env={**kept, **environ}, input=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout
