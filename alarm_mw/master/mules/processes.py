"""Starts the mules' processes, and starts each one again when it ends."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

from alarm_mw.master.link import environ_of_start
from alarm_mw.master.runtime.threads import start_thread
from alarm_mw.model.interfaces import Execution
from alarm_mw.system.permissions import descends

log = logging.getLogger(__name__)

#: A mule that ends sooner, in seconds, is started again after a pause that doubles from the first to the last.
EARLY = 1.0
PAUSE_FIRST = 0.1
PAUSE_MAX = 5.0

_INHERITED = Execution()

#: Seconds from SIGTERM to SIGKILL.
STOP_PATIENCE = 2.0


class Mules:
    """The processes of the programs, numbered from 1. An empty program is a mule that only handles signals."""

    def __init__(self, programs: Sequence[str], environ: Mapping[str, str], execution: Execution = _INHERITED) -> None:
        self._env = environ_of_start(environ)
        self._mules = self._made(programs, execution)

    def start(self) -> None:
        """Start them all."""
        for mule in self._mules:
            mule.start()

    def stop(self) -> None:
        """End them all: SIGTERM, and SIGKILL after two seconds."""
        _stop(self._mules)

    def exchange(self, programs: Sequence[str], execution: Execution = _INHERITED) -> int:
        """Run these programs from now on, and return how many had to be ended or started for that.

        A mule whose number and program stay the same, and what it runs as, goes on.
        """
        made = self._made(programs, execution)
        pairs = zip(self._mules, made, strict=False)
        kept = {mule.number: mule for mule, fresh in pairs if mule.is_like(fresh)}
        ended = [mule for mule in self._mules if mule.number not in kept]
        started = [mule for mule in made if mule.number not in kept]
        _stop(ended)
        self._mules = [kept.get(mule.number, mule) for mule in made]
        for mule in started:
            mule.start()
        return len({mule.number for mule in (*ended, *started)})

    def number_of(self, pid: int) -> int:
        """Return the number of the mule that a process is, or descends from; 0 for none. Safe in any thread."""
        for mule in self._mules:
            own = mule.pid()
            if own and (pid == own or descends(pid, own)):
                return mule.number
        return 0

    def _made(self, programs: Sequence[str], execution: Execution) -> list[_Mule]:
        return [_Mule(number, program, self._env, execution) for number, program in enumerate(programs, 1)]


def _stop(mules: Sequence[_Mule]) -> None:
    deadline = time.monotonic() + STOP_PATIENCE
    for mule in mules:
        mule.send(signal.SIGTERM)
    for mule in mules:
        mule.join(deadline)


class _Mule:
    """One mule. The thread that starts its processes waits for them: the kernel ties their lives to this thread."""

    def __init__(self, number: int, program: str, env: Mapping[str, str], execution: Execution) -> None:
        self.number = number
        self.program = program
        self.execution = execution
        self._env = execution.environment(env)
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._starting = threading.Lock()

    def pid(self) -> int:
        """Return the process that runs, also one that has only just been started; 0 for none."""
        with self._starting:
            process = self._process
        return process.pid if process is not None and process.returncode is None else 0

    def is_like(self, other: _Mule) -> bool:
        return (self.program, self.execution) == (other.program, other.execution)

    def start(self) -> None:
        self._thread = start_thread(f"mule-{self.number}", self._supervise)

    def send(self, number: int) -> None:
        """Start no other process, and send this one a signal."""
        with self._starting:
            self._stopping.set()
            if self._process is not None:
                self._process.send_signal(number)

    def join(self, deadline: float) -> None:
        if self._thread is None:
            return
        self._thread.join(max(deadline - time.monotonic(), 0.0))
        if self._thread.is_alive():
            self.send(signal.SIGKILL)
            self._thread.join()

    def _supervise(self) -> None:
        failures = 0
        while not self._stopping.wait(pause(failures)):
            began = time.monotonic()
            how = self._run_once()
            if self._stopping.is_set():
                return
            failures = 0 if time.monotonic() - began >= EARLY else failures + 1
            log.warning("mule %d %s, and is started again", self.number, how)

    def _run_once(self) -> str:
        """Run a process to its end, and return how it ended."""
        command = [
            sys.executable,
            "-P",
            "-m",
            "alarm_mw.app.workers.mule",
            str(self.number),
            str(os.getpid()),
            self.program,
        ]
        try:
            with self._starting:
                if self._stopping.is_set():
                    return ""
                self._process = subprocess.Popen(
                    command, env=self._env, stdin=subprocess.DEVNULL, **self.execution.popen_options()
                )
        except OSError as error:
            return f"cannot be started ({error})"
        return f"(pid {self._process.pid}) {ending(self._process.wait())}"


def pause(failures: int) -> float:
    """Return the seconds before the next start after so many processes in a row that ended early."""
    return min(PAUSE_FIRST * 2.0 ** (failures - 1), PAUSE_MAX) if failures else 0.0


def ending(returncode: int) -> str:
    """Return how a process ended, in words; `returncode` as in `subprocess`."""
    if returncode >= 0:
        return f"ended with status {returncode}"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:  # real-time signals have numbers only
        return f"was killed by signal {-returncode}"
