"""``alarm-mw plugins``: the actions and the monitors with their options."""

from __future__ import annotations

import json
from types import ModuleType

import pytest
from click.testing import CliRunner

from alarm_mw import actions, monitors
from alarm_mw.cli.main import main


@pytest.mark.parametrize(("kind", "registry"), [("actions", actions), ("monitors", monitors)])
def test_every_plugin_is_listed_with_its_options(kind: str, registry: ModuleType) -> None:
    """Each action and each monitor tells what it does, and each option what it is for."""
    found = json.loads(CliRunner().invoke(main, ["plugins", "--json"]).stdout)
    assert set(found) == {"actions", "monitors", "rule_sets"}
    assert list(found[kind]) == list(registry.names())
    for facts in found[kind].values():
        assert facts["summary"]
        assert all(option["help"] for option in facts["options"])


def test_the_list_can_be_read() -> None:
    """Without --json it is text, with types and defaults."""
    text = CliRunner().invoke(main, ["plugins"]).stdout
    assert "curl: " in text
    assert "url (string, required, secret): " in text
    assert 'tls ("direct" or "off" or "optional" or "required", default "required"): ' in text
    assert text.index("monitors:") < text.index("backlog: ")
    assert "percent (integer, default 100): " in text
