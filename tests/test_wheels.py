"""The package installs from wheels, without a compiler, on each Python and platform that it names."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from environments import UV, run
from packaging.markers import Marker, default_environment
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import parse_wheel_filename

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAMED = "Programming Language :: Python :: 3."
MINORS = [int(name.removeprefix(NAMED)) for name in PROJECT["classifiers"] if name.startswith(NAMED)]

#: The platforms by what wheels call them, with the older ones whose wheels work there, and what markers say of each.
PLATFORMS = {
    "x86_64": ([f"manylinux_2_{minor}_x86_64" for minor in range(5, 29)], "Linux", "x86_64"),
    "aarch64": ([f"manylinux_2_{minor}_aarch64" for minor in range(17, 29)], "Linux", "aarch64"),
    "musl": (["musllinux_1_1_x86_64", "musllinux_1_2_x86_64"], "Linux", "x86_64"),
    "macos": ([*mac_platforms((14, 0), "arm64")], "Darwin", "arm64"),
}
#: What is built from source there: the XMPP action says what is missing.
MISSING = {"macos": {"slixmpp"}}

Packages = dict[str, dict[str, Any]]


@pytest.fixture
def packages(tmp_path: Path) -> Packages:
    """Return what an installer would choose, by name, with what each depends on and all of its wheels."""
    text = f'[project]\nname = "us"\nversion = "1"\nrequires-python = "{PROJECT["requires-python"]}"\n'
    (tmp_path / "pyproject.toml").write_text(f"{text}dependencies = {json.dumps(PROJECT['dependencies'])}\n")
    run(*UV, "lock", "--directory", str(tmp_path))
    packages: Packages = {}
    for each in tomllib.loads((tmp_path / "uv.lock").read_text())["package"]:  # several versions for several Pythons
        known = packages.setdefault(each["name"], {"dependencies": [], "wheels": []})
        known["dependencies"] += each.get("dependencies", ())
        known["wheels"] += each.get("wheels", ())
    return packages


def wanted(packages: Packages, environ: dict[str, str], name: str = "us") -> set[str]:
    """Return the names of everything that a package depends on in an environment."""
    found: set[str] = set()
    for each in packages[name]["dependencies"]:
        if "marker" not in each or Marker(each["marker"]).evaluate(environ):
            found |= {each["name"], *wanted(packages, environ, each["name"])}
    return found


def lacking(packages: Packages, minor: int, platform: str) -> set[str]:
    """Return the names of what would be built from source there."""
    platforms, system, machine = PLATFORMS[platform]
    environ = {name: str(value) for name, value in default_environment().items()} | {
        "python_version": f"3.{minor}",
        "python_full_version": f"3.{minor}.0",
        "platform_system": system,
        "platform_machine": machine,
        "sys_platform": system.lower(),
    }
    python, interpreter = (3, minor), f"cp3{minor}"
    usable = {
        *cpython_tags(python, [interpreter], platforms),
        *compatible_tags(python, interpreter, platforms),
    }
    return {name for name in wanted(packages, environ) if not has_wheel(packages[name], usable)}


def has_wheel(package: dict[str, Any], usable: set[Tag]) -> bool:
    """Return whether one of a package's wheels can be used."""
    names = (each["url"].rpartition("/")[2] for each in package["wheels"])
    return any(usable & parse_wheel_filename(name)[3] for name in names)


def test_all_dependencies_have_wheels(packages: Packages) -> None:
    """Whatever an installer would choose on each Python and platform, it need not build."""
    for minor in MINORS:
        for platform in PLATFORMS:
            assert lacking(packages, minor, platform) <= MISSING.get(platform, set()), f"3.{minor} on {platform}"


def test_a_missing_wheel_is_seen(packages: Packages) -> None:
    """The test above looks at something."""
    assert lacking(packages, 13, "macos") == {"slixmpp"}
    assert lacking(packages, 99, "x86_64")
