"""``alarm-mw check`` tells what is wrong with configuration files."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from alarm_mw.cli.check import check


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*files: str) -> Result:
    return CliRunner().invoke(check, files)


def test_good_files() -> None:
    """Files that can be used give a summary and status 0."""
    Path("a.toml").write_text("alarms.a = 'log:'\nrules = [{ pattern = 'x', alarms = 'a' }]\n")
    Path("b.ini").write_text("[uwsgi]\nalarm = b log:\nlog-alarm = a,b y\n")
    result = run("a.toml", "b.ini")
    assert (result.exit_code, result.output) == (0, "ok: 2 alarms, 2 rules\n")


def test_bad_files() -> None:
    """Each mistake is a line with its place, warnings follow, and the status is 2."""
    Path("a.ini").write_text("[uwsgi]\nalarm = a log\nlog-alarm = b x\nalarm-backlog = a\n")
    result = run("a.ini")
    assert result.exit_code == 2
    assert result.output.splitlines() == [
        "a.ini:2: alarm 'a': expected PLUGIN:ARGS, but there is no colon after the plugin's name",
        "a.ini:3: unknown alarm 'b'",
        "2 problems",
    ]


def test_monitors_are_counted() -> None:
    """A file with monitors says so in its summary."""
    Path("a.ini").write_text("[uwsgi]\nalarm = a log:\nalarm-backlog = a\nalarm-fd = a 3 x\n")
    assert run("a.ini").output == "ok: 1 alarm, 0 rules, 2 monitors\n"


def test_warnings_alone_are_good() -> None:
    """A rule that never fires is a warning, and the configuration can be used."""
    Path("a.ini").write_text("[uwsgi]\nalarm = a log:\nnot-log-alarm = a .*\nlog-alarm = a x\n")
    result = run("a.ini")
    assert (result.exit_code, result.output.splitlines()) == (
        0,
        [
            "a.ini:4:15: warning: this rule is never reached: the exclusion at a.ini:3 always ends the scan",
            "ok: 1 alarm, 2 rules, 1 warning",
        ],
    )


def test_file_of_unknown_kind_is_read_by_its_content() -> None:
    """A file without a known extension is uWSGI's when it has its section."""
    Path("site.conf").write_text("[uwsgi]\nalarm = a log:\n")
    assert run("site.conf").output == "ok: 1 alarm, 0 rules\n"


def test_missing_file() -> None:
    """A file that is not there is one problem."""
    result = run("no.toml")
    assert (result.exit_code, result.output.splitlines()) == (
        2,
        ["no.toml: cannot be read: No such file or directory", "1 problem"],
    )


def test_variables_of_the_environment_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the configuration takes from the environment must be there when it is checked."""
    Path("a.toml").write_text("alarms.a = 'log:${PREFIX}'\n")
    monkeypatch.delenv("PREFIX", raising=False)
    assert run("a.toml").exit_code == 2
    monkeypatch.setenv("PREFIX", "x")
    assert run("a.toml").exit_code == 0


def test_no_file_is_a_mistake_of_use() -> None:
    """Without a file there is nothing to check."""
    result = run()
    assert result.exit_code == 2
    assert "Missing argument 'FILE…'" in result.output


def test_what_a_server_would_start_with_is_a_mistake_here() -> None:
    """An unknown alarm in an ini file keeps no server down; who checks the file wants to know of it."""
    Path("a.ini").write_text("[uwsgi]\nalarm = a log:\nlog-alarm = b x\n")
    result = run("a.ini")
    assert (result.exit_code, result.output) == (2, "a.ini:3: unknown alarm 'b'\n1 problem\n")
