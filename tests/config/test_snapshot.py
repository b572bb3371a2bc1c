"""What the command line checked is what the masters use."""

from __future__ import annotations

import json
from pathlib import Path

from alarm_mw.config.load import load
from alarm_mw.config.snapshot import from_json, to_json
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
