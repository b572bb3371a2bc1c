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
        assert f"{incident['id']}  firing  db  db=eu" in shown
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
    """Killed again and again while incidents begin and end: each has one end and one beginning, or both in one."""
    (installation.directory / "alarms.toml").write_text(CONFIG)
    rounds = 10
    program = (
        f"for i in $(seq {rounds}); do echo lost $i; sleep 0.2; echo back $i; sleep 0.2; done; touch over; sleep 60"
    )
    server = installation.start(["--config", "alarms.toml"], "sh", "-c", f"{program}; exec sleep 60")
    killed = set[int]()

    def kill() -> bool:
        status = installation.status()
        if (pid := status.get("pid")) and pid not in killed:
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)
        return bool((installation.directory / "over").exists())

    try:
        until(lambda: told(installation))
        until(kill)
        until(lambda: len({line[1] for line in told(installation) if line[0] == "resolved"}) == rounds)
        until(
            lambda: (
                not any(row["waiting"] for row in installation.status().get("alarms", {"x": {"waiting": 1}}).values())
            )
        )
        status = installation.status()
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    messages = {line[-1]: tuple(line[:2]) for line in told(installation)}
    assert len({*messages.values()}) == len(messages), "something was told under two ids"
    merged = status["alarms"]["out"]["dropped"].get("merged", 0)
    assert len(messages) + merged == 2 * rounds
    assert len(killed) >= 2
    assert status["imbalances"] == []
    assert status["alarms"]["out"]["fired"] == 2 * rounds
