"""Programs that end: their alarms are delivered before the end, or by whoever comes next."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

#: A receiver that works once the file `ok` is there.
CONFIG = """
alarm_freq = 0
[alarms.a]
action = "cmd"
command = "test -e ok || exit 75; cat >> out.txt"
retry_on = [75]
[alarms.a.delivery]
backoff_first = 0.1
backoff_max = 0.2
[[rules]]
pattern = "ALARM"
alarms = ["a"]
"""

OPTIONS = ("--config", "alarm-mw.toml")


@pytest.fixture
def configured(installation: Any) -> Any:
    (installation.directory / "alarm-mw.toml").write_text(CONFIG)
    return installation


def let_receive(installation: Any) -> None:
    (installation.directory / "ok").touch()


def received(installation: Any) -> str:
    file = installation.directory / "out.txt"
    return file.read_text() if file.exists() else ""


def attempts(state_dir: Path) -> int:
    """Return how often the delivery of what waits has been tried."""
    file = state_dir / "outbox.db"
    if not file.exists():
        return 0
    with closing(sqlite3.connect(file)) as database, contextlib.suppress(sqlite3.OperationalError):  # it is being made
        return int(database.execute("SELECT COALESCE(MAX(attempts), 0) FROM firings").fetchone()[0])
    return 0


def test_the_end_waits_for_the_delivery(configured: Any) -> None:
    """With --wait, a receiver that does not work at first gets the alarm before the run is over."""
    process = configured.start((*OPTIONS, "--wait", "60s", "--strict"), "echo", "ALARM")
    wait_until(lambda: attempts(configured.state_dir) > 2)
    let_receive(configured)
    assert process.wait(60) == 0
    assert received(configured) == "ALARM\n"


@pytest.mark.parametrize(
    ("options", "command", "status"),
    [
        ((), "echo ALARM", 0),
        (("--strict",), "echo ALARM", 75),
        (("--strict", "--wait", "0.3"), "echo ALARM", 75),
        (("--strict",), "echo ALARM; exit 7", 7),
        (("--strict",), "echo fine", 0),
    ],
)
def test_the_exit_status_says_what_is_left(
    configured: Any, options: tuple[str, ...], command: str, status: int
) -> None:
    """With --strict, a program that has succeeded while alarms still wait ends with 75; its own failure comes first."""
    assert configured.run((*OPTIONS, *options), "sh", "-c", command).returncode == status


def test_a_wrong_time_is_a_mistake(configured: Any) -> None:
    """As other mistakes on the command line."""
    done = configured.run((*OPTIONS, "--wait", "soon"), "true")
    assert done.returncode == 2
    assert b"expected a time such as '90s'" in done.stderr


def run_in(installation: Any, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program in the default state directories."""
    return subprocess.run(
        [installation.command, *command],
        cwd=installation.directory,
        env=installation.environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def left(installation: Any) -> int:
    """Return how many firings wait in all state directories."""
    n = 0
    for file in (installation.directory / "xdg").glob("alarm-mw/*/outbox.db"):
        with closing(sqlite3.connect(file)) as database:
            n += int(database.execute("SELECT COUNT(*) FROM firings WHERE state = 'waiting'").fetchone()[0])
    return n


def test_deliver_delivers_what_programs_have_left(configured: Any) -> None:
    """By the configurations that they were started with; what cannot be delivered stays, and is named."""
    for n in range(2):
        run_in(configured, "run", *OPTIONS, "--", "echo", f"ALARM {n}")
    run_in(configured, "run", "--alarm", "b cmd:cat >> out.txt; test -e ok", "--log-alarm", "b ALARM", "--", "true")
    assert left(configured) == 2
    failed = run_in(configured, "deliver", "--wait", "0.5", "--strict")
    assert failed.returncode == 75
    assert failed.stderr.count("0 delivered, 1 still wait; `alarm-mw dead` lists them, and what went wrong") == 2
    let_receive(configured)
    done = run_in(configured, "deliver", "--strict")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(line.rpartition(": ")[2] for line in done.stdout.splitlines()) == ["1 delivered"] * 2
    assert sorted(received(configured).splitlines()) == ["ALARM 0", "ALARM 1"]
    assert run_in(configured, "deliver", "--strict").stdout == ""


def test_deliver_takes_a_configuration_and_a_directory(configured: Any) -> None:
    """For an outbox elsewhere, or whose configuration has gone; without it, the mistakes are printed."""
    configured.run(OPTIONS, "echo", "ALARM")
    (configured.directory / "alarm-mw.toml").rename(configured.directory / "other.toml")
    let_receive(configured)
    refused = run_in(configured, "deliver", "--state-dir", str(configured.state_dir), "--strict")
    assert refused.returncode == 75
    assert "alarm-mw.toml: cannot be read" in refused.stderr
    done = run_in(configured, "deliver", "--state-dir", str(configured.state_dir), "--config", "other.toml", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert received(configured) == "ALARM\n"


def test_the_next_master_delivers_what_others_have_left(configured: Any) -> None:
    """Whatever it runs itself, and by the configuration of the program that has ended."""
    run_in(configured, "run", *OPTIONS, "--", "echo", "ALARM left")
    let_receive(configured)
    (configured.directory / "server.toml").write_text(CONFIG.replace("ok", "never").replace("out.txt", "wrong.txt"))
    process = configured.start(("--config", "server.toml"), "sleep", "100")
    wait_until(lambda: received(configured) == "ALARM left\n")
    wait_until(lambda: left(configured) == 0)
    process.terminate()
    process.wait(60)
    assert not (configured.directory / "wrong.txt").exists()
