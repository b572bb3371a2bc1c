"""A configuration is read by a user who may not look everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

#: Root without what lets it look everywhere.
PREFIX = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "locked"
    folder.mkdir()
    yield folder
    folder.chmod(0o700)


def run(locked: Path, program: str) -> str:
    """Return what a program prints that is started in a directory which nobody may look into."""
    begin = f"import os, pathlib, sys\nos.chdir({str(locked)!r})\nos.chmod('.', 0)\n"
    command = [*PREFIX, sys.executable, "-c", begin + program]
    return subprocess.run(command, capture_output=True, check=True, text=True, timeout=60).stdout


def test_a_working_directory_that_is_closed_has_no_files(locked: Path) -> None:
    """As where a user's server is started by `sudo` in a directory of root's."""
    program = "from alarm_mw.config.load import from_keywords as read\nprint(read(environ={}).alarms)"
    assert run(locked, program) == "()\n"


def test_a_closed_directory_on_pythons_path_holds_no_finder(locked: Path) -> None:
    """Python passes over it, and so does the search for what compiles regexps."""
    program = (
        "from alarm_mw.config.literal_cache import LiteralCache\nfrom alarm_mw.model.types import Rule\n"
        "sys.path.append(os.getcwd())\nprint(LiteralCache(pathlib.Path('/nowhere')).knows([Rule('x', ())]))"
    )
    assert run(locked, program) == "False\n"


@pytest.mark.parametrize(
    "alarm", ["curl:http://a;ca_file=x.pem", "airbrake:http://a;apikey=k;ca_file=x.pem", "xmpp:a@b;c;d@e;ca_file=x.pem"]
)
def test_a_file_in_a_closed_directory_is_a_mistake(locked: Path, alarm: str) -> None:
    """It is told with its place, like every other one."""
    program = (
        "from alarm_mw.config.load import from_keywords\nfrom alarm_mw.model.errors import ConfigError\n"
        f"try: from_keywords(alarms={{'a': {alarm!r}}}, environ={{}})\nexcept ConfigError as error: print(error)"
    )
    assert "ca_file 'x.pem' is no file" in run(locked, program)


def test_the_program_of_a_mule_may_lie_in_a_closed_directory(locked: Path) -> None:
    """The warning is that of a file which is not there yet."""
    program = (
        "from alarm_mw.config.load import examine\nfrom alarm_mw.config.sources import Sources\n"
        "print(*examine(Sources(flags=(('mule', 'x.py'),)), {}).warnings)"
    )
    assert "there is no file 'x.py' yet" in run(locked, program)
