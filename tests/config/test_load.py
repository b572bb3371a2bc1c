"""Files, flags and keywords become one configuration."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from alarm_mw.config.load import examine, from_keywords, load, read
from alarm_mw.config.parts import FindAction
from alarm_mw.config.report import ordinal
from alarm_mw.config.settings import Loaded, from_json, to_json
from alarm_mw.config.sources import Sources
from alarm_mw.model.errors import ConfigError
from alarm_mw.model.types import Syntax, Where


@pytest.fixture
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.toml").write_text("alarm_freq = 1\nalarms.a = 'note:'\nrules = [{ pattern = 'toml', alarms = 'b' }]\n")
    Path("b.ini").write_text("[uwsgi]\nalarm-freq = 2\nalarm = b note:\nlog-alarm = a ini\n")


FLAGS = (
    ("alarm", "c note:$(WHO)"),
    ("log-alarm", "a,b,c flag"),
    ("not-log-alarm", "a other"),
    ("alarm", "d note:"),
    ("alarm-freq", "4"),
    ("alarm-msg-size", "10"),
)


@pytest.mark.usefixtures("_files")
def test_files_and_flags_are_united(find_action: FindAction) -> None:
    """Alarms may be used across files and flags, rules keep their order, and the last number counts."""
    settings = load(Sources(("a.toml",), ("b.ini",), FLAGS), {"WHO": "me"}, find_action=find_action)
    assert [alarm.name for alarm in settings.alarms] == ["a", "b", "c", "d"]
    assert [(rule.pattern, rule.syntax, rule.excludes) for rule in settings.rules] == [
        ("toml", Syntax.PYTHON, False),
        ("ini", Syntax.PCRE, False),
        ("flag", Syntax.PCRE, False),
        ("other", Syntax.PCRE, True),
    ]
    assert msgspec.structs.asdict(settings.alarms[2].options) == {"text": "me"}
    assert settings.alarms[3].where == Where("--alarm (2nd)")
    assert (settings.alarm_freq, settings.alarm_msg_size) == (4, 10)


@pytest.mark.usefixtures("_files")
def test_all_problems_of_all_sources_are_raised(find_action: FindAction) -> None:
    """load() raises one error with what is wrong in every file and flag, in the order of the sources."""
    Path("bad.toml").write_text("x = 1\n")
    flags = (
        ("alarm", "c nothing:"),
        ("log-alarm", "c ok"),
        ("log-alarm", "a ("),
        ("alarm-freq", "-1"),
    )
    with pytest.raises(ConfigError) as caught:
        load(Sources(("bad.toml", "none.toml", "a.toml"), (), flags), {}, find_action=find_action)
    assert [re.sub(r"(at its character \d+): .+", r"\1", str(problem)) for problem in caught.value.problems] == [
        "bad.toml:1: unknown key 'x'",
        "none.toml: cannot be read: No such file or directory",
        "a.toml:3: unknown alarm 'b'",
        "--alarm (1st): alarm 'c': unknown alarm plugin 'nothing'",
        "--alarm-freq (1st): alarm-freq: expected a number of seconds, 0 or more, got '-1'",
        "--log-alarm (2nd): the regexp '(' breaks at its character 1",
    ]


@pytest.mark.usefixtures("_files")
def test_second_alarm_in_toml_is_a_mistake(find_action: FindAction) -> None:
    """Two TOML files that name one alarm contradict each other."""
    Path("b.toml").write_text("\nalarms.a = 'note:'\nalarms.b = 'note:'\n")
    with pytest.raises(ConfigError) as caught:
        load(Sources(("a.toml", "b.toml")), {}, find_action=find_action)
    assert str(caught.value) == "b.toml:2: a second alarm 'a'; the first is at a.toml:2, expected another name"


@pytest.mark.parametrize(
    ("name", "text", "is_ini"),
    [
        ("a.ini", "", True),
        ("A.INI", "", True),
        ("a.ini:prod", None, True),
        ("a.toml", "[uwsgi]\n", False),
        ("a.conf", "; x\n[uwsgi]\nmodule = a\n", True),
        ("a.conf", " [uwsgi] \r\n", True),
        ("a.conf", "[alarms]\n", False),
        ("a.conf", "x = '[uwsgi]'\n", False),
        ("a.conf", None, False),
        ("a.ini.d/a.toml", None, False),
    ],
)
def test_kind_of_file(tmp_path: Path, name: str, text: str | None, is_ini: bool) -> None:
    """The extension tells ini from TOML, and where it does not, the section [uwsgi] does."""
    file = str(tmp_path / name)
    if text is not None:
        Path(file).write_text(text)
    expected = Sources(ini_files=(file,)) if is_ini else Sources(toml_files=(file,))
    assert Sources.of_files([file]) == expected


def test_files_are_found_where_none_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, find_action: FindAction
) -> None:
    """The variable's files come first, then alarm-mw.toml, then uwsgi.ini; and only where nothing else is given."""
    monkeypatch.chdir(tmp_path)
    assert Sources.found({}) == Sources(is_found=True)
    assert from_keywords(environ={}, find_action=find_action).alarms == ()
    Path("uwsgi.ini").write_text("[uwsgi]\nalarm = ini note:\n")
    assert Sources.found({"ALARM_MW_CONFIG": ""}) == Sources(ini_files=("uwsgi.ini",), is_found=True)
    Path("alarm-mw.toml").write_text("alarms.toml = 'note:'\n")
    assert Sources.found({}, "/x") == Sources(is_found=True)
    assert Sources.found({}) == Sources(("alarm-mw.toml",), is_found=True)
    environ = {"ALARM_MW_CONFIG": "uwsgi.ini:uwsgi, alarm-mw.toml,"}
    assert Sources.found(environ) == Sources(("alarm-mw.toml",), ("uwsgi.ini:uwsgi",))
    assert {alarm.name for alarm in from_keywords(environ=environ, find_action=find_action).alarms} == {"ini", "toml"}
    one = from_keywords("uwsgi.ini", environ=environ, find_action=find_action)
    assert [alarm.name for alarm in one.alarms] == ["ini"]
    keywords = from_keywords(alarms={"k": "note:"}, environ=environ, find_action=find_action)
    assert [alarm.name for alarm in keywords.alarms] == ["k"]


@pytest.mark.usefixtures("_files")
def test_keywords(find_action: FindAction) -> None:
    """init()'s keywords stand beside a file; rules are Python's, exclusions come first, values are as they are."""
    settings = from_keywords(
        Path("a.toml"),
        {"b": "note:${HOME}", "t": {"action": "talk", "jid": "x", "to": ("y",), "delivery": {"attempt_timeout": 1}}},
        ["b,t one", "t  two"],
        ["b three"],
        alarm_freq=9,
        alarm_msg_size=20,
        environ={},
        find_action=find_action,
    )
    assert [alarm.name for alarm in settings.alarms] == ["a", "b", "t"]
    assert msgspec.structs.asdict(settings.alarms[1].options) == {"text": "${HOME}"}
    assert msgspec.structs.asdict(settings.alarms[2].options)["to"] == ("y",)
    assert settings.alarms[2].delivery.attempt_timeout == 1
    assert settings.alarms[2].where == Where('init(alarms["t"])')
    assert [(rule.pattern, rule.excludes, rule.syntax) for rule in settings.rules] == [
        ("toml", False, Syntax.PYTHON),
        ("three", True, Syntax.PYTHON),
        ("one", False, Syntax.PYTHON),
        (" two", False, Syntax.PYTHON),
    ]
    assert (settings.alarm_freq, settings.alarm_msg_size) == (9, 20)


def test_no_keywords_are_a_configuration() -> None:
    """init() without anything is allowed."""
    assert from_keywords().alarms == ()


def test_mistakes_in_keywords(find_action: FindAction) -> None:
    """Mistakes in keywords are told with the place in the call, as it is written."""
    with pytest.raises(ConfigError) as caught:
        from_keywords(
            alarms={"jabber": {"action": "talk", "jid": 3}, "x": "note", "y": 3, 4: "note:", b"z": "note:"},  # type: ignore[dict-item]  # on purpose
            log_alarms=["jaber x", "jabber (", "x", 3, "jabber x{99999999999}"],  # type: ignore[list-item]  # on purpose
            not_log_alarms="jabber x",
            alarm_freq="soon",  # type: ignore[arg-type]  # on purpose
            find_action=find_action,
        )
    assert [re.sub(r"(at its character \d+): .+", r"\1", str(problem)) for problem in caught.value.problems] == [
        "init(alarm_freq): alarm_freq: expected a number of seconds, 0 or more, got 'soon'",
        "init(alarms[4]): alarm 4: a name is text without spaces and commas",
        "init(alarms[b'z']): alarm b'z': a name is text without spaces and commas",
        'init(alarms["jabber"]["jid"]): alarm \'jabber\': jid: expected str, got int',
        "init(alarms[\"x\"]): alarm 'x': expected PLUGIN:ARGS, but there is no colon after the plugin's name",
        "init(alarms[\"y\"]): alarm 'y': expected a table or a string such as 'cmd:…', got an integer",
        "init(not_log_alarms): expected a list of rules, got a string",
        "init(log_alarms[3]): expected a string, got an integer",
        "init(log_alarms[2]): log-alarm: expected NAME[,NAME…] REGEXP, with a space before the regexp",
        "init(log_alarms[0]): unknown alarm 'jaber' (did you mean 'jabber'?)",
        "init(log_alarms[1]): the regexp '(' breaks at its character 1",
        "init(log_alarms[4]): the regexp 'x{99999999999}' cannot be used: a number is too high",
    ]


def test_place_of_the_whole_call(find_action: FindAction) -> None:
    """Keywords that are no table at all are reported."""
    with pytest.raises(ConfigError) as caught:
        from_keywords(alarms=["a note:"], find_action=find_action)  # type: ignore[arg-type]  # on purpose
    assert str(caught.value) == "init(alarms): alarms: expected a table, got an array"


@pytest.mark.parametrize(("config", "kind"), [({"a": "note:"}, "a table"), (["a.toml"], "an array")])
def test_what_is_no_file_is_told(config: object, kind: str, find_action: FindAction) -> None:
    """Alarms in place of the file are refused with the right syntax."""
    with pytest.raises(ConfigError) as caught:
        from_keywords(config, find_action=find_action)  # type: ignore[arg-type]  # on purpose
    expected = 'alarms are given as init(alarms={"NAME": "PLUGIN:…"})'
    assert str(caught.value) == f"init(config): expected the path of a file, got {kind}; {expected}"


@pytest.mark.parametrize(
    ("number", "text"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (22, "22nd"), (113, "113th")],
)
def test_ordinals(number: int, text: str) -> None:
    """The place of a flag is counted in English."""
    assert ordinal(number) == text


def test_a_name_that_is_no_text_is_a_mistake() -> None:
    """An alarm's name is stored and sent as text: one with bytes that are no UTF-8 is refused, with its place."""
    with pytest.raises(ConfigError, match=r"--alarm \(1st\): the alarm's name 'caf\\udce9' is no text"):
        load(Sources(flags=(("alarm", "caf\udce9 log:"),)), {})


TOML = r"""
alarm_freq = 0.5
alarm_rate = "9/1h"

[alarms.hook]
action = "curl"
url = "http://127.0.0.1:1/"
headers = { Authorization = "secret" }
delivery = { give_up_after = 7 }
limits = { rate = "1/1h", repeat_after = 5 }

[alarms.jabber]
action = "xmpp"
jid = "app@example.org"
password = "secret"
to = ["me@example.org", "you@example.org"]

[[rules]]
pattern = "caf\u00e9"
alarms = ["hook", "jabber"]
level = "ERROR"
multiline = true
count = 2
within = "1m"

[[rules]]
exclude = "x"
"""


def test_settings_come_back_as_they_were(tmp_path: Path) -> None:
    """Every option of every alarm and rule survives the way through JSON, odd bytes included."""
    (tmp_path / "a.toml").write_text(TOML)
    (tmp_path / "a.toml").chmod(0o600)
    flags = (("alarm", "a cmd:printf '\udcff'"), ("log-alarm", "a \udcff$"), ("alarm-msg-size", "100"))
    settings = load(Sources((str(tmp_path / "a.toml"),), (), flags), {})
    assert from_json(json.loads(json.dumps(to_json(settings)))) == settings


def test_a_configuration_knows_its_files(tmp_path: Path) -> None:
    """Every file that was read is watched, those that are included as well; a changed or missing one is told."""
    ini, part = tmp_path / "a.ini", tmp_path / "part.ini"
    ini.write_text(f"[uwsgi]\ninclude = {part}\n")
    part.write_text("[uwsgi]\nalarm = a log:\n")
    examined, loaded = read(Sources(ini_files=(str(ini),)), {}, 5.0)
    assert not examined.problems
    assert set(loaded.files) == {str(ini), str(part)}
    assert loaded.changed_files() == []
    part.write_text("[uwsgi]\nalarm = b log:\n")
    ini.unlink()
    assert loaded.changed_files() == [str(ini), str(part)]


def test_a_configuration_is_handed_on_whole(tmp_path: Path) -> None:
    """What the next master gets is what this one had; a plan of settings alone is enough."""
    (tmp_path / "a.toml").write_text('alarms = {a = "log:"}')
    _, loaded = read(Sources((str(tmp_path / "a.toml"),)), {}, 5.0, 3)
    retired = Loaded(loaded.settings, loaded.settings.alarms, loaded.sources, loaded.files, 3, 5.0)
    assert Loaded.from_json(retired.to_json()) == retired
    assert Loaded.from_json({"settings": loaded.to_json()["settings"]}) == Loaded(loaded.settings)


def test_what_is_no_file_has_no_fingerprint() -> None:
    """A name that cannot be one is as good as missing."""
    loaded = Loaded(examine(Sources(), {}).settings, files={"\0": ""})
    assert loaded.changed_files() == []


def test_the_reading_of_rules_can_be_followed(tmp_path: Path) -> None:
    """A caller learns how many rules have been read, up to the last one."""
    rule = "[[rules]]\npattern = '{}'\nalarms = 'a'\n"
    file = tmp_path / "a.toml"
    file.write_text("[alarms]\na = 'log:'\n" + "".join(rule.format(text) for text in ("one", "two")))
    seen: list[tuple[int, int]] = []
    examine(Sources.of_files([str(file)]), {}, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 2), (1, 2), (2, 2)]
