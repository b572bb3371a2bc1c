"""``alarm-mw route``: where a line would go, and what it would say there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from alarm_mw.app.launch.state import OUTBOX_NAME
from alarm_mw.cli.main import main
from alarm_mw.config.build import engine_of
from alarm_mw.config.load import load
from alarm_mw.config.sources import Sources
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.model.types import Record

CONFIG = """
name = "shop"
labels = { app = "shop" }

[alarms.mail]
action = "cmd"
command = "mail"
limits = { for_humans = true }

[alarms.sms]
action = "curl"
url = "https://sms.example.org/hunter2"
format = "text"

[[rules]]
exclude = "drill"

[[rules]]
name = "payments"
pattern = "payment .* failed"
alarms = "mail"
labels = { team = "payments" }

[[rules]]
request = { status = "5xx" }
alarms = "mail"

[[rules]]
name = "db"
pattern = "lost"
resolve = "back"
alarms = "mail"

[[routes]]
match = ['severity="critical"']
alarms = "sms"
"""

Route = Callable[..., Result]


@pytest.fixture
def route(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Route:
    """Provide the command, with a configuration and without a running server."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "a.toml").write_text(CONFIG)
    return lambda *arguments: CliRunner().invoke(main, ["route", "--config", str(tmp_path / "a.toml"), *arguments])


def test_it_names_the_rule_and_shows_the_message(route: Route) -> None:
    """A printed line: the rule with its place and labels, its alarms, and what each would send."""
    result = route("payment 42 failed")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].endswith("a.toml:24: not tried: it is about requests")
    assert lines[1].startswith("rule payments at ")
    assert lines[1].endswith("a.toml:20:12: payment .* failed")
    assert lines[2:6] == ["    labels: team=payments", "    alarms: mail", "", "mail: fires"]
    assert lines[6].strip() == "/bin/sh -c mail"
    assert lines[-1].strip() == "payment 42 failed"
    assert "sms" not in result.stdout


def test_a_log_record_may_have_other_routes(route: Route) -> None:
    """Level, logger and fields are those of the record; secrets are masked."""
    result = route("--level", "CRITICAL", "--logger", "shop.pay", "--field", "user=kim", "payment 42 failed")
    assert "    alarms: mail, sms\n" in result.stdout
    assert 'a.toml:34: severity="critical": sms\n' in result.stdout
    assert "    CRITICAL shop@" in result.stdout
    assert "user=kim" in result.stdout
    assert "hunter2" not in result.stdout
    assert route("--level", "50", "payment 1 failed").stdout.count("fires") == 2


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("a drill: payment 42 failed", "a.toml:16:12: excludes the line: drill\n"),
        ("all is well", "no rule matches\n"),
    ],
)
def test_it_says_why_nothing_fires(route: Route, line: str, text: str) -> None:
    """An exclusion is named; the exit status is 1."""
    result = route(line)
    assert result.exit_code == 1
    assert text in result.stdout


def test_incidents_begin_and_end(route: Route) -> None:
    """A line may begin an incident, or end one."""
    assert "mail: fires" in route("lost").stdout
    assert "    resolves incidents of db\n" in route("back").stdout


def test_what_a_server_has_sent_holds_back(route: Route, tmp_path: Path) -> None:
    """Limits are as of now in the state directory, and the message is shown all the same."""
    state = tmp_path / "state" / "alarm-mw" / "shop"
    state.mkdir(parents=True)
    engine = engine_of(load(Sources.of_files([str(tmp_path / "a.toml")]), {}))
    assert engine.evaluate(Record(b"payment 1 failed\n", "stdout", time.time(), "k"), time.monotonic()).firings
    outbox = Outbox(state / OUTBOX_NAME)
    outbox.take((), lambda _firing, _is_new: None, engine.memory.dumps(time.monotonic(), time.time()))
    outbox.close()
    result = route("--name", "shop", "payment 2 failed")
    assert result.exit_code == 1
    assert "mail: held back (repeat)\n    /bin/sh -c mail\n" in result.stdout
    assert result.stdout.endswith(f"limits and silences: as of now in {state}\n")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--level", "loud", "x"], "expected a number or one of CRITICAL, "),
        (["--field", "user", "x"], "expected NAME=VALUE, got 'user'"),
        (["--state-dir", "/nonexistent", "x"], "/nonexistent/outbox.db: cannot be read: "),
    ],
)
def test_mistakes_are_told(route: Route, arguments: list[str], error: str) -> None:
    """What cannot be meant is refused in a sentence."""
    result = route(*arguments)
    assert result.exit_code in {1, 2}
    assert error in result.stderr
