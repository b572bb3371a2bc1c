"""One master process: everything it runs, started and stopped in order."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from alarm_mw.config.snapshot import from_json
from alarm_mw.engine.screen import Screen
from alarm_mw.master.control import ControlServer, Status, status
from alarm_mw.master.link import Inheritance, StreamFds
from alarm_mw.master.reader import StreamReader
from alarm_mw.master.receiver import Receiver
from alarm_mw.master.runtime import Runtime
from alarm_mw.master.stream_state import STATE_SIZE, StreamState
from alarm_mw.master.streams import StreamIntake
from alarm_mw.master.threads import start_thread
from alarm_mw.supervisor.plan import Plan
from alarm_mw.transports.places import control_path, screen_path

log = logging.getLogger(__name__)

#: Seconds for a thread to end that has been told to.
JOIN_TIMEOUT = 2.0


class MasterProcess:
    """Runs a plan with what the supervisor left. The plan's settings were checked before."""

    def __init__(self, plan: Plan, inheritance: Inheritance) -> None:
        self._plan = plan
        self._link = inheritance.link
        self._streams = inheritance.streams
        self._state_dir = Path(str(plan.settings["state_dir"]))
        self._server_pid: int | None = None
        self._obey(self._link.hear())
        settings = from_json(cast("Mapping[str, object]", plan.settings["settings"]))
        self._runtime = Runtime(
            settings, outbox=self._state_dir / "outbox.db", write_log=write_stderr, server_pid=self._server_pid
        )
        self._receiver = Receiver(inheritance.listener, self._runtime.submit, self._link, inheritance.connections)
        self._control = ControlServer(Path(control_path(plan.socket)), self._status)
        self._readers: list[StreamReader] = []
        self._threads: list[threading.Thread] = []
        #: Stops what was started.
        self._steps = contextlib.ExitStack()
        self._deadline = math.inf

    def run(self) -> None:
        """Work until the supervisor says stop, or has gone and the server's output is at its end."""
        self._start()
        self._link.tell("ready")
        while words := self._link.hear():
            if words == ["stop"]:
                return
            self._obey(words)
        for thread in self._threads:
            thread.join()
        Path(self._plan.socket).unlink(missing_ok=True)

    def close(self) -> None:
        """Stop everything, in the reverse order; deliver what is there, within the plan's time limit.

        A step that fails keeps no other from being taken; its exception is raised at the end.
        """
        self._deadline = time.monotonic() + self._plan.shutdown_timeout
        self._steps.close()

    def _left(self) -> float:
        """Return the seconds that are left until the plan's time limit."""
        return max(0.0, self._deadline - time.monotonic())

    def _obey(self, words: list[str]) -> None:
        """Take in the supervisor's news; of what it may say besides, nothing matters here."""
        match words:
            case ["server", pid] if pid.isdecimal():
                self._server_pid = int(pid)

    def _start(self) -> None:
        """Start everything; readers and receiver are what is stopped first."""
        screen = self._runtime.screen
        self._steps.callback(self._link.close)
        self._runtime.start()
        self._steps.callback(lambda: self._runtime.stop(self._left()))
        self._runtime.call(self._control.start())
        self._steps.callback(lambda: self._runtime.call(self._control.stop(self._left())))
        self._steps.callback(self._stop_readers)
        self._start_readers(screen)
        self._receiver.start()
        self._steps.callback(lambda: self._receiver.stop(self._left()))
        published = Path(screen_path(self._plan.socket))
        self._steps.callback(published.unlink, missing_ok=True)
        _publish(screen, published)

    def _start_readers(self, screen: Screen) -> None:
        intake = StreamIntake(self._plan.run_id, self._runtime.submit)
        for stream in self._streams:
            reader = self._reader(stream, screen, intake)
            self._readers.append(reader)
            self._threads.append(start_thread(f"reader-{stream.name}", functools.partial(_read, reader, stream)))

    def _stop_readers(self) -> None:
        for reader in self._readers:
            reader.stop()
        for thread in self._threads:
            thread.join(min(JOIN_TIMEOUT, self._left()))

    def _reader(self, stream: StreamFds, screen: Screen, intake: StreamIntake) -> StreamReader:
        os.truncate(stream.state, STATE_SIZE)  # empty where no master was before, else of this size already
        return StreamReader(
            stream.name,
            stream.source,
            stream.sink,
            screen=screen,
            hand_over=intake,
            state=StreamState.from_fd(stream.state),
            on_end=lambda name: self._link.tell("eof", name),
            on_broken=lambda name, _: self._link.tell("broken", name),
        )

    def _status(self) -> Status:
        return status(self._runtime, str(self._state_dir), self._server_pid)


def _read(reader: StreamReader, stream: StreamFds) -> None:
    """Read a stream; behind its end, nothing of it stays open here: a broken pipe must reach the server."""
    reader.run()
    os.close(stream.source)
    os.close(stream.sink)


def _publish(screen: Screen, path: Path) -> None:
    """Write the compiled screen where the application's processes look for it; whole, or not at all."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        fresh.write_bytes(screen.dumps())
        fresh.replace(path)
    except OSError as error:
        log.warning("the screen cannot be published, every record will be sent: %s", error)
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)


def write_stderr(data: bytes) -> None:
    """Write all of it to the standard error, past Python's buffers; a log that has gone does not matter."""
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(2, data) :]
