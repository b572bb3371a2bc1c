"""``alarm-mw drill``: every alarm for real, the beginning and the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from alarm_mw.cli.main import main


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
