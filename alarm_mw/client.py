"""The application's end: finds the master, or starts one in this process, and gives it records.

Importing this starts nothing. The first record decides: where ``ALARM_MW_SOCKET`` is in the environment, as under
``alarm-mw run``, records go to that master; else `init` starts a worker thread here. A forked child begins anew.
"""

from __future__ import annotations

import atexit
import io
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from alarm_mw.transports.places import SOCKET_VARIABLE
from alarm_mw.transports.records import RecordMaker, to_bytes
from alarm_mw.transports.remote import RemoteClient
from alarm_mw.types import Reason, Record

if TYPE_CHECKING:
    from alarm_mw.config.settings import Settings

log = logging.getLogger("alarm_mw")

#: Seconds that `shutdown` takes at most when the interpreter exits.
EXIT_TIMEOUT = 5.0


class Client(Protocol):
    """A way to a master."""

    def may_match(self, message: bytes) -> bool:
        """Return whether some rule may match; False is certain."""
        ...

    def submit(self, record: Record, alarm: str = "") -> bool:
        """Give a record to the master, or an alarm past the rules; return whether it was taken."""
        ...

    def count(self, source: str, column: str) -> None:
        """Count a line in one of the ledger's columns, without sending it."""
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

    def may_match(self, message: bytes) -> bool:  # a Client's  # noqa: ARG002
        return True

    def submit(self, record: Record, alarm: str = "") -> bool:  # a Client's  # noqa: ARG002
        if not self._told:
            self._told = True
            log.warning("alarms go nowhere: start the server with `alarm-mw run --`, or call alarm_mw.init()")
        return False

    def count(self, source: str, column: str) -> None:
        pass  # there is no ledger to count in

    def prints_are_read(self) -> bool:
        return False

    def shutdown(self, timeout: float) -> bool:  # a Client's  # noqa: ARG002
        return True

    def forget(self) -> None:
        pass  # nothing is held


class _Process:
    """What this process knows of its master."""

    def __init__(self) -> None:
        self.client: Client | None = None
        self.settings: Settings | None = None
        self.records = RecordMaker()
        self.starting = threading.Lock()


_process = _Process()


def current() -> Client:
    """Return the way to the master, made at the first use. Neither raises nor waits for another thread."""
    return _process.client or _connect()


def _connect() -> Client:
    """Decide for a way; a thread that comes while another one decides drops its record rather than wait."""
    if not _process.starting.acquire(blocking=False):
        return _process.client or _Nowhere()
    try:
        if _process.client is None:
            _process.client = _make_client()
        return _process.client
    finally:
        _process.starting.release()


def _make_client() -> Client:
    if path := os.environ.get(SOCKET_VARIABLE):
        attach()
        return RemoteClient(path)
    if _process.settings is not None:
        return _start_local(_process.settings)
    return _Nowhere()


def attach() -> None:
    """Under a master, let this process's unbuffered prints go out line by line.

    Where ``PYTHONUNBUFFERED`` is set, as ``alarm-mw run`` does, Python writes a line and its newline apart, and the
    lines of several workers run into each other. Written whole, they do not.
    """
    stdout = sys.stdout
    if SOCKET_VARIABLE in os.environ and isinstance(stdout, io.TextIOWrapper) and stdout.write_through:
        stdout.reconfigure(line_buffering=True, write_through=False)


def _start_local(settings: Settings) -> Client:
    from alarm_mw.master.local import LocalClient  # noqa: PLC0415  # loads the master, which most processes never need

    return LocalClient(settings)


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
    shutdown()
    _process.settings = settings
    _process.client = _make_client()


def alarm(name: str, message: str | bytes) -> bool:
    """Fire the alarm `name` with `message`, past all rules, and return whether the master took it.

    Neither blocks nor raises; may be called from any thread and from signal handlers. An alarm that is not configured
    is counted by the master, and named in its log once.
    """
    data = message if isinstance(message, bytes) else to_bytes(message)
    return current().submit(_process.records.make(data, source="api"), name)


def submit_line(line: str, *, source: str, level: int | None = None, fields: Mapping[str, str] | None = None) -> bool:
    """Put a line to the rules as if it had been printed, and return whether the master took it.

    Neither blocks nor raises; may be called from anywhere. `source` names where it comes from, `level` is a number as
    in `logging`, `fields` are facts for the alarm's receiver.
    """
    return submit(to_bytes(line) + b"\n", source=source, level=level, fields=fields)


def submit(  # a record's facts  # noqa: PLR0913
    message: bytes,
    *,
    source: str,
    level: int | None = None,
    logger: str = "",
    fields: Mapping[str, str] | None = None,
    time: float | None = None,
    echoes: Callable[[], tuple[bytes, ...]] = tuple,
    loose_echo: bytes = b"",
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
