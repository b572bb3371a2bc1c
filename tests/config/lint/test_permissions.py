"""Files that others may read or write: secrets come from files of their own, who can write is named or refused."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from typing import Annotated

import pytest

from alarm_mw.actions.curl import CurlOptions
from alarm_mw.actions.xmpp import XmppOptions
from alarm_mw.config.lint.permissions import refuse_foreign, warn_of_exposed
from alarm_mw.config.load import examine, from_keywords, read
from alarm_mw.config.report import Examined, Report
from alarm_mw.config.settings import Alarm, Settings
from alarm_mw.config.sources import Sources
from alarm_mw.model.errors import ConfigError
from alarm_mw.model.interfaces import SECRET, PluginOptions
from alarm_mw.system.permissions import other_writers

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


def test_a_file_that_cannot_be_looked_at_is_not_refused_for_that(tmp_path: Path) -> None:
    """That nothing is there is for others to say."""
    report = Report()
    assert not refuse_foreign(str(tmp_path / "away" / "alarm-mw.toml"), report)
    assert report.problems == []


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
        ("a.toml", '[alarms]\na = "log:"\n[[web.tokens]]\nname = "karma"\ntoken = "0123456789abcdef"\n'),
    ],
)
def test_secrets_that_others_may_read_bring_a_warning(name: str, text: str, tmp_path: Path) -> None:
    """The warning names the file and the remedy, and not the secret; after the remedy it is gone."""
    config = written(tmp_path / name, text)
    (warning,) = warnings_of(config)
    assert warning == (
        f"{config}: others may read this file, and it contains secrets: chmod go-rwx {config}, "
        f"or write them as {'$(VARIABLE) or @(/path)' if name.endswith('.ini') else '${VARIABLE} or ${file:/path}'}"
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


CMD = "alarms.page = 'cmd:touch ran'"


@pytest.fixture
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


#: Who else may write a configuration that belongs to this user, and where.
OPEN = [
    ("alarm-mw.toml", 0o666, 0o755, "all users may write {}/alarm-mw.toml"),
    ("uwsgi.ini", 0o666, 0o755, "all users may write {}/uwsgi.ini"),
    ("alarm-mw.toml", 0o644, 0o777, "all users may write {}"),
    ("alarm-mw.toml", 0o644, 0o1777, "all users may write {}"),
    ("alarm-mw.toml", 0o1666, 0o755, "all users may write {}/alarm-mw.toml"),
]


@pytest.mark.parametrize(("name", "mode", "folder_mode", "who"), OPEN)
@pytest.mark.usefixtures("in_tmp_path")
def test_a_found_configuration_that_others_may_write_is_not_used(
    tmp_path: Path, name: str, mode: int, folder_mode: int, who: str
) -> None:
    """Nobody named it, so anybody may have put it there; the error says how to name it."""
    written(tmp_path / name, "[uwsgi]\nalarm = page cmd:touch ran\n" if name.endswith("ini") else CMD, mode)
    tmp_path.chmod(folder_mode)
    examined = examine(Sources.found({}, str(tmp_path)), {})
    file = tmp_path / name
    advice = f"to use it all the same, name it: --config {file} or ALARM_MW_CONFIG={file}"
    problems = [f"{file}: found, but not used, since {who.format(tmp_path)}; {advice}"]
    assert [str(problem) for problem in examined.problems] == problems
    assert examined.settings.alarms == ()
    with pytest.raises(ConfigError, match="found, but not used"):
        from_keywords(environ={})
    tmp_path.chmod(0o700)


@pytest.mark.parametrize(("name", "mode", "folder_mode", "who"), OPEN)
def test_a_named_configuration_that_others_may_write_brings_a_warning(
    tmp_path: Path, name: str, mode: int, folder_mode: int, who: str
) -> None:
    """It is used; in a sticky directory others cannot replace it, and there is nothing to warn of."""
    file = written(tmp_path / name, "[uwsgi]\nalarm = page cmd:true\n" if name.endswith("ini") else CMD, mode)
    tmp_path.chmod(folder_mode)
    warning = f"{file}: {who.format(tmp_path)}, and so decide what is run with this user's rights"
    assert warnings_of(file) == ([] if folder_mode == 0o1777 else [warning])
    tmp_path.chmod(0o700)


def test_a_found_configuration_of_this_user_alone_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others may read it, and the directory may be a link's target."""
    (tmp_path / "real").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to("real")
    written(tmp_path / "real" / "alarm-mw.toml", CMD)
    monkeypatch.chdir(tmp_path / "link")
    (alarm,) = from_keywords(environ={}).alarms
    assert alarm.name == "page"


def test_a_configuration_of_another_user_or_group_is_known() -> None:
    """Root's and this user's are trusted, and so is a group in which nobody else is."""
    me = pwd.getpwuid(os.geteuid())
    stranger = os.geteuid() + 1
    assert other_writers(stranger, stranger, 0o600) == f"user {stranger}"
    assert other_writers(0, 0, 0o644) == ""
    assert other_writers(me.pw_uid, grp.getgrnam("nogroup").gr_gid, 0o664).startswith("members of group ")
    assert other_writers(me.pw_uid, 2**31 - 7, 0o664) == f"members of group {2**31 - 7}"
    assert other_writers(me.pw_uid, grp.getgrnam(me.pw_name).gr_gid, 0o664) == ""
