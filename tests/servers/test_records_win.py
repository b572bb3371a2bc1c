"""Where one event comes as a record and as printed lines, the alarm says what the record does."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from waiting import LIMIT

CONFIG = """
[[rules]]
pattern = "payment"
alarms = "a"

[alarms.a]
action = "cmd"
command = 'echo "$ALARM_SOURCE $ALARM_LEVEL $ALARM_LOGGER" > messages/$ALARM_ID; cat >> messages/$ALARM_ID'
limits = { for_humans = false }
"""

#: Two processes log 30 exceptions each, with the console's handler before ours or behind it.
SHOP = """
import logging, os, sys, time
import alarm_mw
log = logging.getLogger("shop")
console = logging.StreamHandler()
console.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
for worker in "ab":
    if not os.fork():
        handlers = [console, alarm_mw.AlarmHandler()]
        for handler in handlers if sys.argv[1] == "print" else reversed(handlers):
            log.addHandler(handler)
        for n in range(30):
            try:
                raise KeyError(n)
            except KeyError:
                log.exception("payment %s-%d failed", worker, n)
            time.sleep(n % 3 * 0.005)
        logging.shutdown()
        sys.exit()
os.wait(), os.wait()
"""


@pytest.mark.parametrize("first", ["print", "record"])
def test_the_record_is_what_the_alarm_says(installation: Any, first: str) -> None:
    """Of 60 exceptions that are logged and printed, each is one alarm, with its level, logger and whole traceback."""
    directory: Path = installation.directory
    (directory / "a.toml").write_text(CONFIG)
    (directory / "messages").mkdir()
    # Each alarm is a command: on a busy machine, all of them take longer than the time that a run gives them by itself.
    options = ("--config", "a.toml", "--wait", f"{LIMIT:g}s")
    run = installation.run(options, sys.executable, "-c", SHOP, first)
    assert run.stderr.count(b"payment") == 60
    told = [file.read_text().split("\n") for file in (directory / "messages").iterdir()]
    assert Counter(lines[0] for lines in told) == {"logging 40 shop": 60}
    assert {lines[1] for lines in told} == {f"payment {worker}-{n} failed" for worker in "ab" for n in range(30)}
    assert {(lines[2], lines[-2].partition(":")[0]) for lines in told} == {
        ("Traceback (most recent call last):", "KeyError")
    }
