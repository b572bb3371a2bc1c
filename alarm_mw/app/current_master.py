"""What this process knows of its master: the client, made at the first use, and again in a forked child.

Importing this starts nothing. The first record decides: where ``ALARM_MW_SOCKET`` is in the environment, as under
``alarm-mw run``, records go to that master; else what `configure` was given starts a worker thread here; else, inside
uWSGI, uWSGI's own master gets them.
"""

from __future__ import annotations

import atexit
import io
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from alarm_mw.app.middleware import request_watchdog
from alarm_mw.model.origin import in_alarm_code
from alarm_mw.system.forks import held_off
from alarm_mw.transports.client import Client, Early, Late, Nowhere
from alarm_mw.transports.places import SOCKET_VARIABLE
from alarm_mw.transports.records import RecordMaker
from alarm_mw.transports.remote import RemoteClient
from alarm_mw.transports.uwsgi import UwsgiClient, find_uwsgi

if TYPE_CHECKING:
    from alarm_mw.config.settings import Settings


log = logging.getLogger("alarm_mw")


def attach() -> None:
    """Under a master, let it know that this process may send records, and let its prints go out line by line.

    The master then waits a moment for the record of which a printed line may be the echo.
    """
    global _attached  # noqa: PLW0603  # of this process, and of those that it forks
    _attached = True
    buffer_lines()
    if SOCKET_VARIABLE in os.environ and isinstance(client := current(), RemoteClient):
        client.greet()


def buffer_lines() -> None:
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


#: Whether a source of records was made in this process.
_attached = False

#: Seconds that `shutdown` takes at most when the interpreter exits.
EXIT_TIMEOUT = 5.0

#: Seconds that `configure` waits for a start that may need what its caller holds.
START_PATIENCE = 1.0


class Process:
    """One process: what was forked has another one."""

    def __init__(self) -> None:
        self.client: Client | None = None
        self.settings: Settings | None = None
        self.records = RecordMaker()
        self.early = Early(lambda: self.client)
        self.starting = threading.Lock()
        #: Whether a worker thread that is started here is to read what is printed.
        self.reads_prints = False
        #: What `configure` does instead, in a test.
        self.configure: Callable[[Settings], None] | None = None


#: The one state of this process.
this = Process()


def current() -> Client:
    """Return the way to the master, made at the first use. Neither raises nor waits for another thread."""
    return this.client or _connect(this)


def _current_in_uwsgi() -> Client:
    """Return the same in uWSGI, which starts before the application, and forks its workers unknown to Python."""
    if this.records.pid != os.getpid():
        _after_fork_in_child()
    return this.client or _connect(this)


if "uwsgi" in sys.modules:
    current = _current_in_uwsgi


def configure(settings: Settings, *, starts: bool = True) -> None:
    """Start a worker thread with these settings where there is no master; deliver what an earlier one has before.

    One that runs with equal settings goes on; one that reads what is printed is followed by one that does. Blocks for
    the time that it takes; raises what the start raises. Where `starts` is False, the first record starts it, or, where
    prints are to be read, a thread that is waited for `START_PATIENCE` at most: the caller may hold a lock that the
    start needs, as `dictConfig` holds that of `logging`.
    """
    process = this
    if process.configure is not None:
        process.configure(settings)
        return
    if not starts and settings == process.settings:
        return  # not even waiting for who is starting with them
    with process.starting:
        if process.client is not None and settings == process.settings:
            return
        # What comes meanwhile is kept for the next one.
        former, process.client = process.client, None
        if former is not None:
            former.shutdown(EXIT_TIMEOUT)
        process.settings = settings
        if starts:
            _set_client(process, _make_client(process))
    if SOCKET_VARIABLE not in os.environ:  # else they are not used
        for warning in settings.warnings:
            log.warning("%s", warning)
    if process.reads_prints and not starts:
        starter = threading.Thread(target=_start_after_others, name="alarm-mw-starter", daemon=True)
        starter.start()
        starter.join(START_PATIENCE)


def _start_after_others() -> None:
    logging.getLogger(log.name)  # waits for the end of `dictConfig`
    current()


def read_prints() -> None:
    """Have what this process prints read, unless that is done; `NotRunningError` where no configuration was given."""
    client = current()
    if not client.prints_are_read():
        _capture(client)
        this.reads_prints = True


def _capture(client: Client) -> None:
    from alarm_mw.app.local_master import capture  # noqa: PLC0415  # see _start_local

    capture(client, lambda: _attached)


def prepare(settings: Settings) -> None:
    """Let the first record start a worker thread with these settings, here or in a forked child; start nothing now."""
    process = this
    with process.starting:
        process.settings = settings
        if isinstance(process.client, Nowhere):
            process.client = None


def decline() -> None:
    """Let records go nowhere in this process without a word, unless something is configured after all."""
    process = this
    with process.starting:
        if process.client is None:
            process.client = Nowhere(has_logged=True)


def shutdown(timeout: float = EXIT_TIMEOUT) -> bool:
    """Deliver what was submitted, for at most `timeout` seconds, and stop; return whether everything was delivered.

    Runs by itself at interpreter exit. After it, `init` may be called again.
    """
    if this.configure is not None:
        return True
    request_watchdog.stop()
    client, this.client, this.settings, this.reads_prints = this.client, None, None, False
    return True if client is None else client.shutdown(timeout)


def _at_exit() -> None:
    """Deliver what there is, and be ready for what others log at their own end; `multiprocessing` calls it as well."""
    process, client, settings = this, this.client, this.settings
    if settings is None:
        shutdown()
    elif not isinstance(client, Late):
        # Before anything else: other threads may be logging.
        process.client = Late(lambda: _start_local(settings), EXIT_TIMEOUT)
        request_watchdog.stop()
        if client is not None:
            client.shutdown(EXIT_TIMEOUT)


def stand_in(configure: Callable[[Settings], None]) -> Process:
    """Start with a fresh state, for a test: settings go to `configure` only. Return the state for `put_back`."""
    global this  # see _after_fork_in_child
    before, this = this, Process()
    this.configure = configure
    return before


def put_back(before: Process) -> None:
    """Restore the state that `stand_in` returned."""
    global this  # noqa: PLW0603  # see _after_fork_in_child
    this = before


def _connect(process: Process) -> Client:
    if not process.starting.acquire(blocking=False):
        return process.client or process.early
    try:
        if process.client is None:
            _set_client(process, _make_client_or_none(process))
        return process.client or process.early
    finally:
        process.starting.release()


def _make_client_or_none(process: Process) -> Client:
    try:
        return _make_client(process)
    except Exception:  # a log call must not notice; what is wrong is said once
        log.exception("alarms go nowhere: the worker could not be started in this process")
        return Nowhere()


def _set_client(process: Process, client: Client) -> None:
    process.client = client
    process.early.hand_over(client)


def _make_client(process: Process) -> Client:
    token = in_alarm_code.set(True)
    try:
        if path := os.environ.get(SOCKET_VARIABLE):
            buffer_lines()
            return RemoteClient(path)
        if process.settings is not None:
            client = _start_local(process.settings)
            if process.reads_prints:
                _capture_again(process, client)
            return client
        uwsgi = find_uwsgi()
        return Nowhere() if uwsgi is None else UwsgiClient(uwsgi)
    finally:
        in_alarm_code.reset(token)


def _capture_again(process: Process, client: Client) -> None:
    try:
        _capture(client)
    except OSError as error:  # such as too many open files; what is logged raises alarms all the same
        process.reads_prints = False
        log.error("printed lines no longer raise alarms: %s", error)


def _start_local(settings: Settings) -> Client:
    _deliver_at_the_end_of_a_worker()
    with held_off():
        from alarm_mw.app.local_master import LocalClient  # noqa: PLC0415  # loads the master, which most never need

    return LocalClient(settings)


def _deliver_at_the_end_of_a_worker() -> None:
    """Let a process of `multiprocessing` deliver what it has: it ends without `atexit`."""
    if (multiprocessing := sys.modules.get("multiprocessing.util")) is not None:
        multiprocessing.Finalize(None, _at_exit, exitpriority=100)


def _after_fork_in_child() -> None:
    """Start with a fresh state: the parent's threads do not exist here, and its locks may be held for ever."""
    global this  # the one state of this process
    inherited, this = this, Process()
    this.settings = inherited.settings
    if inherited.client is not None:
        inherited.client.forget()


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
