"""What is said about a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from alarm_mw.config.load import examine
from alarm_mw.config.report import diagnostics, format_report, github_commands
from alarm_mw.config.sources import Sources

ALARM = ("alarm", "a log:")


@pytest.mark.parametrize(
    ("flags", "lines"),
    [
        ((ALARM, ("log-alarm", "a x"), ("alarm-backlog", "a")), ["ok: 1 alarm, 1 rule, 1 monitor"]),
        ((("log-alarm", "b x"),), ["--log-alarm (1st): unknown alarm 'b'; no alarm is configured", "1 problem"]),
    ],
)
def test_the_last_line_sums_up(flags: tuple[tuple[str, str], ...], lines: list[str]) -> None:
    """A line for each mistake, and how much there is of what."""
    assert list(format_report(examine(Sources(flags=flags, is_strict=True), {}))) == lines


def test_what_an_alarm_leads_to_is_said() -> None:
    """Of services that are named by URLs, which these are."""
    flags = (("alarm", "a apprise:json://127.0.0.1"),)
    said, _ = format_report(examine(Sources(flags=flags), {}))
    assert said == "--alarm (1st): alarm 'a': apprise: JSON"


def test_warnings_are_told_and_counted() -> None:
    """They come after the problems, and do not make a configuration a bad one."""
    good = list(format_report(examine(Sources(flags=(ALARM, ALARM)), {})))
    assert good[0].startswith("--alarm (2nd): warning: a second alarm 'a'")
    assert good[1:] == ["ok: 1 alarm, 0 rules, 1 warning"]
    bad = list(format_report(examine(Sources(flags=(ALARM, ALARM, ("log-alarm", "b x")), is_strict=True), {})))
    assert bad[-1] == "1 problem, 1 warning"


@pytest.mark.parametrize(
    ("flags", "advice"),
    [
        ((("alarm-freq", "3"),), ""),
        ((), "; alarm-mw.toml and uwsgi.ini are not in this directory, and ALARM_MW_CONFIG names no file"),
    ],
)
def test_a_configuration_without_alarms_is_worth_a_warning(flags: tuple[tuple[str, str], ...], advice: str) -> None:
    """Who starts a server in the wrong directory is reported at once."""
    assert list(format_report(examine(Sources(flags=flags), {}))) == [
        f"alarm-mw: warning: no alarm is configured, so none can fire{advice}",
        "ok: 0 alarms, 0 rules, 1 warning",
    ]


def test_files_without_alarms_are_worth_a_warning(tmp_path: Path) -> None:
    """The warning stands at the first of them; mules alone are a configuration, too."""
    (tmp_path / "empty.toml").touch()
    (tmp_path / "mules.toml").write_text("mules = ['a.py']")
    empty, mules = (examine(Sources((str(tmp_path / name),)), {}) for name in ("empty.toml", "mules.toml"))
    assert [*map(str, empty.warnings)] == [f"{tmp_path}/empty.toml: no alarm is configured, so none can fire"]
    assert "no alarm" not in "".join(map(str, mules.warnings))


def test_mistakes_and_warnings_for_other_programs(tmp_path: Path) -> None:
    """Editors get diagnostics whose ranges count from 0, and GitHub gets commands whose own marks are escaped."""
    file = tmp_path / "a,b.toml"
    file.write_text("alarms.a = 'log:'\nrules = [{ pattern = '100%(', alarms = 'a' }]\n")
    examined = examine(Sources((str(file),)), {})
    (found,) = diagnostics(examined)
    assert found["range"] == {"start": {"line": 1, "character": 26}, "end": {"line": 2, "character": 0}}
    assert (found["file"], found["severity"]) == (str(file), 1)
    (command,) = github_commands(examined)
    assert command.startswith("::error file=")
    assert "a%2Cb.toml,line=2,col=27::the regexp '100%25('" in command
