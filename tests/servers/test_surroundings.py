"""The lines around a match under ``alarm-mw run``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONFIG = """
[[rules]]
pattern = "boom"
alarms = "a"
context = { before = 2, after = 2 }

[alarms.a]
action = "cmd"
command = "cat >> messages; echo >> messages"
text = "{message}\\n{context}"
limits = { for_humans = false }
"""

PROGRAM = """
import sys
print("1\\n2\\n3\\nboom", flush=True)
sys.stdin.readline()
print("4\\n5\\n6", flush=True)
sys.stdin.readline()
"""


def test_a_hit_that_waits_survives_its_master(installation: Any, until: Callable[..., None]) -> None:
    """If the master is killed while a hit waits for the lines after it, the next master sends it, once."""
    directory: Path = installation.directory
    (directory / "a.toml").write_text(CONFIG)
    with (directory / "output").open("wb") as output:
        server = installation.start(("--config", "a.toml"), sys.executable, "-c", PROGRAM, stdin=-1, stdout=output)
    until(lambda: b"boom" in (directory / "output").read_bytes())
    (master,) = installation.masters(server.pid)
    os.kill(master, signal.SIGKILL)
    server.stdin.write(b"\n")
    server.stdin.flush()
    until(lambda: b"6" in (directory / "output").read_bytes())
    server.communicate(b"\n", timeout=60)
    told = (directory / "messages").read_text()
    assert told.count("boom") == 1
    assert told.startswith("boom\nbefore it:\n  2\n  3\n")
