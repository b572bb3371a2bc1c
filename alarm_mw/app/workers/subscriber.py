"""Signals in the application's process: who asked for which, and the threads that run the handlers.

Where a master process is in the environment, the thread ``alarm-mw-signals`` waits for its signals; else they come from
the worker thread of `alarm_mw.init`, as blinker signals. The thread ``alarm-mw-handlers`` runs the handlers, so that a
slow one keeps no signal from being taken. A forked child has its parent's handlers, and connections of its own.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from alarm_mw import signals
from alarm_mw.app.workers.mules import mule_id
from alarm_mw.transports.places import SOCKET_VARIABLE, subscribers_path
from alarm_mw.transports.subscription import (
    RECONNECT_PAUSE,
    SIGNALS,
    Connection,
    Raised,
    Ran,
    Register,
    Taken,
    normal_target,
)

log = logging.getLogger(__name__)

H = TypeVar("H", bound=Callable[[int], object])

#: How many signals may wait for their handlers in one process.
CAPACITY = 10_000

#: Seconds before a forked child registers: one that executes another program has done so by then.
_FORK_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class _Handler:
    number: int
    target: str
    run: Callable[[int], object]


@dataclass(frozen=True, slots=True)
class _Call:
    """Handlers that are to run."""

    number: int
    #: Those of this target; None for all.
    target: str | None = None
    #: What to call the master when they have returned.
    report: Callable[[], None] = lambda: None


class _Subscriber:
    """This process's handlers and threads."""

    def __init__(self, handlers: tuple[_Handler, ...] = (), pause: float = 0.0) -> None:
        self._handlers = handlers
        self._pause = pause
        self._calls: queue.Queue[_Call] = queue.Queue(CAPACITY)
        self._lock = threading.Lock()
        self._path = ""
        self._is_running = False
        self._connection: Connection | None = None

    @property
    def handlers(self) -> tuple[_Handler, ...]:
        return self._handlers

    def add(self, handler: _Handler) -> None:
        with self._lock:
            self._handlers = (*self._handlers, handler)
            if self._connection is not None:
                self._register(self._connection)
        self.start()

    def start(self) -> None:
        """Start what is not running yet; does nothing without handlers."""
        with self._lock:
            if self._handlers and not self._is_running:
                self._is_running = True
                _start("handlers", self._run_calls)
            path = os.environ.get(SOCKET_VARIABLE)
            if self._handlers and path and not self._path:
                self._path = subscribers_path(path)
                _start("signals", self._listen)

    def call(self, call: _Call) -> None:
        """Have handlers run, soon; drop the call where too many wait."""
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            log.error("signal %d is dropped: %d others wait for their handlers", call.number, CAPACITY)

    def forget(self) -> None:
        """Close the parent's connection, in a forked child."""
        if self._connection is not None:
            self._connection.close()

    def _run_calls(self) -> None:
        while True:
            call = self._calls.get()
            for handler in self._handlers:
                if handler.number == call.number and call.target in (None, handler.target):
                    _run(handler)
            call.report()

    def _listen(self) -> None:
        time.sleep(self._pause)
        while True:
            try:
                with Connection(self._path) as connection:
                    self._serve(connection)
            except OSError:
                self._connection = None
                time.sleep(RECONNECT_PAUSE)

    def _serve(self, connection: Connection) -> None:
        """Take signals until the master goes."""
        with self._lock:
            self._register(connection)
            self._connection = connection
        while True:
            packet = connection.receive()
            if isinstance(packet, Raised):
                # Where the queue is full, the master waits, tries another process, and then tries again.
                self._calls.put(_Call(packet.number, packet.target, _reporter(connection, packet.id)))
                connection.send(Taken(packet.id))

    def _register(self, connection: Connection) -> None:
        wanted = frozenset((handler.number, handler.target) for handler in self._handlers)
        try:
            connection.send(Register(mule_id(), wanted))
        except OSError:
            return  # the thread will notice, and register again


_subscriber = _Subscriber()


def on_signal(number: int, target: str = "") -> Callable[[H], H]:
    """Return a decorator: the function runs in this process when a ``signal:NUMBER`` alarm fires.

    It is called with the signal's number, from 0 to 255, in the thread ``alarm-mw-handlers``, one after the other; what
    it raises is logged. `target` says who of all processes that asked for the signal in this way runs it, as in uWSGI:
    ``worker`` (the default) one of the workers, the one that has the fewest signals to handle; ``workers`` all of them;
    ``worker3`` the third; ``mule``, ``mules`` and ``mule3`` the same among the mules. Under `alarm_mw.init`, where this
    process is all there is, it runs here whatever the target. Raises `ValueError` for a wrong number or target. Does
    not wait for the master. See `uWSGI's signal framework <https://uwsgi-docs.readthedocs.io/en/latest/Signals.html>`_.
    """
    if number not in SIGNALS:
        raise ValueError(f"there is no signal {number!r}: expected a number from 0 to 255")
    where = normal_target(target)

    def register(handler: H) -> H:
        signals.uwsgi(number).connect(_raised_here)
        _subscriber.add(_Handler(number, where, handler))
        return handler

    return register


def is_registered(number: int) -> bool:
    """Return whether this process has a handler for the signal."""
    return any(handler.number == number for handler in _subscriber.handlers)


def _raised_here(_: str, *, number: int, **_facts: object) -> None:
    """Run the handlers of a signal that this process's own worker thread has raised."""
    _subscriber.call(_Call(number))


def _run(handler: _Handler) -> None:
    try:
        handler.run(handler.number)
    except BaseException:  # foreign code: it may even exit, and the next signal must be handled all the same
        log.exception("exception in the handler of signal %d", handler.number)


def _reporter(connection: Connection, number: int) -> Callable[[], None]:
    def report() -> None:
        try:
            connection.send(Ran(number))
        except OSError:
            return  # another master does not count this one

    return report


def _start(name: str, target: Callable[[], object]) -> None:
    threading.Thread(target=target, name=f"alarm-mw-{name}", daemon=True).start()


def _after_fork_in_child() -> None:
    """Register again: the parent's threads do not exist here, and its lock may be held for ever."""
    global _subscriber  # the one state of this process
    inherited, _subscriber = _subscriber, _Subscriber(_subscriber.handlers, _FORK_PAUSE)
    inherited.forget()
    _subscriber.start()


os.register_at_fork(after_in_child=_after_fork_in_child)
