"""The application's end: finds the master, or starts one in this process, and gives it records.

Importing this starts nothing. The first record decides: where ``ALARM_MW_SOCKET`` is in the environment, as under
``alarm-mw run``, records go to that master; else `init` starts a worker thread here; else, inside uWSGI, uWSGI's own
master gets them. A forked child begins anew.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from alarm_mw.errors import NotRunningError
from alarm_mw.transports.origin import in_alarm_code
from alarm_mw.transports.places import SOCKET_VARIABLE
from alarm_mw.transports.records import RecordMaker, to_bytes, to_text
from alarm_mw.transports.remote import RemoteClient
from alarm_mw.transports.uwsgi import UwsgiClient, find_uwsgi
from alarm_mw.transports.wire import MetricChange
from alarm_mw.types import Reason, Record

if TYPE_CHECKING:
    from alarm_mw.config.settings import Settings

log = logging.getLogger("alarm_mw")

#: Seconds that `shutdown` takes at most when the interpreter exits.
EXIT_TIMEOUT = 5.0

#: How many records are kept while the way to the master is being made.
MAX_EARLY = 1000


class Client(Protocol):
    """A way to a master."""

    def may_match(self, message: bytes) -> bool:
        """Return whether some rule may match; False is certain."""
        ...

    def submit(self, record: Record, alarm: str | None = None) -> bool:
        """Give a record to the master, or an alarm past the rules; return whether it was taken."""
        ...

    def count(self, source: str, column: str) -> None:
        """Count a line in one of the ledger's columns, without sending it."""
        ...

    def change_metric(self, change: MetricChange) -> bool:
        """Give a change of a metric to the master; return whether it was taken."""
        ...

    def metrics(self) -> dict[str, int]:
        """Return the application's metrics as the master has them; may block."""
        ...

    def prints_are_read(self) -> bool:
        """Return whether the master also sees what this process prints."""
        ...

    def shutdown(self, timeout: float) -> bool:
        """Deliver what was submitted; return whether that was done within `timeout` seconds."""
        ...

    def forget(self) -> None:
        """Let go, in a forked child, of what belongs to its parent."""
        ...


class _Nowhere:
    """No master, and `init` was not called: says so once, and drops."""

    def __init__(self) -> None:
        self._told = False

    def may_match(self, message: bytes) -> bool:  # noqa: ARG002  # a Client's
        return True

    def submit(self, record: Record, alarm: str | None = None) -> bool:  # noqa: ARG002  # a Client's
        return self._tell()

    def change_metric(self, change: MetricChange) -> bool:  # noqa: ARG002  # a Client's
        return self._tell()

    def metrics(self) -> dict[str, int]:
        raise NotRunningError("metrics are counted by a master: `alarm-mw run --`, or alarm_mw.init()")

    def _tell(self) -> bool:
        if not self._told:
            self._told = True
            log.warning("alarms go nowhere: start the server with `alarm-mw run --`, or call alarm_mw.init()")
        return False

    def count(self, source: str, column: str) -> None:
        pass  # there is no ledger to count in

    def prints_are_read(self) -> bool:
        return False

    def shutdown(self, timeout: float) -> bool:  # noqa: ARG002  # a Client's
        return True

    def forget(self) -> None:
        pass  # nothing is held


class _Early(_Nowhere):
    """Keeps what is submitted while another thread, or this one further up, is making the way to the master."""

    def __init__(self, process: _Process) -> None:
        super().__init__()
        self._process = process
        self._kept: deque[tuple[Record, str | None]] = deque()

    def submit(self, record: Record, alarm: str | None = None) -> bool:
        if len(self._kept) >= MAX_EARLY:
            return False
        self._kept.append((record, alarm))
        if self._process.client is not None:
            self.hand_over(self._process.client)
        return True

    def hand_over(self, client: Client) -> None:
        """Give what was kept to the client that is there now."""
        with contextlib.suppress(IndexError):  # another thread took the last one
            while self._kept:
                client.submit(*self._kept.popleft())


class _Process:
    """What this process knows of its master."""

    def __init__(self) -> None:
        self.client: Client | None = None
        self.settings: Settings | None = None
        self.records = RecordMaker()
        self.early = _Early(self)
        self.starting = threading.Lock()


_process = _Process()


def current() -> Client:
    """Return the way to the master, made at the first use. Neither raises nor waits for another thread."""
    if _process.records.pid != os.getpid():
        _after_fork_in_child()  # uWSGI forks its workers without telling Python
    return _process.client or _connect()


def _connect() -> Client:
    process = _process
    if not process.starting.acquire(blocking=False):
        return process.client or process.early
    try:
        if process.client is None:
            _set_client(process, _make_client_or_none(process))
        return process.client or process.early
    finally:
        process.starting.release()


def _make_client_or_none(process: _Process) -> Client:
    try:
        return _make_client(process)
    except Exception:  # a log call must not notice; what is wrong is said once
        log.exception("alarms go nowhere: the worker could not be started in this process")
        return _Nowhere()


def _set_client(process: _Process, client: Client) -> None:
    process.client = client
    process.early.hand_over(client)


def _make_client(process: _Process) -> Client:
    token = in_alarm_code.set(True)
    try:
        if path := os.environ.get(SOCKET_VARIABLE):
            attach()
            return RemoteClient(path)
        if process.settings is not None:
            return _start_local(process.settings)
        uwsgi = find_uwsgi()
        return _Nowhere() if uwsgi is None else UwsgiClient(uwsgi)
    finally:
        in_alarm_code.reset(token)


def attach() -> None:
    """Under a master, let this process's unbuffered prints go out line by line.

    Where ``PYTHONUNBUFFERED`` is set, as ``alarm-mw run`` does, Python writes a line and its newline apart, and the
    lines of several workers run into each other. Written whole, they do not. Half a line, printed without a newline,
    waits for its other half, as at a terminal.
    """
    stdout = sys.stdout
    if SOCKET_VARIABLE in os.environ and isinstance(stdout, io.TextIOWrapper) and stdout.write_through:
        stdout.reconfigure(line_buffering=True, write_through=False)
        # Else half a line would be printed by the child as well.
        os.register_at_fork(before=stdout.flush)


def _start_local(settings: Settings) -> Client:
    _deliver_at_the_end_of_a_worker()
    from alarm_mw.master.local import LocalClient  # noqa: PLC0415  # loads the master, which most processes never need

    return LocalClient(settings)


def _deliver_at_the_end_of_a_worker() -> None:
    """Let a process of `multiprocessing` deliver what it has: it ends without `atexit`."""
    if (multiprocessing := sys.modules.get("multiprocessing.util")) is not None:
        multiprocessing.Finalize(None, shutdown, exitpriority=100)


def init(  # noqa: PLR0913  # the keywords of one configuration
    config: str | Path | None = None,
    *,
    alarms: Mapping[str, str | Mapping[str, object]] | None = None,
    log_alarms: Sequence[str] = (),
    not_log_alarms: Sequence[str] = (),
    alarm_freq: float | None = None,
    alarm_msg_size: int | None = None,
) -> None:
    """Configure alarms for this process, and start a worker thread where there is no master.

    `config` is the path of a TOML or uWSGI ini file. `alarms` maps names to actions, as ``"plugin:options"`` or as a
    mapping like a TOML table; `log_alarms` are rules as ``"name[,name] regexp"``, and `not_log_alarms` exceptions to
    them, which are tried first. `alarm_freq` is in seconds, `alarm_msg_size` in bytes; None leaves the default or
    what the file says.

    Under ``alarm-mw run`` the master's own configuration counts: this one is checked and not used. A second call
    replaces the first configuration after delivering what it had. Raises `ConfigError` with every mistake found.
    May block for the time it takes to compile the rules. Call it from any thread, not from a signal handler.
    """
    from alarm_mw.config.load import from_keywords  # the configuration's machinery loads when needed  # noqa: PLC0415

    settings = from_keywords(
        config,
        alarms=alarms or {},
        log_alarms=log_alarms,
        not_log_alarms=not_log_alarms,
        alarm_freq=alarm_freq,
        alarm_msg_size=alarm_msg_size,
    )
    process = _process
    with process.starting:
        if process.client is not None:
            process.client.shutdown(EXIT_TIMEOUT)
            process.client = None
        process.settings = settings
        _set_client(process, _make_client(process))


def alarm(name: str, message: str | bytes) -> bool:
    """Fire the alarm `name` with `message`, past all rules, and return whether the master took it.

    Neither blocks nor raises; may be called from any thread and from signal handlers. An alarm that is not configured
    is counted by the master, and named in its log once. A `message` of another type is sent as its `str`.
    """
    try:
        data = bytes(message) if isinstance(message, (bytes, bytearray, memoryview)) else to_bytes(str(message))
        return current().submit(_process.records.make(data, source="api"), to_text(name))
    except Exception:  # what the application gives us must not harm it
        log.exception("alarm() could not send its message")
        return False


def submit_line(line: str, *, source: str, level: int | None = None, fields: Mapping[str, str] | None = None) -> bool:
    """Put a line to the rules as if it had been printed, and return whether the master took it.

    Neither blocks nor raises; may be called from anywhere. `source` names where it comes from, `level` is a number as
    in `logging`, `fields` are facts for the alarm's receiver.
    """
    try:
        return submit(to_bytes(line) + b"\n", source=source, level=level, fields=fields)
    except Exception:  # see alarm()
        log.exception("a line could not be put to the rules")
        return False


def submit(  # a record's facts  # noqa: PLR0913
    message: bytes,
    *,
    source: str,
    level: int | None = None,
    logger: str = "",
    fields: Mapping[str, str] | None = None,
    time: float | None = None,
    echoes: Callable[[], tuple[bytes, ...]] = tuple,
    loose_echo: tuple[bytes, ...] = (),
) -> bool:
    """Screen a record, and give it to the master if a rule may match it; return False when it was dropped.

    `time` is in seconds since the epoch, now by default. `echoes` is asked for the lines that will also be printed
    only when the record is sent to a master that reads them.
    """
    client = current()
    if not client.may_match(message):
        client.count(source, "lines")
        client.count(source, "screened_out")
        return True
    record = _process.records.make(
        message,
        source=source,
        level=level,
        logger=logger,
        fields=fields,
        time=time,
        echoes=echoes() if client.prints_are_read() else (),
        loose_echo=loose_echo,
    )
    return client.submit(record)


def skip(source: str, reason: Reason) -> None:
    """Count a record that the rules must not see."""
    client = current()
    client.count(source, "lines")
    client.count(source, f"skipped:{reason}")


def shutdown(timeout: float = EXIT_TIMEOUT) -> bool:
    """Deliver what was submitted, for at most `timeout` seconds, and stop; return whether everything was delivered.

    Runs by itself at interpreter exit. After it, `init` may be called again.
    """
    client, _process.client, _process.settings = _process.client, None, None
    return True if client is None else client.shutdown(timeout)


def capture_stdio() -> None:
    """Put everything that this process and its children print to the rules, and pass it on unchanged.

    Works on file descriptors 1 and 2, so that C extensions and child processes count too. Under ``alarm-mw run`` the
    master reads that output already, and nothing is done. Raises `NotRunningError` where `init` was not called before.
    Undone by `shutdown`.
    """
    client = current()
    if not client.prints_are_read():
        from alarm_mw.master.local import capture  # noqa: PLC0415  # see _start_local

        capture(client)


def _after_fork_in_child() -> None:
    """Begin anew: the parent's threads do not exist here, and its locks may be held for ever."""
    global _process  # the one state of this process
    inherited, _process = _process, _Process()
    _process.settings = inherited.settings
    if inherited.client is not None:
        inherited.client.forget()


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(shutdown)
