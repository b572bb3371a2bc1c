"""Secrets come from files of their own, and those in a configuration that others may read bring a warning."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import pytest

from alarm_mw.actions.curl.action import CurlOptions
from alarm_mw.actions.xmpp.action import XmppOptions
from alarm_mw.config.lint.permissions import warn_of_exposed
from alarm_mw.config.load import Examined, examine, from_keywords
from alarm_mw.config.loaded import read
from alarm_mw.config.problems import Report
from alarm_mw.config.settings import Alarm, Settings
from alarm_mw.config.sources import Sources
from alarm_mw.model.interfaces import SECRET, PluginOptions

JABBER = """
[alarms.jabber]
action = "xmpp"
jid = "app@example.org"
password = "{}"
to = ["me@example.org"]
"""


def written(file: Path, text: str, mode: int = 0o644) -> Path:
    file.write_text(text)
    file.chmod(mode)
    return file


def looked_at(file: Path, **environ: str) -> Examined:
    return examine(Sources.of_files([str(file)]), environ)


def warnings_of(file: Path, **environ: str) -> list[str]:
    examined = looked_at(file, **environ)
    assert examined.problems == ()
    return [str(warning) for warning in examined.warnings]


def password_of(examined: Examined) -> str:
    (alarm,) = examined.settings.alarms
    assert isinstance(alarm.options, XmppOptions)
    return alarm.options.password


@pytest.mark.parametrize(
    ("content", "secret"),
    [("hunter2\n", "hunter2"), ("hunter\r\n", "hunter"), ("hunter\n\n", "hunter\n"), (" é ", " é ")],
)
def test_a_secret_comes_from_a_file(content: str, secret: str, tmp_path: Path) -> None:
    """`${file:…}` is what the file holds, without the line end at its end."""
    file = tmp_path / "secret"
    file.write_bytes(content.encode())
    config = written(tmp_path / "alarm-mw.toml", JABBER.format(f"${{file:{file}}}"))
    assert password_of(looked_at(config)) == secret
    assert warnings_of(config) == []


def test_a_file_inside_of_a_text(tmp_path: Path) -> None:
    """A number or a part of a string may come from a file as well."""
    (tmp_path / "token").write_text("T0K3N\n")
    (tmp_path / "seconds").write_text("7")
    config = written(
        tmp_path / "alarm-mw.toml",
        f"""
[alarms.hook]
action = "curl"
url = "https://example.org/${{file:{tmp_path}/token}}/x"
timeout = "${{file:{tmp_path}/seconds}}"
""",
    )
    (alarm,) = looked_at(config).settings.alarms
    assert alarm.options == CurlOptions(url="https://example.org/T0K3N/x", timeout=7.0)


@pytest.mark.parametrize(
    ("content", "text"), [(None, "No such file or directory"), (b"\xff", "is not UTF-8, expected text")]
)
def test_a_file_that_cannot_be_used_is_a_problem(content: bytes | None, text: str, tmp_path: Path) -> None:
    """The problem names the key and the file, and nothing of what is in it."""
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    (problem,) = looked_at(written(tmp_path / "alarm-mw.toml", JABBER.format(f"${{file:{file}}}"))).problems
    assert str(problem).startswith(f"{tmp_path}/alarm-mw.toml:5: alarm 'jabber': password: ${{file:{file}}} ")
    assert text in str(problem)


def test_a_file_of_a_secret_is_one_of_the_configuration(tmp_path: Path) -> None:
    """It is looked at for changes like every other."""
    (tmp_path / "secret").write_text("hunter2")
    config = written(tmp_path / "alarm-mw.toml", JABBER.format(f"${{file:{tmp_path}/secret}}"))
    _, loaded = read(Sources.of_files([str(config)]), {}, 0.0)
    assert set(loaded.files) == {str(config), f"{tmp_path}/secret"}


INI = "[uwsgi]\nalarm = jabber xmpp:app@example.org;hunter2;me@example.org\nlog-alarm = jabber ERR\n"
HOOK = '[alarms]\nhook = "curl:{}"\n'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", JABBER.format("hunter2")),
        ("a.toml", JABBER.format('hunter\\"2')),
        ("a.ini", INI),
        ("a.toml", HOOK.format("https://me:hunter2@example.org/")),
        ("a.toml", HOOK.format("https://me:hunter%3D2@example.org/")),
        ("a.toml", HOOK.format("https://example.org/services/T0/XXXXXXXXXXXX12345678")),
        ("a.toml", HOOK.format("https://example.org/alarms?key=0123456789abcdef")),
        ("a.toml", HOOK.format("http://example.org;auth_user=me;auth_pass=hunter2")),
        ("a.toml", '[alarms.hook]\naction = "curl"\nurl = "http://a/"\nheaders = { Authorization = "Bearer x" }\n'),
        ("a.toml", '[alarms.hook]\naction = "curl"\nurl = "http://a/"\nheaders = { X = "0123456789abcdef" }\n'),
    ],
)
def test_secrets_that_others_may_read_bring_a_warning(name: str, text: str, tmp_path: Path) -> None:
    """The warning names the file and the remedy, and not the secret; after the remedy it is gone."""
    config = written(tmp_path / name, text)
    (warning,) = warnings_of(config)
    assert warning == (
        f"{config}: others may read this file, and it holds secrets: chmod go-rwx {config}, "
        f"or name them as {'$(VARIABLE) or @(/path)' if name.endswith('.ini') else '${VARIABLE} or ${file:/path}'}"
    )
    config.chmod(0o640)
    assert len(warnings_of(config)) == 1
    config.chmod(0o600)
    assert warnings_of(config) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", JABBER.format("${PASSWORD}")),
        ("a.toml", HOOK.format("http://127.0.0.1:8000/alarms/of-the-application")),
        ("a.toml", '[alarms.hook]\naction = "curl"\nurl = "http://a/"\nheaders = { Content-Type = "text/plain" }\n'),
        ("a.toml", '[alarms]\nlog = "log:"\n'),
        ("a.ini", INI.replace("hunter2", "$(PASSWORD)")),
        ("a.ini", "[uwsgi]\nalarm = hook curl:hooks.example.org;method=POST\n"),
    ],
)
def test_a_file_without_secrets_may_be_read(name: str, text: str, tmp_path: Path) -> None:
    """An address alone is no secret, nor is the name of a variable."""
    assert warnings_of(written(tmp_path / name, text), PASSWORD="hunter2") == []


def test_a_group_may_read_what_is_somebody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of root's that is given to a server by its group is as it should be."""
    config = written(tmp_path / "a.toml", JABBER.format("hunter2"), 0o640)
    monkeypatch.setattr(os, "geteuid", lambda: config.stat().st_uid + 1)
    assert warnings_of(config) == []
    config.chmod(0o644)
    assert len(warnings_of(config)) == 1


def test_what_is_no_file_is_passed_over(tmp_path: Path) -> None:
    """A directory or a pipe is nothing to warn of, nor is a file that was removed behind the reading."""
    settings = looked_at(written(tmp_path / "a.toml", JABBER.format("hunter2"), 0o600)).settings
    report = Report()
    warn_of_exposed(settings, [os.devnull, str(tmp_path), str(tmp_path / "gone"), "\0"], report)
    assert report.warnings == []


def test_only_text_and_tables_hold_secrets(tmp_path: Path) -> None:
    """A plugin's secret of another kind, which cannot be looked for in a text, brings no warning."""

    class Options(PluginOptions, frozen=True, kw_only=True):
        pin: Annotated[int, SECRET] = 1234

    report = Report()
    file = written(tmp_path / "a.toml", "pin = 1234")
    warn_of_exposed(Settings(alarms=(Alarm("a", "lock", Options()),)), [str(file)], report)
    assert report.warnings == []


def test_in_process_the_warning_is_given_too(tmp_path: Path) -> None:
    """`init(config=…)` warns as the command line does."""
    settings = from_keywords(written(tmp_path / "a.toml", JABBER.format("hunter2")), environ={})
    assert "chmod" in settings.warnings[0].text
