"""Has delivered what other programs of this user have left, and looks for cron jobs that do not come."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from alarm_mw.app.launch.state import stopped_dirs
from alarm_mw.master.runtime.threads import start_thread
from alarm_mw.system.processes import tied

log = logging.getLogger(__name__)

#: Seconds between two looks for cron jobs that did not come, where there are any.
LOOK_EVERY = 60.0


class Leftovers:
    """Runs ``alarm-mw deliver`` where there is something to do in the directories of stopped programs."""

    def __init__(self, own: Path, environ: Mapping[str, str]) -> None:
        self._own, self._environ = own, environ
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look in a thread, which lives at least as long as the command that it starts."""
        self._thread = start_thread("leftovers", self._run)

    def stop(self, timeout: float) -> None:
        """Let the command end, for at most `timeout` seconds."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive() and self._process is not None:
                self._process.terminate()
                self._thread.join(timeout)

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # as below
            if next(stopped_dirs(self._environ), None) is None:
                return
        from alarm_mw.app.launch.one_off import has_jobs, to_deliver  # noqa: PLC0415  # where there are such directories

        while True:
            with contextlib.suppress(OSError):  # a directory that cannot be read
                if next(to_deliver(self._environ, self._own), None) is not None:
                    self._deliver()
                if not has_jobs(self._environ):
                    return
            if self._stopping.wait(LOOK_EVERY):
                return

    def _deliver(self) -> None:
        command = tied([sys.executable, "-P", "-m", "alarm_mw", "deliver", "--quiet"])
        try:
            self._process = subprocess.Popen(command, env=self._environ, stdin=subprocess.DEVNULL)
        except OSError as error:
            log.warning("what other programs have left is not delivered: %s", error)
            return
        self._process.wait()
