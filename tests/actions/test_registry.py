"""How actions are found."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from alarm_mw import actions
from alarm_mw.actions.cmd.action import CmdAction
from alarm_mw.model.errors import OptionError


@pytest.mark.parametrize("name", actions.names())
def test_every_name_is_an_action(name: str) -> None:
    """What is listed can be used, and each of its options is explained."""
    action = actions.find(name)
    assert callable(action.deliver)
    assert action.concurrency >= 1


def test_the_actions_that_ship_are_listed() -> None:
    """`names()` has them in alphabetical order."""
    assert {"cmd", "curl", "log", "xmpp"} <= set(actions.names())
    assert list(actions.names()) == sorted(actions.names())


def test_a_misspelt_name_gets_a_suggestion() -> None:
    """The error names the action that was probably meant."""
    with pytest.raises(OptionError, match=r"unknown alarm plugin 'cutl' \(did you mean 'curl'\?\)"):
        actions.find("cutl")


@pytest.mark.parametrize(
    ("name", "example"),
    [
        ("slack", 'use `curl` with a format: in TOML action = "curl", url = "https://…", format = "slack"'),
        ("msteams", 'use `curl` with a format: in TOML action = "curl", url = "https://…", format = "teams"'),
        ("telegram", 'use `apprise`, which knows this service: in TOML action = "apprise", url = "tgram://…"'),
        ("webhook", "use `curl`, as in curl:https://"),
        ("HTTP", "use `curl`, as in curl:https://"),
        ("email", "use `curl`, as in curl:smtps://"),
        ("jabber", "use `xmpp`, as in xmpp:"),
        ("shell", "use `cmd`, as in cmd:"),
        ("print", "use `log`, as in log:"),
    ],
)
def test_the_name_of_a_service_gets_the_action_that_reaches_it(name: str, example: str) -> None:
    """Someone who names a service or a protocol is told the action for it, with an example."""
    with pytest.raises(OptionError, match=f"unknown alarm plugin '{name}': {example}"):
        actions.find(name)


@pytest.mark.parametrize("name", ["registry", "keyvalue", "../cmd", "", "http"])
def test_what_serves_actions_is_none(name: str) -> None:
    """Modules beside the actions, and nonsense, cannot be named as one."""
    with pytest.raises(OptionError, match="unknown alarm plugin"):
        actions.find(name)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a directory on the path that offers actions as an installed package does, most of them unusable."""
    metadata = tmp_path / "pager-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: pager\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[alarm_mw.actions]\npager = pager_plugin:Pager\nbroken = broken_plugin:Broken\n"
        "bare = pager_plugin:Bare\ngone = pager_plugin:Gone\nneedy = pager_plugin:Needy\n"
    )
    (tmp_path / "pager_plugin.py").write_text(
        "from alarm_mw.actions.cmd.action import CmdAction\n"
        "class Pager(CmdAction): pass\n"
        "class Bare: pass\n"
        "class Needy(CmdAction): requires = ('no_such_package',)\n"
    )
    (tmp_path / "broken_plugin.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "pager_plugin", raising=False)
    return tmp_path


def test_an_installed_package_brings_its_action(installed: Path) -> None:
    """An entry point in the group `alarm_mw.actions` is found by its name."""
    assert "pager" in actions.names()
    assert issubclass(actions.find("pager"), CmdAction)


@pytest.mark.parametrize("name", ["broken", "needy"])
def test_a_missing_package_is_named(name: str, installed: Path) -> None:
    """The error says what to install."""
    with pytest.raises(OptionError, match=f"'{name}' needs the package 'no_such_package'.*pip install no_such_package"):
        actions.find(name)


def test_a_class_that_is_no_action_is_refused(installed: Path) -> None:
    """The error says what it lacks."""
    with pytest.raises(OptionError, match="'bare' is no action: pager_plugin:Bare has no Options"):
        actions.find("bare")


def test_a_class_that_is_not_there_is_refused(installed: Path) -> None:
    """The error says where it was looked for."""
    with pytest.raises(OptionError, match="'gone' cannot be loaded from pager_plugin:Gone"):
        actions.find("gone")
