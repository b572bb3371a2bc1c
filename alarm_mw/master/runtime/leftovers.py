"""Has delivered what other programs of this user have left: once, when a master starts."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from alarm_mw.app.launch.state import left_behind
from alarm_mw.master.runtime.threads import start_thread
from alarm_mw.system.processes import tied

log = logging.getLogger(__name__)


class Leftovers:
    """Runs ``alarm-mw deliver`` where something waits in the directories of stopped programs."""

    def __init__(self, own: Path, environ: Mapping[str, str]) -> None:
        self._own, self._environ = own, environ
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look for something in a thread, which lives as long as the command that it starts."""
        self._thread = start_thread("leftovers", self._run)

    def stop(self, timeout: float) -> None:
        """Let the command end, for at most `timeout` seconds."""
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive() and self._process is not None:
                self._process.terminate()
                self._thread.join(timeout)

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # a directory that cannot be read
            if next(left_behind(self._environ, self._own), None) is None:
                return
        command = tied([sys.executable, "-P", "-m", "alarm_mw", "deliver", "--quiet"])
        try:
            self._process = subprocess.Popen(command, env=self._environ, stdin=subprocess.DEVNULL)
        except OSError as error:
            log.warning("what other programs have left is not delivered: %s", os.strerror(error.errno or 0))
            return
        self._process.wait()
