"""A configuration in force: it can be read again, and handed to the next master."""

from __future__ import annotations

import json
from pathlib import Path

from alarm_mw.config.load import Loaded, examine, from_json, load, read, to_json
from alarm_mw.config.sources import Sources

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


def sources(tmp_path: Path, *texts: str) -> Sources:
    files = []
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.toml").write_text(text)
        files.append(str(tmp_path / f"{number}.toml"))
    return Sources(tuple(files))


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
    _, loaded = read(sources(tmp_path, 'alarms = {a = "log:"}'), {}, 5.0, 3)
    retired = Loaded(loaded.settings, loaded.settings.alarms, loaded.sources, loaded.files, 3, 5.0)
    assert Loaded.from_json(retired.to_json()) == retired
    assert Loaded.from_json({"settings": loaded.to_json()["settings"]}) == Loaded(loaded.settings)


def test_what_is_no_file_has_no_fingerprint() -> None:
    """A name that cannot be one is as good as missing."""
    loaded = Loaded(examine(Sources(), {}).settings, files={"\0": ""})
    assert loaded.changed_files() == []
