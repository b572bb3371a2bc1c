"""`heartbeat`, in programs of their own, as users write them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from waiting import LIMIT

from alarm_mw.testing import Alarms

CONFIG = """
[alarms.a]
action = "cmd"
command = "echo $ALARM_STATUS $ALARM_KEY >> out.txt"
[[monitors]]
monitor = "heartbeat"
name = "beats"
every = 0.1
grace = 0.1
alarms = "a"
"""

BEGIN = """
import alarm_mw, queue
from alarm_mw import signals
alarm_mw.init("alarm-mw.toml")
sent = queue.SimpleQueue()

@signals.delivered.connect
def note(alarm, firing):
    sent.put(firing)

"""


def run(directory: Path, program: str, config: str = CONFIG) -> subprocess.CompletedProcess[str]:
    (directory / "alarm-mw.toml").write_text(config)
    command = [sys.executable, "-c", BEGIN + program]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=2 * LIMIT, check=False)


def test_a_heartbeat_that_stops(tmp_path: Path) -> None:
    """It is an incident in process as well, and the next heartbeat ends it."""
    done = run(
        tmp_path,
        "print(alarm_mw.heartbeat('worker-1'))\nsent.get()\nalarm_mw.heartbeat('worker-1', every='1h')\nsent.get()\n",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
    told = (tmp_path / "out.txt").read_text().splitlines()
    assert told == ["firing heartbeat=worker-1", "resolved heartbeat=worker-1"]


def test_a_failure_is_told_at_once(tmp_path: Path) -> None:
    """The last heartbeat ends it, and none is expected any more."""
    program = (
        "alarm_mw.heartbeat('w', failed='disk full')\nsent.get()\nalarm_mw.heartbeat('w', last=True)\nsent.get()\n"
    )
    assert run(tmp_path, program).stderr == ""
    assert (tmp_path / "out.txt").read_text().splitlines() == ["firing heartbeat=w", "resolved heartbeat=w"]


def test_one_that_nobody_expects_is_named_once(tmp_path: Path) -> None:
    """The log says that the configuration does not have it."""
    config = CONFIG.replace("every = 0.1", 'every = 60\nnames = ["backup"]')
    done = run(tmp_path, "for _ in range(3): alarm_mw.heartbeat('nobody')\n", config)
    assert (
        done.stderr.count("the heartbeat 'nobody' came, which no monitor 'heartbeat' of the configuration expects") == 1
    )


@pytest.mark.parametrize(("name", "every"), [("two words", None), ("w", "soon"), ("", None)])
def test_a_mistake_harms_nobody(name: str, every: str | None, tmp_path: Path) -> None:
    """It returns False, and the log says what is wrong."""
    done = run(tmp_path, f"print(alarm_mw.heartbeat({name!r}, every={every!r}))\n")
    assert (done.returncode, done.stdout) == (0, "False\n")
    assert "heartbeat() could not send" in done.stderr


def test_heartbeats_are_no_lines() -> None:
    """No rule sees them, whatever their names."""
    import alarm_mw  # noqa: PLC0415  # as an application does

    with Alarms(log_alarms=["a ."]) as alarms:
        assert alarm_mw.heartbeat("TERRIBLE")
        assert not alarms.fired()
