"""Incidents of a running server: shown, acknowledged and resolved on the command line, and over kills of the master."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

CONFIG = """
[alarms.out]
action = "cmd"
command = "echo $ALARM_STATUS $ALARM_KEY $ALARM_ID >> told.txt"
[[rules]]
name = "db"
pattern = 'lost (?P<db>\\S+)'
key = ["db"]
resolve = 'back (?P<db>\\S+)'
alarms = ["out"]
"""


#: How often the master is killed.
KILLS = 8


@pytest.fixture
def verb(installation: Any) -> Callable[..., str]:
    """Give a function that runs a verb of ``alarm-mw`` and returns what it says."""

    def run(*arguments: str, status: int = 0) -> str:
        command = [installation.command, *arguments, "--state-dir", str(installation.state_dir)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, env=installation.environ
        )
        assert done.returncode == status, done.stderr
        return done.stdout

    return run


def told(installation: Any) -> list[list[str]]:
    file = installation.directory / "told.txt"
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def test_people_see_and_change_incidents(
    installation: Any, until: Callable[..., None], verb: Callable[..., str]
) -> None:
    """An incident is shown with who acknowledged it, by the kernel's word, and ends by hand."""
    (installation.directory / "alarms.toml").write_text(CONFIG)
    server = installation.start(["--config", "alarms.toml"], "sh", "-c", "echo lost eu; exec sleep 60")
    try:
        until(lambda: len(told(installation)) == 1)
        (incident,) = json.loads(verb("incidents", "--json"))
        me = pwd.getpwuid(os.getuid()).pw_name
        assert verb("ack", incident["id"], "--for", "1h", "--comment", "on it") == f"{incident['id']}: acknowledged\n"
        shown = verb("incidents")
        assert f"{incident['id']}  ALARM  db  db=eu  lost eu\n" in shown
        assert f"acknowledged by {me}" in shown
        verb("unack", incident["id"])
        verb("resolve", incident["id"])
        verb("resolve", incident["id"], status=2)
        assert verb("incidents") == "no incidents\n"
        assert verb("incidents", "--all")
        until(lambda: len(told(installation)) == 2)
        assert [event["kind"] for event in json.loads(verb("history", "--json", "--since", "1h"))] == [
            *("opened", "firing", "acknowledged", "unacknowledged", "resolved", "resolved")
        ]
        assert f"resolved  operator {me}" in verb("history")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def test_kills_of_the_master_tell_nothing_twice(installation: Any, until: Callable[..., None]) -> None:
    """Killed again and again while incidents begin and end: each has one beginning and one end (uptime-kuma#4085)."""
    (installation.directory / "alarms.toml").write_text(CONFIG)
    program = (
        "i=0; while ! test -e enough; do i=$((i+1)); echo lost $i; sleep 0.1; echo back $i; sleep 0.1; done;"
        "echo $i > rounds.tmp; mv rounds.tmp rounds; exec sleep 60"
    )
    server = installation.start(["--config", "alarms.toml"], "sh", "-c", program, stdout=subprocess.DEVNULL)
    killed = set[int]()

    def kill() -> bool:
        pid = installation.status().get("pid")
        if pid is None or pid in killed:
            return False
        os.kill(pid, signal.SIGKILL)
        killed.add(pid)
        return True

    try:
        until(lambda: told(installation))
        for _ in range(KILLS):
            until(kill)
        (installation.directory / "enough").touch()
        until((installation.directory / "rounds").exists)
        rounds = int((installation.directory / "rounds").read_text())
        until(lambda: {line[1] for line in told(installation) if line[0] == "resolved"} >= {f"db={rounds}"})
        until(lambda: installation.status().get("alarms", {}).get("out", {"waiting": 1})["waiting"] == 0)
        status = installation.status()
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    messages = {line[-1]: tuple(line[:2]) for line in told(installation)}
    assert len({*messages.values()}) == len(messages), "something was told under two ids"
    merged = status["alarms"]["out"]["dropped"].get("merged", 0)
    assert len(messages) + merged == 2 * rounds
    assert status["imbalances"] == []
    assert status["alarms"]["out"]["fired"] == 2 * rounds


def test_silences_with_matchers_hold_incidents_back(
    installation: Any, until: Callable[..., None], verb: Callable[..., str]
) -> None:
    """One that matches is held back over a kill of the master, and told when the silence ends; others are told."""
    (installation.directory / "alarms.toml").write_text(CONFIG)
    (installation.directory / "go").touch()
    server = installation.start(
        ["--config", "alarms.toml"],
        "sh",
        "-c",
        "while test -e go; do sleep 0.05; done; echo lost eu; echo lost us; exec sleep 60",
    )
    try:
        until(lambda: "pid" in installation.status())
        name = verb("silence", 'db=~"e."', "rule=db", "--for", "1h", "--comment", "move").strip()
        later = verb("silence", "out", "--for", "1h", "--start", "2h").strip()
        listed = json.loads(verb("silence", "--list", "--json"))
        assert [(each["id"], each["state"]) for each in listed] == [(name, "active"), (later, "pending")]
        assert listed[0]["matchers"] == ['db=~"e."', 'rule="db"']
        assert listed[0]["author"] == pwd.getpwuid(os.getuid()).pw_name
        assert 3599 < listed[0]["ends"] - listed[0]["starts"] <= 3600
        assert f"{later}  alarm out will be silenced from " in verb("silence", "--list")
        first = json.loads(verb("status", "--json"))["pid"]
        os.kill(first, signal.SIGKILL)
        (installation.directory / "go").unlink()
        until(lambda: len(told(installation)) == 1)
        assert told(installation)[0][:2] == ["firing", "db=us"]
        until(
            lambda: (
                [each["marks"] for each in json.loads(verb("incidents", "--json"))]
                in ([["silenced"], []], [[], ["silenced"]])
            )
        )
        assert f"{later}  alarm out" in verb("unsilence", name)
        until(lambda: len(told(installation)) == 2)
        assert told(installation)[1][:2] == ["firing", "db=eu"]
        assert f'{name}  db=~"e.", rule="db" was silenced until' in verb("silence", "--list", "--all")
        verb("unsilence", "nonsense", status=2)
        verb("silence", "rule=~(", "--for", "1h", status=2)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def test_noise_is_shown_by_rule(installation: Any, until: Callable[..., None], verb: Callable[..., str]) -> None:
    """`noise` counts what was over at once and not taken, and says so where nothing has happened."""
    (installation.directory / "alarms.toml").write_text(CONFIG)
    lines = "sleep 0.2; echo lost eu; echo back eu; exec sleep 60"
    server = installation.start(["--config", "alarms.toml"], "sh", "-c", lines)
    try:
        until(lambda: len(told(installation)) == 2)
        until(lambda: json.loads(verb("noise", "--json"))[:1])
        (rule,) = json.loads(verb("noise", "--json"))
        assert (rule["rule"], rule["episodes"], rule["noise"], rule["percent"]) == ("db", 1, 1, 100)
        shown = verb("noise", "--days", "1")
        assert "1 (100 %)" in shown
        assert max(map(len, shown.splitlines())) <= 80
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
