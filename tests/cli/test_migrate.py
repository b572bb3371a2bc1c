"""``alarm-mw migrate`` prints TOML that means the same as an ini file."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from alarm_mw.cli.check import check
from alarm_mw.cli.migrate import migrate


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(file: str) -> Result:
    return CliRunner().invoke(migrate, [file])


def test_what_is_printed_is_a_configuration() -> None:
    """It can be saved and checked; what the ini file is warned of goes to the standard error."""
    Path("a.ini").write_text("[uwsgi]\nmaster = true\nalarm = ä log:$(SHOP)\nlog-alarm = ä no pool\n")
    result = CliRunner(env={"SHOP": "shop"}).invoke(migrate, ["a.ini"])
    assert (result.exit_code, result.stderr) == (0, "a.ini: warning: ignored, since not about alarms: master\n")
    assert '[alarms."ä"]\naction = "log"\nprefix = "shop"\n' in result.stdout
    Path("a.toml").write_bytes(result.stdout_bytes)
    assert CliRunner().invoke(check, ["a.toml"]).output == "ok: 1 alarm, 1 rule\n"


def test_a_section_can_be_named() -> None:
    """As with ``--ini``."""
    Path("a.ini").write_text("[other]\nalarm = a log:\n")
    assert "[alarms.a]" in run("a.ini:other").stdout


@pytest.mark.parametrize(
    ("ini", "problem"),
    [
        (b"alarm = a nothing", "a.ini:2: alarm 'a': expected PLUGIN:ARGS"),
        (b"alarm = \xff log:", "a.ini:2: the alarm's name '\\udcff' is no text, expected UTF-8"),
        (b"alarm = a log:\xff", "a.ini:2: alarm 'a': prefix: the byte 0xff is not UTF-8"),
    ],
)
def test_what_cannot_be_kept_is_told(ini: bytes, problem: str) -> None:
    """A mistake, or what TOML cannot hold, goes to the standard error; nothing is printed, and the status is 2."""
    Path("a.ini").write_bytes(b"[uwsgi]\n" + ini)
    result = run("a.ini")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(problem)
