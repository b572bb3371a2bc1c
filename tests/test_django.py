"""``settings.ALARM_MW``, and which of Django's programs have alarms; servers are in ``tests/servers``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alarm_mw.django.apps import has_alarms
from alarm_mw.django.options import load, mistakes
from alarm_mw.model.errors import ConfigError


@pytest.mark.parametrize(
    ("argv", "environ", "is_command", "answer"),
    [
        (["gunicorn", "shop.wsgi"], {}, False, True),
        (["script.py"], {}, False, True),
        (["manage.py"], {}, True, False),
        (["manage.py", "migrate"], {}, True, False),
        (["manage.py", "send_invoices"], {}, True, True),
        (["manage.py", "runserver"], {}, True, False),
        (["manage.py", "runserver"], {"RUN_MAIN": "true"}, True, True),
        (["manage.py", "runserver", "--noreload"], {}, True, True),
    ],
)
def test_which_programs_have_alarms(argv: list[str], environ: dict[str, str], is_command: bool, answer: bool) -> None:
    """Servers and scripts have; of management commands those that serve or are named, and of runserver one process."""
    options = {"commands": ["send_invoices"]}
    assert has_alarms(argv, environ, {"django"}, is_command=is_command, options=options) is answer
    assert not has_alarms(argv, environ, {"pytest"}, is_command=is_command, options=options)


@pytest.mark.parametrize("options", [None, 3])
def test_commands_have_no_alarms_by_themselves(options: object) -> None:
    """Without the setting, or with one that is wrong, no command has."""
    assert not has_alarms(["manage.py", "migrate"], {}, set(), is_command=True, options=options)


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        (3, ["ALARM_MW: expected a dictionary, got int"]),
        ({"alarm": {}}, ["ALARM_MW: unknown key 'alarm' (did you mean 'alarms'?)"]),
        ({"commands": "migrate"}, ['ALARM_MW["commands"]: expected a list of management commands']),
        (
            {"alarms": {"a": "cdm:x"}, "log_alarms": ["b x"]},
            ['ALARM_MW["alarms"]["a"]: alarm \'a\': unknown alarm', "ALARM_MW[\"log_alarms\"][0]: unknown alarm 'b'"],
        ),
    ],
)
def test_mistakes_are_told_as_one_writes_them(options: object, texts: list[str]) -> None:
    """Each with its place in the setting, all at once."""
    with pytest.raises(ConfigError) as caught:
        load(options)
    found = [str(problem) for problem in mistakes(caught.value)]
    assert len(found) == len(texts)
    for line, text in zip(found, texts, strict=True):
        assert line.startswith(text)


def test_a_file_is_found_without_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by `alarm_mw.init()`; and where there is none, nothing is configured."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ALARM_MW_CONFIG", raising=False)
    assert load(None) is None
    Path("alarm-mw.toml").write_text("alarms.a = 'log:'\n")
    settings: Any = load(None)
    assert [alarm.name for alarm in settings.alarms] == ["a"]


SITE = """
import logging
INSTALLED_APPS = ["alarm_mw.django"]
ALARM_MW = {"alarms": {"a": "cdm:x"}}
SECRET_KEY = "x"
LOGGING = {
    "version": 1,
    "handlers": {"alarms": {"class": "alarm_mw.AlarmHandler"}},
    "root": {"handlers": ["alarms"], "level": "DEBUG"},
}
"""


def test_manage_py_check_shows_mistakes(tmp_path: Path) -> None:
    """The command that people know tells them, with a hint; it starts no alarms and does not warn that it has none."""
    (tmp_path / "shop.py").write_text(SITE)
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "shop", "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-W", "error", "-m", "django"]
    for verb, status in (("check", 1), ("shell", 0)):
        done = subprocess.run(
            [*command, verb, *(["-c", "import threading; print(threading.active_count())"] if verb == "shell" else [])],
            env=environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert "go nowhere" not in done.stderr
        if verb == "check":
            assert "(alarm_mw.E001) ALARM_MW[\"alarms\"][\"a\"]: alarm 'a': unknown alarm plugin 'cdm'" in done.stderr
            assert "HINT" in done.stderr
        else:
            assert done.stdout.endswith("1\n")
