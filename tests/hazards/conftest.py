"""Programs in bad circumstances, under ``alarm-mw run`` and as their own master."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from waiting import LIMIT

from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.engine.ledger import Books, imbalances

LOGGING = """
import logging, os, sys
import alarm_mw
logger = logging.getLogger("app")
logger.setLevel("DEBUG")
logger.propagate = False
logger.addHandler(alarm_mw.AlarmHandler())
"""
INIT = "alarm_mw.init(alarms={'a': 'log:'}, log_alarms=['a TERRIBLE'], alarm_freq=0)\n"


class Hazard:
    """Runs programs that log; what matches TERRIBLE fires an alarm that is written to standard error."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._state_dir = directory / "state"
        self._command = str(Path(sys.executable).with_name("alarm-mw"))
        self._printed = ""
        #: The program's own standard error, and that of the master.
        self.errors = ""

    def supervised(
        self, program: str, *, first: str = "", prefix: Sequence[str] = (), options: Sequence[str] = ()
    ) -> str:
        """Run a program under ``alarm-mw run``, with the imports and the handler before it; return what it printed."""
        rules = ["--alarm", "a log:", "--not-log-alarm", "a noise", "--log-alarm", "a TERRIBLE", "--alarm-freq", "0"]
        where = ["--state-dir", str(self._state_dir)]
        return self._run([*prefix, self._command, "run", *where, *rules, *options, "--"], first + LOGGING + program)

    def alone(self, program: str, *, first: str = "", prefix: Sequence[str] = ()) -> str:
        """Run a program that is its own master; return what it printed."""
        return self._run(prefix, first + LOGGING + INIT + program)

    def _run(self, before: Sequence[str], program: str) -> str:
        file = self._directory / "program.py"
        file.write_text(program)
        done = subprocess.run(
            [*before, sys.executable, str(file)],
            cwd=self._directory,
            env={**os.environ, "HOME": str(self._directory)},
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        self.errors = done.stderr
        assert done.returncode == 0, done.stderr[-5000:]
        return done.stdout

    def fired(self) -> list[str]:
        """Return the messages of all firings, in their order."""
        return [line.partition("ALARM: ")[2] for line in self.errors.splitlines() if "ALARM: " in line]

    def books(self) -> Books:
        """Return the ledger of ``alarm-mw run``, whose equations hold."""
        outbox = Outbox(self._state_dir / "outbox.db")
        books, waiting = outbox.ledger.books(), outbox.count_waiting()
        outbox.close()
        assert imbalances(books, waiting) == []
        return books


@pytest.fixture
def hazard(tmp_path: Path) -> Hazard:
    return Hazard(tmp_path)
