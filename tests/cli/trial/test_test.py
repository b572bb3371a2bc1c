"""``alarm-mw test``: one alarm for real."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from alarm_mw.cli.main import main


def fire(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["test", *arguments])


def test_a_delivered_alarm_is_a_success(tmp_path: Path) -> None:
    """The action runs with the message, and the exit status is 0."""
    out = tmp_path / "out.txt"
    result = fire("--alarm", f"a cmd:cat >> {out}", "a", "hello")
    assert (result.exit_code, result.stdout) == (0, "a: delivered\n")
    assert out.read_text() == "hello\n"


def test_without_a_message_it_says_what_it_is(tmp_path: Path) -> None:
    """The message tells its reader that this is a test."""
    out = tmp_path / "out.txt"
    assert fire("--alarm", f"a cmd:cat >> {out}", "a").exit_code == 0
    assert "test" in out.read_text()


def test_an_alarm_that_fails_is_a_failure() -> None:
    """The exit status is 1, and the reason is shown."""
    result = fire("--alarm", "a cmd:echo no such mailbox >&2; exit 3", "a")
    assert result.exit_code == 1
    assert "a: not delivered: " in result.stderr
    assert "no such mailbox" in result.stderr


def test_trying_ends_after_its_time() -> None:
    """An alarm whose receiver is away is tried for --timeout seconds, and the last failure is shown."""
    alarm = "a curl:http://127.0.0.1:9/"
    # On a busy machine the first attempt may take longer than the shortest of these.
    results = [fire("--timeout", "0.2", "--alarm", alarm, "a")]
    while "a: not delivered in time: http://127.0.0.1:9: " not in results[-1].stderr:
        assert "a: not delivered in time\n" in results[-1].stderr
        results.append(fire("--timeout", str(0.2 * 4 ** len(results)), "--alarm", alarm, "a"))
    assert {result.exit_code for result in results} == {1}


def test_an_unknown_alarm_is_a_mistake() -> None:
    """The exit status is 2, and the name that was meant is guessed."""
    result = fire("--alarm", "jabber log:", "jaber")
    assert result.exit_code == 2
    assert "did you mean 'jabber'" in result.stderr


CONFIG = """
name = "shop"
[labels]
team = "payments"
[alarms.hook]
action = "curl"
url = "https://hooks.example.org/T0/sekret?token=sekret"
headers = { X-Token = "sekret" }
[alarms.slack]
action = "curl"
url = "https://hooks.slack.com/services/T0/sekret"
format = "slack"
[alarms.mail]
action = "curl"
url = "smtp://app:sekret@127.0.0.1:9"
mail_to = ["me@example.org"]
subject = "{app}: {headline|truncate:20}"
[alarms.ftp]
action = "curl"
url = "ftp://127.0.0.1:9/x"
[alarms.jabber]
action = "xmpp"
jid = "app@example.org"
password = "sekret"
to = ["me@example.org"]
[alarms.run]
action = "cmd"
command = "cat"
text = "{message}!"
[alarms.log]
action = "log"
prefix = "shop"
[alarms.signal]
action = "signal"
signal = 17
"""


@pytest.mark.parametrize(
    ("alarm", "expected"),
    [
        ("hook", ["PUT https://hooks.example.org/********", "X-Token: ********", "it failed", "team=payments"]),
        (
            "slack",
            ["POST https://hooks.slack.com/********", "Content-Type: application/json", "it failed &lt;!here&gt;"],
        ),
        ("mail", ["smtp://127.0.0.1:9", "To: me@example.org", "Subject: shop: it failed <!here>", "team=payments"]),
        ("ftp", ["ftp://127.0.0.1:9", "it failed <!here>"]),
        ("jabber", ["to me@example.org", "it failed <!here>", "team=payments"]),
        ("run", ["/bin/sh -c cat", "ALARM_APP=shop", "ALARM_LABEL_TEAM=payments", "it failed <!here>!"]),
        ("log", [" - ALARM: shop it failed <!here>"]),
        ("signal", ["it failed <!here>"]),
    ],
)
def test_a_dry_run_shows_what_would_be_sent(tmp_path: Path, alarm: str, expected: list[str]) -> None:
    """Request, mail, message, command or line as it would be sent, with stars for secrets; nothing is sent."""
    config = tmp_path / "alarm-mw.toml"
    config.write_text(CONFIG)
    config.chmod(0o600)
    result = fire("--config", str(config), "--dry-run", alarm, "it failed <!here>")
    assert result.exit_code == 0, result.output
    assert [each for each in expected if each not in result.stdout] == []
    assert "sekret" not in result.stdout
