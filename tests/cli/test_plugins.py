"""``alarm-mw plugins``: the actions with their options."""

from __future__ import annotations

import json

from click.testing import CliRunner

from alarm_mw.actions import registry
from alarm_mw.cli.main import main


def test_every_action_is_listed_with_its_options() -> None:
    """Each plugin tells what it does, and each option what it is for."""
    found = json.loads(CliRunner().invoke(main, ["plugins", "--json"]).stdout)
    assert set(found) == set(registry.names()) >= {"cmd", "curl", "log", "xmpp"}
    for facts in found.values():
        assert facts["summary"]
        assert all(option["help"] for option in facts["options"])


def test_the_list_can_be_read() -> None:
    """Without --json it is text, with types and defaults."""
    text = CliRunner().invoke(main, ["plugins"]).stdout
    assert "curl: " in text
    assert "url (string, required, secret): " in text
    assert 'tls ("direct" or "off" or "optional" or "required", default "required"): ' in text
