"""A clock that jumps: of all processes below ``alarm-mw run``, by Debian's libfaketime; the machine's stays right."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from faults.ground import Ground
from faults.receiver import Receiver
from faults.row import Row, judge

LIBRARY = Path(f"/usr/lib/{os.uname().machine}-linux-gnu/faketime/libfaketime.so.1")

HOUR = 3600


class Clock:
    """The time of day as processes with its environment see it: the real one, moved by what a file says."""

    def __init__(self, file: Path) -> None:
        assert LIBRARY.exists(), "please install: apt-get install libfaketime"
        self._file = file
        self.environ = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.move(0)

    def move(self, seconds: int) -> None:
        """Move it to so many seconds after the real time, for processes that run already, too."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.replace(self._file)
        seen = subprocess.run(["date", "+%s"], env=os.environ | self.environ, capture_output=True, check=True).stdout
        assert abs(int(seen) - time.time() - seconds) < HOUR / 2, "the clock does not move"


def jumps(folder: Path, times: int) -> list[Row]:
    """Let the clock jump while a receiver is down, and masters are killed: nothing is given up, or told again."""
    folder.mkdir()
    clock = Clock(folder / "clock")
    with contextlib.closing(Receiver()) as hook:
        ground = Ground(folder, {"a": hook.url})
        ground.environ.update(clock.environ)
        with ground.running():
            for n in range(times):
                ground.ready()
                ground.raise_alarms()
                clock.move(HOUR if n % 2 == 0 else -HOUR)
                ground.raise_alarms()
                if n % 4 in (
                    0,
                    3,
                ):  # of those each way, one jump each way is between two masters, the others are within one
                    os.kill(ground.ready(), signal.SIGKILL)
                    ground.ready()
                ground.raise_alarms()
                clock.move(0)
                ground.raise_alarms()
            hook.up()
            hook.wait_for(ground.accepted, "all that was accepted", ground.counted)
        return [judge("clock an hour forwards and back", times, ground.outbox(), ground.accepted, hook.received)]
