"""In a process that is its own master, the log record is what the alarm says, not the lines printed for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from waiting import LIMIT

PROGRAM = """
import logging, sys
import alarm_mw
command = 'echo "$ALARM_SOURCE $ALARM_LEVEL" >> told.txt'
alarm = {"action": "cmd", "command": command, "limits": {"for_humans": False}}
alarm_mw.init(alarms={"a": alarm}, log_alarms=["a payment"])
alarm_mw.capture_stdio()
log = logging.getLogger("shop")
handlers = [logging.StreamHandler(), alarm_mw.AlarmHandler()]
for handler in handlers if sys.argv[1] == "print" else reversed(handlers):
    log.addHandler(handler)
for n in range(20):
    log.error("payment %d failed", n)
print("payment by print")
"""


@pytest.mark.parametrize("first", ["print", "record"])
def test_the_record_is_what_the_alarm_says(tmp_path: Path, first: str) -> None:
    """Whichever handler is first, a log call is one alarm, of the record, and a print without a record is one too."""
    command = [sys.executable, "-c", PROGRAM, first]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=2 * LIMIT)
    told = sorted((tmp_path / "told.txt").read_text().splitlines())
    assert told == [*["logging 40"] * 20, "stdout "]
