"""Heartbeats of a running server: from its code, from cron, and over kills of the master."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

CONFIG = """
[alarms.told]
action = "cmd"
command = "echo $ALARM_STATUS $ALARM_KEY >> told.txt"
[[monitors]]
monitor = "heartbeat"
name = "beats"
every = "1h"
grace = 0.2
names = ["backup", "worker-*"]
alarms = "told"
"""

PROGRAM = """
import sys, alarm_mw
for line in sys.stdin:
    print(alarm_mw.heartbeat("worker-1", every=float(line)), flush=True)
"""


def test_heartbeats_of_a_server(installation: Any, until: Callable[..., None]) -> None:
    """From code and from the command line; what was written down is expected by the next master as well."""
    (installation.directory / "alarms.toml").write_text(CONFIG)
    told = installation.directory / "told.txt"

    def lines() -> list[str]:
        return told.read_text().splitlines() if told.exists() else []

    def beat(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [installation.command, "heartbeat", *arguments, "--state-dir", str(installation.state_dir)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, env=installation.environ
        )

    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with installation.start(["--config", "alarms.toml"], sys.executable, "-c", PROGRAM, **pipes) as server:
        server.stdin.write(b"0.2\n")
        server.stdin.flush()
        assert server.stdout.readline() == b"True\n"
        until(lambda: lines() == ["firing heartbeat=worker-1"])
        server.stdin.write(b"3600\n")
        server.stdin.flush()
        until(lambda: lines()[1:] == ["resolved heartbeat=worker-1"])
        assert beat("backup", "--fail", "--message", "no space left").returncode == 0
        until(lambda: lines()[2:] == ["firing heartbeat=backup"])
        unknown = beat("nobody")
        assert (unknown.returncode, unknown.stderr) == (2, "alarm-mw: no monitor 'heartbeat' expects 'nobody'\n")
        assert "without blanks" in beat("two words").stderr
        assert beat("backup", "--message", "x").returncode == 2
        assert beat("backup", "--every", "1s", "--grace", "2s").returncode == 0
        until(lambda: lines()[3:] == ["resolved heartbeat=backup"])
        killed = installation.status()["pid"]
        os.kill(killed, signal.SIGKILL)
        until(lambda: installation.status().get("pid", killed) != killed)
        until(lambda: lines()[4:] == ["firing heartbeat=backup"])
        assert beat("backup", "--last").returncode == 0
        until(lambda: lines()[5:] == ["resolved heartbeat=backup"])
        assert installation.status()["imbalances"] == []
        server.terminate()
