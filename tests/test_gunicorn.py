"""gunicorn's configuration: when it lets gunicorn start anew, and when it does nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import alarm_mw.gunicorn

GUNICORN = str(Path(sys.executable).with_name("gunicorn"))
APP = """
def app(environ, start_response):
    raise NotImplementedError
print("loaded", flush=True)
"""
CONF = """
from alarm_mw.gunicorn import supervise
supervise("alarms.toml")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "conf.py").write_text(CONF)
    return tmp_path


def gunicorn(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run gunicorn, with a configuration that is wrong: whoever reads it ends with status 2."""
    (folder / "alarms.toml").write_text("alarms = 1\n")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ALARM_MW_")}
    return subprocess.run(
        [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", *arguments, "app:app"],
        cwd=folder,
        env={**inherited, "ALARM_MW_CONFIG": "alarms.toml", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("place", ["python:alarm_mw.gunicorn", "conf.py"])
def test_a_wrong_configuration_keeps_gunicorn_from_starting(folder: Path, place: str) -> None:
    """It ends with the mistake and status 2, before it has bound a socket or loaded the application."""
    result = gunicorn(folder, "-c", place)
    assert result.returncode == 2
    assert "alarms.toml:1: " in result.stderr
    assert "Traceback" not in result.stderr
    assert "Starting gunicorn" not in result.stderr
    assert "loaded" not in result.stdout


@pytest.mark.parametrize("option", ["--check-config", "--print-config"])
@pytest.mark.parametrize("place", ["python:alarm_mw.gunicorn", "conf.py"])
def test_a_look_at_the_configuration_starts_nothing(folder: Path, place: str, option: str) -> None:
    """Its configuration is checked or printed as ever."""
    result = gunicorn(folder, "-c", place, option)
    assert (result.returncode, result.stderr) == (0, "")


def test_options_of_the_environment_count(folder: Path) -> None:
    """What ``GUNICORN_CMD_ARGS`` says is gunicorn's command line as well."""
    place = "-c python:alarm_mw.gunicorn"
    assert gunicorn(folder, GUNICORN_CMD_ARGS=place).returncode == 2
    assert gunicorn(folder, GUNICORN_CMD_ARGS=f"{place} --check-config").returncode == 0


def test_a_file_that_gunicorn_does_not_read_is_named(folder: Path) -> None:
    """With ``-c`` gunicorn leaves its default file unread; the message says what belongs into that one instead."""
    (folder / "gunicorn.conf.py").write_text("workers = 4\n")
    for place in ("python:alarm_mw.gunicorn", "conf.py"):
        result = gunicorn(folder, "-c", place)
        assert ("gunicorn.conf.py is not read" in result.stderr) is (place != "conf.py")
        assert ("from alarm_mw.gunicorn import supervise" in result.stderr) is (place != "conf.py")


def test_a_daemon_is_refused(folder: Path) -> None:
    """It would leave the process that is supervised; the message says what to do."""
    result = gunicorn(folder, "-c", "python:alarm_mw.gunicorn", "-Dw4")
    assert result.returncode == 2
    assert "--daemon" in result.stderr


def test_imported_by_anything_else_it_does_nothing(folder: Path) -> None:
    """Neither the module nor a configuration file that uses it starts anything in another program."""
    program = "import runpy, gunicorn.app.base, alarm_mw.gunicorn; runpy.run_path('conf.py'); print('on')"
    (folder / "alarms.toml").write_text("alarms = 1\n")
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("on\n", "")


def test_no_name_is_taken_for_a_setting() -> None:
    """A module's names are settings for gunicorn, where they are called so."""
    config = pytest.importorskip("gunicorn.config")
    assert not set(vars(alarm_mw.gunicorn)) & set(config.make_settings())
