"""The package's public names."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

import pytest

import alarm_mw
from alarm_mw.model.version import VERSION
from alarm_mw.supervisor import __main__ as supervisor

ROOT = Path(__file__).parents[1]


def test_every_public_name_is_there() -> None:
    """What `__all__` names can be used, and `dir` shows it."""
    for name in alarm_mw.__all__:
        assert getattr(alarm_mw, name) is not None
        assert name in dir(alarm_mw)


def test_the_version_is_the_one_that_is_installed() -> None:
    """The package and its metadata agree."""
    assert version("alarm-mw") == VERSION


def test_other_names_are_errors() -> None:
    """A name that does not exist is an AttributeError, as everywhere."""
    with pytest.raises(AttributeError, match="no attribute 'alram'"):
        _ = alarm_mw.alram


def test_importing_loads_nothing() -> None:
    """`import alarm_mw` costs next to nothing until a name is used."""
    program = "import sys, alarm_mw; print(*(name for name in sys.modules if name.startswith('alarm_mw')))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "alarm_mw\n"


#: Runs the command line up to where the server would be started, and says what was loaded until then.
UP_TO_THE_SERVER = """
import sys
from alarm_mw.app.launch import launch
from alarm_mw.cli.main import main
launch.start = lambda plan: sys.exit(print(*sys.modules))
main(sys.argv[1:])
"""

#: The event loop, what delivers alarms, what reads and looks for regexps, what only mistakes and old firings need, and
#: what reads uWSGI's words.
NOT_FOR_A_START = frozenset(
    {"asyncio", "importlib.metadata", "httpx", "rich", "slixmpp", "starlette", "alarm_mw.delivery.lane"}
    | {
        "alarm_mw.patterns.syntax.pcre",
        "alarm_mw.patterns.bounded_pattern",
        "hyperscan",
        "regex",
        "dataclasses",
        "difflib",
        "sqlite3",
        "alarm_mw.config.uwsgi.options",
    }
)


def test_the_start_of_a_server_waits_for_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    """What `alarm-mw run` loads before it starts the server is what checks a configuration whose rules are known."""
    config = tmp_path / "alarms.toml"
    alarms = "alarms.a = 'cmd:true'\nalarms.b = 'curl:http://localhost/'\nalarms.c = 'log:'"
    config.write_text(f"{alarms}\n[[rules]]\npattern = 'ERROR'\nalarms = 'a'\n")
    options = ["--config", str(config), "--state-dir", str(tmp_path / "state")]
    command = [sys.executable, "-c", UP_TO_THE_SERVER, "run", *options, "--", "true"]
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    first, second = (subprocess.check_output(command, text=True, env=environ).split() for _ in range(2))
    assert "alarm_mw.patterns.bounded_pattern" in first
    assert NOT_FOR_A_START.intersection(second) == set()


def test_a_master_loads_no_web_framework_before_somebody_asks() -> None:
    """Most masters answer nothing over HTTP for hours: what answers is imported with the first request."""
    program = "import sys, alarm_mw.master.process; print(*{'starlette', 'uvicorn', 'jinja2'} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "\n"


def test_the_supervisor_begins_with_little() -> None:
    """A dead master is replaced the sooner, and there is one supervisor for each server."""
    program = """
import runpy, sys
before = set(sys.modules)
runpy.run_path(sys.argv[1], run_name="imported")["stand_in_for_package"]()
import alarm_mw.supervisor.supervisor
print(*{"ctypes", "dataclasses", "inspect", "pathlib", "threading", "subprocess"} & sys.modules.keys() - before)
"""
    command = [sys.executable, "-I", "-S", "-c", program, supervisor.__file__]
    assert subprocess.check_output(command, text=True) == "ctypes\n"


def test_the_wheel_is_whole(tmp_path: Path) -> None:
    """The wheel that `make wheel` builds works in a fresh environment: from the command to the alarm."""
    make = ["make", "-C", str(ROOT), "wheel", f"VENV={sys.prefix}", f"DIST={tmp_path}"]
    subprocess.run(make, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("alarm_mw-*-py3-none-any.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / "bin"
    install = [binaries / "pip", "install", "-q", "--disable-pip-version-check", "-c", ROOT / "constraints.txt", wheel]
    subprocess.run(list(map(str, install)), check=True, capture_output=True)
    out = tmp_path / "out.txt"
    alarm = ["--alarm", f"a cmd:cat > {out}", "--log-alarm", "a ^TERRIBLE", "--state-dir", str(tmp_path / "state")]
    server = [str(binaries / "python"), "-c", "import alarm_mw; print('TERRIBLE', alarm_mw.__file__)"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run([str(binaries / "alarm-mw"), "run", *alarm, "--", *server], check=True, cwd=tmp_path, env=environ)
    assert out.read_text().startswith(f"TERRIBLE {tmp_path / 'venv'}")
    shipped = {path.relative_to(ROOT / "alarm_mw") for path in (ROOT / "alarm_mw").rglob("*") if is_shipped(path)}
    (installed,) = (tmp_path / "venv" / "lib").glob("python*/site-packages/alarm_mw")
    assert [path for path in sorted(shipped) if not (installed / path).exists()] == []


def is_shipped(path: Path) -> bool:
    """Return whether a file of the package is no leftover of running it."""
    return path.is_file() and path.suffix != ".pyc"
