"""``alarm-mw status``, where no master answers; tests/servers has those where one does."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from alarm_mw.cli.main import main
from alarm_mw.cli.state import own_state_dir, state_home
from alarm_mw.transports.places import SOCKET_NAME


def status(home: Path, *arguments: str) -> Result:
    environ = {"XDG_STATE_HOME": str(home), "ALARM_MW_SOCKET": ""}
    return CliRunner().invoke(main, ["status", *arguments], env=environ)


def listen(home: Path, name: str) -> socket.socket:
    directory = home / "alarm-mw" / name
    directory.mkdir(parents=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(directory / SOCKET_NAME))
    listener.listen()
    return listener


def test_without_a_server_it_says_so(tmp_path: Path) -> None:
    """The exit status is 1, and the option that helps is named."""
    result = status(tmp_path)
    assert result.exit_code == 1
    assert "--state-dir" in result.stderr


def test_a_state_directory_without_a_master_is_named(tmp_path: Path) -> None:
    """Where nobody answers, the place is shown."""
    result = status(tmp_path, "--state-dir", str(tmp_path))
    assert result.exit_code == 1
    assert str(tmp_path) in result.stderr


def test_of_several_servers_one_must_be_chosen(tmp_path: Path) -> None:
    """The state directories of all of them are listed."""
    with listen(tmp_path, "one"), listen(tmp_path, "two"):
        result = status(tmp_path)
    assert result.exit_code == 1
    assert "alarm-mw/one" in result.stderr
    assert "alarm-mw/two" in result.stderr


def test_a_server_finds_its_state_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command in the same directory has the same state; a second one at the same time has its own."""
    environ = {"XDG_STATE_HOME": str(tmp_path / "xdg")}
    first = own_state_dir(["/usr/bin/gunicorn", "app:app"], environ)
    assert first == own_state_dir(["/usr/bin/gunicorn", "app:app"], environ)
    assert first.name.startswith("gunicorn-")
    assert first != own_state_dir(["/usr/bin/gunicorn", "other:app"], environ)
    with listen(tmp_path / "xdg", first.name):
        assert own_state_dir(["/usr/bin/gunicorn", "app:app"], environ).name == f"{first.name}-2"


def test_the_state_home_is_where_xdg_says() -> None:
    """XDG_STATE_HOME counts if it is absolute, else ~/.local/state."""
    assert state_home({"XDG_STATE_HOME": "/var/state"}) == Path("/var/state/alarm-mw")
    assert state_home({"XDG_STATE_HOME": "relative"}) == Path.home() / ".local/state/alarm-mw"
