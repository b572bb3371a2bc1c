"""The README and the examples' READMEs: everything that they show is run, and the picture is a true one."""

from __future__ import annotations

import html
import importlib
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path
from types import ModuleType

import pytest

from alarm_mw.model.version import VERSION

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "examples/flask_app/README.md", "examples/fastapi_app/README.md"]


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    return importlib.import_module("listings")


@pytest.mark.parametrize("page", PAGES)
def test_what_a_readme_shows_is_true(page: str, listings: ModuleType, tmp_path: Path) -> None:
    """Programs run, configurations are accepted, commands print what is shown below them and have these options."""
    assert listings.run_page(ROOT / page, tmp_path) > 0


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    """A link to a file of this repository names one that is there."""
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    missing = [target for target in targets if not (ROOT / page).parent.joinpath(target).exists()]
    assert not missing


def test_the_picture_shows_what_the_demo_prints() -> None:
    """The picture in the README is the demo's output, but for numbers and names that differ in every run."""
    demo = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "flask_app" / "demo.py"), "--svg", "/dev/null"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert _lasting(_picture_lines()) == _lasting(demo.stdout.splitlines())


def _picture_lines() -> list[str]:
    """Return the lines of the picture: its texts, put together by their height."""
    rows: defaultdict[float, str] = defaultdict(str)
    picture = (ROOT / "docs" / "demo.svg").read_text(encoding="utf-8")
    for y, text in re.findall(r'<text class="terminal-\d+-r\d+" x="[\d.]+" y="([\d.]+)"[^>]*>([^<]*)</text>', picture):
        rows[float(y)] += html.unescape(text).replace("\xa0", " ")
    return [rows[y] for y in sorted(rows)]


def _lasting(lines: list[str]) -> list[str]:
    """Return what is the same in every run: of a record that is seen twice, either may be the first."""
    text = "\n".join(line.rstrip() for line in lines if line.strip())
    text = re.sub(r"alarm-mw-demo-\w+", "FOLDER", text)
    text = re.sub(r"gunicorn-\w+", "SERVER", text)
    text = re.sub(r"a log record, by AlarmHandler|a line printed on the standard error", "SEEN", text)
    text = re.sub(r"(?:logging|stderr), rule", "SOURCE, rule", text)
    return re.sub(r"\d+ *", "N", text).splitlines()


def test_what_is_promised_is_what_is_installed() -> None:
    """The Python version in the README is the one that the package asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = project["requires-python"].removeprefix(">=")
    assert f"Python {needed} or later" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_changelog_has_this_version() -> None:
    """The version of the package has its entry in the changelog, with its date; before that it is the one to come."""
    version = re.escape(VERSION)
    entry = rf"^## \[{version}\] - \d{{4}}-\d\d-\d\d$|^## \[Unreleased\]\n\nIt will be {version},"
    assert re.search(entry, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_every_extra_is_named() -> None:
    """Except those for working on alarm_mw itself, each stands in the table, with what needs it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    own = {"examples", "docs", "servers", "test"}
    shown = re.findall(r"^\| `(\w+)` \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {*project["optional-dependencies"]} - own <= {*shown}
