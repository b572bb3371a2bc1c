"""``alarm-mw drill``: every alarm for real, the beginning and the end."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from waiting import wait_until

from alarm_mw.cli.main import main
from alarm_mw.delivery.last_deliveries import read
from alarm_mw.model.errors import NotRunningError
from alarm_mw.transports.control import ask
from alarm_mw.transports.places import SOCKET_NAME


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def drill(config: str, *words: str) -> Result:
    Path("a.toml").write_text(config)
    return CliRunner().invoke(main, ["drill", "--config", "a.toml", *words])


def outcomes(result: Result) -> dict[str, dict[str, Any]]:
    return {each["alarm"]: each for each in json.loads(result.stdout)}


CONFIG = """
[alarms.a]
action = "cmd"
command = "echo $ALARM_STATUS; cat >> a.txt"
[alarms.b]
action = "cmd"
command = "cat >> b.txt"
[alarms.b.notify]
send_resolved = false
[[rules]]
pattern = "never"
alarms = ["a"]
"""


def test_every_alarm_gets_a_beginning_and_an_end() -> None:
    """Each message says that it is a drill; an alarm that is not told of ends gets none, and that is no failure."""
    result = drill(CONFIG, "--json")
    found = outcomes(result)
    assert result.exit_code == 0, result.output
    assert found.keys() == {"a", "b"}
    assert found["a"]["firing"] >= 0
    assert found["a"]["resolved"] >= 0
    assert found["b"]["resolved"] is None
    beginning, *_, end = Path("a.txt").read_text().splitlines()
    assert beginning.startswith("DRILL: this is a test of all alarms")
    assert "DRILL" in end
    assert "DRILL" in Path("b.txt").read_text()


def test_the_table_is_for_people() -> None:
    """The table has a row for each alarm, with seconds, or with what is not wanted."""
    result = drill(CONFIG)
    assert result.exit_code == 0
    assert "not wanted" in result.stdout
    assert "last error" in result.stdout


def test_an_alarm_that_fails_is_named_with_its_error() -> None:
    """One alarm that cannot be delivered makes the status 1, and does not keep the others from being tried."""
    config = CONFIG + '[alarms.c]\naction = "cmd"\ncommand = "echo no such mailbox >&2; exit 3"\n'
    result = drill(config, "--json")
    found = outcomes(result)
    assert result.exit_code == 1
    assert found["a"]["resolved"] is not None
    assert (found["c"]["firing"], "no such mailbox" in found["c"]["error"]) == (None, True)
    assert "not delivered" in drill(config, "--only", "c").stdout


def test_what_does_not_come_in_time_is_not_waited_for() -> None:
    """A receiver that is away is tried for --timeout seconds."""
    config = '[alarms.a]\naction = "cmd"\ncommand = "sleep 60"\n'
    result = drill(config, "--json", "--timeout", "0.2")
    assert (result.exit_code, outcomes(result)["a"]["error"]) == (1, "nothing within 0.2 seconds")


def test_an_unknown_alarm_is_a_mistake() -> None:
    """Nothing is sent if a name is wrong."""
    result = drill(CONFIG, "--only", "nope")
    assert (result.exit_code, result.stderr) == (2, "alarm-mw: unknown alarm 'nope'; there are: a, b\n")
    assert not Path("a.txt").exists()


@contextmanager
def server(home: Path) -> Iterator[Path]:
    """Run a server with a.toml and its state in a directory of this user's; give that directory."""
    words = [str(Path(sys.executable).with_name("alarm-mw")), "run", "--name", "shop", "--config", "a.toml"]
    environ = {**os.environ, "XDG_STATE_HOME": str(home)}
    process = subprocess.Popen([*words, "--", "sleep", "1000"], env=environ)
    state = home / "alarm-mw" / "shop"
    try:
        wait_until(lambda: is_answering(state))
        yield state
    finally:
        process.terminate()
        process.wait(60)


def is_answering(state: Path) -> bool:
    try:
        return bool(ask(str(state / SOCKET_NAME), "/status", timeout=5.0))
    except NotRunningError:
        return False


def drilled(state: Path) -> dict[str, bool]:
    """Return which alarms a server knows to have delivered a drill."""
    with closing(sqlite3.connect(state / "outbox.db")) as outbox:
        return {alarm: bool(each.drilled) for alarm, each in read(outbox.execute).items()}


def test_a_server_with_the_same_configuration_takes_note(monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows which alarms have delivered the drill, and does not name these as unused."""
    config = CONFIG + '[drill]\nwarn_after = "30d"\n[alarms.c]\naction = "cmd"\ncommand = "exit 3"\n'
    Path("a.toml").write_text(config)
    with tempfile.TemporaryDirectory(prefix="amw-") as home, server(Path(home)) as state:
        monkeypatch.setenv("XDG_STATE_HOME", home)
        assert drilled(state) == {"a": False, "b": False, "c": False}
        assert drill(config, "--timeout", "5", "--only", "a", "--only", "c").exit_code == 1
        assert drilled(state) == {"a": True, "b": False, "c": False}
        Path("other.toml").write_text(config)
        assert CliRunner().invoke(main, ["drill", "--config", "other.toml", "--only", "b"]).exit_code == 0
        assert not drilled(state)["b"]
        result = drill(config, "--only", "b", "--state-dir", str(state))
        assert (result.exit_code, result.stderr, drilled(state)["b"]) == (0, "", True)


def test_a_server_that_is_named_and_does_not_answer_is_reported(tmp_path: Path) -> None:
    """The drill itself has been delivered all the same."""
    result = drill(CONFIG, "--state-dir", str(tmp_path))
    assert (result.exit_code, "no server has taken note of the drill" in result.stderr) == (0, True)
