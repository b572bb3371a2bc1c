"""Dead letters of a running server: listed, put back, delivered."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def dead(installation: Any) -> Callable[..., str]:
    """Give a function that runs ``alarm-mw dead`` and returns what it says."""

    def run(*arguments: str) -> str:
        command = [installation.command, "dead", *arguments, "--state-dir", str(installation.state_dir)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=installation.environ)
        return done.stdout

    return run


def test_dead_letters_are_put_back_while_the_server_runs(
    installation: Any, until: Callable[..., None], dead: Callable[..., str]
) -> None:
    """What a receiver refused is delivered at once when it is put back, or by another alarm; the ledger balances."""
    folder = installation.directory
    (folder / "alarms.toml").write_text(
        "[alarms]\n"
        'mended = "cmd:test -e mended && cat >> mended.txt"\n'
        'broken = "cmd:exit 1"\n'
        'other = "cmd:cat >> other.txt"\n'
        'idle = "log:"\n'
        "[[rules]]\npattern = '^TERRIBLE'\nalarms = ['mended', 'broken']\n"
    )

    def letters() -> list[str]:
        return [letter["alarm"] for letter in json.loads(dead("list", "--json"))["letters"]]

    server = installation.start(["--config", "alarms.toml"], "sh", "-c", "echo TERRIBLE ALARM; exec sleep 60")
    try:
        until(lambda: installation.status().get("alarms", {}).get("broken", {}).get("dead"))
        until(lambda: letters() == ["mended", "broken"] or letters() == ["broken", "mended"])
        assert installation.status()["letters"] == 2
        (folder / "mended").touch()
        assert dead("retry", "--alarm", "mended") == "1 queued for delivery\n"
        until((folder / "mended.txt").exists)
        assert dead("retry", "--all", "--as", "other") == "1 queued for delivery\n"
        until((folder / "other.txt").exists)
        until(lambda: not any(row["waiting"] for row in installation.status()["alarms"].values()))
        status = installation.status()
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    assert status["imbalances"] == []
    assert status["letters"] == 0
    assert status["alarms"]["mended"]["retried"] == status["alarms"]["mended"]["delivered"] == 1
    assert status["unmatched"] == ["idle"]
    assert status["alarms"]["broken"]["handed_over"] == status["alarms"]["other"]["delivered"] == 1
    assert (folder / "other.txt").read_text() == "TERRIBLE ALARM [instead of broken]\n"


@pytest.mark.parametrize(("lines", "text"), [(1, "1 firing waits"), (2, "2 firings wait")])
def test_what_waits_at_the_end_is_told(installation: Any, until: Callable[..., None], lines: int, text: str) -> None:
    """Who stops a server while a receiver is down learns what the next start is going to deliver."""
    rules = ("--alarm", "a cmd:exit 75", "--log-alarm", "a TERRIBLE", "--alarm-freq", "0")
    program = f"for n in $(seq {lines}); do echo TERRIBLE $n; done; exec sleep 60"
    server = installation.start(rules, "sh", "-c", program, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: installation.status().get("alarms", {}).get("a", {}).get("waiting") == lines)
    server.send_signal(signal.SIGTERM)
    _, printed = server.communicate(timeout=60)
    assert f"alarm a: {text} for the next start of this server" in printed.decode()


def test_what_waits_for_its_next_attempt_can_be_tried_at_once(
    installation: Any, until: Callable[..., None], dead: Callable[..., str]
) -> None:
    """Who has mended a receiver that asked for an hour, or has an hour's pause, does not have to wait for it."""
    folder = installation.directory
    (folder / "alarms.toml").write_text(
        '[alarms.a]\naction = "cmd"\ncommand = "test -e mended || exit 75; cat >> out.txt"\n'
        "delivery = { backoff_first = 3600, backoff_max = 3600 }\n"
        "[[rules]]\npattern = '^TERRIBLE'\nalarms = 'a'\n"
    )
    server = installation.start(["--config", "alarms.toml"], "sh", "-c", "echo TERRIBLE ALARM; exec sleep 60")
    try:
        until(lambda: installation.status().get("failing"))
        (folder / "mended").touch()
        said = dead("retry", "--alarm", "a")
        until(lambda: installation.status()["alarms"]["a"]["delivered"] == 1)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    assert said == "0 queued for delivery; 1 waiting firing is tried now\n"
    assert (folder / "out.txt").read_text() == "TERRIBLE ALARM\n"


def test_a_letter_that_is_put_back_disturbs_no_other_receiver(
    installation: Any, until: Callable[..., None], dead: Callable[..., str]
) -> None:
    """Its own alarm is tried at once; one that asked for an hour's peace keeps it."""
    (installation.directory / "alarms.toml").write_text(
        '[alarms.a]\naction = "cmd"\ncommand = "test -e mended || exit 1; cat >> out.txt"\n'
        '[alarms.b]\naction = "cmd"\ncommand = "echo x >> tries.txt; exit 75"\n'
        "delivery = { backoff_first = 3600, backoff_max = 3600 }\n"
        "[[rules]]\npattern = '^TERRIBLE'\nalarms = ['a', 'b']\n"
    )
    server = installation.start(["--config", "alarms.toml"], "sh", "-c", "echo TERRIBLE ALARM; exec sleep 60")
    try:
        until(lambda: installation.status().get("letters") == 1 and installation.status()["failing"])
        (installation.directory / "mended").touch()
        (letter,) = json.loads(dead("list", "--json"))["letters"]
        assert dead("retry", str(letter["id"])) == "1 queued for delivery\n"
        until(lambda: installation.status()["alarms"]["a"]["delivered"] == 1)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    assert (installation.directory / "tries.txt").read_text() == "x\n"
