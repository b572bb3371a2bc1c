"""The package's public names."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from environments import Environment

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


def test_a_verb_that_needs_nothing_loads_little() -> None:
    """`alarm-mw --version` answers as fast as Python starts: what only mistakes need is loaded for mistakes."""
    program = "import sys; from alarm_mw.cli.main import main\ntry: main()\nfinally: print(*sys.modules)"
    _, loaded = subprocess.check_output([sys.executable, "-c", program, "--version"], text=True).splitlines()
    assert {"msgspec", "difflib", "socket", "asyncio", "rich"}.isdisjoint(loaded.split())


#: What only journals, long logs, fleets and running alarms need.
NOT_FOR_A_REPLAY = frozenset(
    {"alarm_mw.cli.replay.journals", "asyncio", "concurrent.futures", "ctypes", "httpx", "rich", "socket", "sqlite3"}
    | {"subprocess", "tempfile"}
)


def test_a_replay_loads_only_what_it_needs(tmp_path: Path) -> None:
    """`alarm-mw replay` of a short file starts without what only journals, long logs and fleets need."""
    config, log = tmp_path / "alarms.toml", tmp_path / "log"
    config.write_text("alarms.a = 'log:'\n[[rules]]\npattern = 'ERROR'\nalarms = 'a'\n")
    log.write_text("ERROR\n")
    program = "import sys; from alarm_mw.cli.main import main\ntry: main()\nfinally: print(*sys.modules)"
    command = [sys.executable, "-c", program, "replay", "--config", str(config), str(log)]
    _, loaded = subprocess.check_output(command, text=True).splitlines()
    assert NOT_FOR_A_REPLAY.isdisjoint(loaded.split())


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


#: What a master loads only where its configuration asks for it, by the beginnings of names: the page, incidents and
#: what measures, followed logs, crashes, routes and matchers, what reads files and uWSGI's words, what reads regexps
#: that no line has required yet, other actions, what other programs have left, and what is there for the command line.
NOT_FOR_A_MASTER = (
    *("alarm_mw.web", "alarm_mw.master.control.web_master", "alarm_mw.texts.links", "jinja2", "markupsafe"),
    *("alarm_mw.engine.incidents", "alarm_mw.delivery.outbox.incident_rows", "alarm_mw.master.worker.incident_keeper"),
    *("alarm_mw.master.follow", "alarm_mw.master.crashes", "alarm_mw.monitors.", "cronsim", "zoneinfo"),
    *("alarm_mw.engine.routes", "alarm_mw.engine.matchers", "alarm_mw.config.tables.marks"),
    *("alarm_mw.config.load", "alarm_mw.config.merge", "alarm_mw.config.toml", "alarm_mw.config.lint", "tomllib"),
    *("alarm_mw.config.uwsgi", "alarm_mw.patterns.fields.", "alarm_mw.engine.flood_control.fingerprint", "regex"),
    *("alarm_mw.patterns.bounded_pattern", "alarm_mw.patterns.syntax", "alarm_mw.patterns.safety"),
    *("alarm_mw.actions.cmd", "alarm_mw.actions.curl", "alarm_mw.actions.xmpp", "httpx", "slixmpp", "aiosmtplib"),
    *("alarm_mw.app.launch.one_off", "alarm_mw.app.launch.cron", "alarm_mw.cli", "rich", "importlib.metadata"),
)

#: What answers over HTTP.
WEB_FRAMEWORK = ("starlette", "uvicorn", "h11", "click")

ASK_STATUS = (
    "import os; from alarm_mw.transports.control import ask_patiently;"
    "ask_patiently(os.environ['ALARM_MW_SOCKET'], '/status')"
)


@pytest.mark.parametrize(
    ("server", "not_loaded"), [("pass", (*NOT_FOR_A_MASTER, *WEB_FRAMEWORK)), (ASK_STATUS, NOT_FOR_A_MASTER)]
)
def test_a_master_loads_nothing_that_is_not_asked_for(tmp_path: Path, server: str, not_loaded: tuple[str, ...]) -> None:
    """What is not configured costs a master neither time nor memory, nor does HTTP before somebody asks.

    Who asks for the status loads what answers, and nothing of the page.
    """
    config = tmp_path / "alarms.toml"
    config.write_text("alarms.a = 'log:'\n[[rules]]\npattern = '^TERRIBLE'\nalarms = 'a'\n")
    options = ["--config", str(config), "--state-dir", str(tmp_path / "state")]
    command = ["env", "-u", "PYTHONPROFILEIMPORTTIME", sys.executable, "-c", server]
    running = [str(Path(sys.executable).with_name("alarm-mw")), "run", *options, "--", *command]
    log = subprocess.run(running, check=True, capture_output=True, text=True, env=environ_of(tmp_path)).stderr
    # Of the processes that name what they load, it is the last one.
    loaded = [line.rpartition("|")[2].strip() for line in log.rpartition("import time: self [us]")[2].splitlines()]
    assert "alarm_mw.master.process" in loaded
    assert [name for name in loaded if name.startswith(not_loaded)] == []


def environ_of(folder: Path) -> dict[str, str]:
    """Return the environment of a program that names what it loads, and finds nothing that others have left."""
    return {
        **os.environ,
        "PYTHONPROFILEIMPORTTIME": "1",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "XDG_STATE_HOME": str(folder / "home"),
    }


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
    Environment(tmp_path / "venv", sys.executable).install("--constraints", "constraints.txt", str(wheel))
    binaries = tmp_path / "venv" / "bin"
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
