"""One master process: everything it runs, started and stopped in order."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from alarm_mw.config.load import load
from alarm_mw.config.sources import Sources
from alarm_mw.engine.screen import Screen
from alarm_mw.master.control import ControlServer, Status, status
from alarm_mw.master.link import Inheritance, StreamFds
from alarm_mw.master.reader import StreamReader
from alarm_mw.master.receiver import Receiver
from alarm_mw.master.runtime import Runtime
from alarm_mw.master.stream_state import StreamState
from alarm_mw.master.streams import StreamIntake
from alarm_mw.master.threads import start_thread
from alarm_mw.supervisor.plan import Plan
from alarm_mw.transports.places import control_path, screen_path

log = logging.getLogger(__name__)

#: Seconds for a thread to end that has been told to.
JOIN_TIMEOUT = 2.0


class MasterProcess:
    """Runs a plan with what the supervisor left. Raises `ConfigError` where the configuration went bad meanwhile."""

    def __init__(self, plan: Plan, inheritance: Inheritance) -> None:
        self._plan = plan
        self._link = inheritance.link
        self._streams = inheritance.streams
        self._state_dir = Path(str(plan.settings["state_dir"]))
        self._server_pid = _server_pid(self._link.hear())
        settings = load(Sources.from_dict(cast("Mapping[str, object]", plan.settings["sources"])), os.environ)
        self._runtime = Runtime(
            settings, outbox=self._state_dir / "outbox.db", write_log=write_stderr, server_pid=self._server_pid
        )
        self._receiver = Receiver(inheritance.listener, self._runtime.submit, self._link, inheritance.connections)
        self._control = ControlServer(Path(control_path(plan.socket)), self._status)
        self._readers: list[StreamReader] = []
        self._threads: list[threading.Thread] = []

    def run(self) -> None:
        """Work until the supervisor says stop, or has gone and the server's output is at its end."""
        self._runtime.start()
        screen = self._runtime.screen
        self._start_readers(screen)
        self._receiver.start()
        self._runtime.call(self._control.start())
        _publish(screen, Path(screen_path(self._plan.socket)))
        self._link.tell("ready")
        while words := self._link.hear():
            if words == ["stop"]:
                return
        for thread in self._threads:
            thread.join()
        Path(self._plan.socket).unlink(missing_ok=True)

    def close(self) -> None:
        """Stop everything, in the reverse order; deliver what is there, within the plan's time limit."""
        for reader in self._readers:
            reader.stop()
        for thread in self._threads:
            thread.join(JOIN_TIMEOUT)
        self._receiver.stop(self._plan.shutdown_timeout)
        self._runtime.call(self._control.stop())
        self._runtime.stop(self._plan.shutdown_timeout)
        Path(screen_path(self._plan.socket)).unlink(missing_ok=True)
        self._link.close()

    def _start_readers(self, screen: Screen) -> None:
        intake = StreamIntake(self._plan.run_id, self._runtime.submit)
        for stream in self._streams:
            reader = self._reader(stream, screen, intake)
            self._readers.append(reader)
            self._threads.append(start_thread(f"reader-{stream.name}", functools.partial(_read, reader, stream)))

    def _reader(self, stream: StreamFds, screen: Screen, intake: StreamIntake) -> StreamReader:
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


def _server_pid(words: list[str]) -> int | None:
    return int(words[1]) if words[:1] == ["server"] else None


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
