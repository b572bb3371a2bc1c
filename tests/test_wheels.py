"""The package installs from wheels, without a compiler, on each Python and platform that it names."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAMED = "Programming Language :: Python :: 3."
PYTHONS = [f"3.{name.removeprefix(NAMED)}" for name in PROJECT["classifiers"] if name.startswith(NAMED)]

#: What pip calls a platform, with the older tags that it takes as well, and what markers say of it.
PLATFORMS = {
    "x86_64": (["manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64"], "Linux", "x86_64"),
    "aarch64": (["manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_28_aarch64"], "Linux", "aarch64"),
    "musl": (["musllinux_1_1_x86_64", "musllinux_1_2_x86_64"], "Linux", "x86_64"),
    "macos": (["macosx_11_0_arm64", "macosx_14_0_arm64"], "Darwin", "arm64"),
}
#: What is built from source there: the XMPP action says what is missing.
MISSING = {"macos": {"slixmpp"}}


def wanted(python: str, system: str, machine: str) -> list[Requirement]:
    """Return what the package depends on there."""
    environ = {name: str(value) for name, value in default_environment().items()} | {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_system": system,
        "platform_machine": machine,
        "sys_platform": system.lower(),
    }
    found = map(Requirement, PROJECT["dependencies"])
    return [each for each in found if each.marker is None or each.marker.evaluate(environ)]


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_all_dependencies_have_wheels(python: str, platform: str, tmp_path: Path) -> None:
    """Whatever pip would install, it need not build."""
    tags, system, machine = PLATFORMS[platform]
    missing = MISSING.get(platform, set())
    names = []
    for each in wanted(python, system, machine):
        each.marker = None
        if each.name not in missing:
            names.append(str(each))
    options = [
        "--only-binary=:all:",
        "--python-version",
        python,
        "--dest",
        str(tmp_path),
        "--disable-pip-version-check",
    ]
    platforms = [word for tag in tags for word in ("--platform", tag)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options, *platforms, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {file.suffix for file in tmp_path.iterdir()} == {".whl"}
