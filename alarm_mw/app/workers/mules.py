"""Inside a mule: its number, and the messages that the master has for it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref

from alarm_mw.model.errors import NotRunningError
from alarm_mw.transports.places import SOCKET_VARIABLE, subscribers_path
from alarm_mw.transports.subscription import RECONNECT_PAUSE, Ask, Connection, Done, Message

#: Seconds beyond its time limit in which the master must say that there is no message.
_GRACE = 2.0


class _Mule:
    """What this process is."""

    def __init__(self) -> None:
        self.number = 0
        self.path = ""
        self.askers: weakref.WeakSet[_Asker] = weakref.WeakSet()
        self.thread = threading.local()


_mule = _Mule()


class _Asker:
    """One thread's connection to the master."""

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._done = ""
        self._pid = os.getpid()

    def ask(self, timeout: float | None) -> bytes | None:
        """Wait for a message; None after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            try:
                return self._ask_once(left)
            except OSError:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
            time.sleep(RECONNECT_PAUSE if left is None else min(RECONNECT_PAUSE, left))

    def finish(self) -> None:
        """Acknowledge the last message to the master."""
        if self._done and self._connection is not None and self._pid == os.getpid():
            with contextlib.suppress(OSError):
                self._connection.send(Done(self._done))
        self.hang_up()

    def hang_up(self) -> None:
        """Leave: what is not done is for the next one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _ask_once(self, timeout: float | None) -> bytes | None:
        try:
            if self._connection is None:
                self._connection = Connection(_mule.path)
            self._connection.send(Ask(_mule.number, self._done, timeout))
            answer = self._connection.receive(None if timeout is None else timeout + _GRACE)
        except BaseException:
            # Half of an answer may have been read, also when a signal's handler raised.
            self.hang_up()
            raise
        self._done = answer.id if isinstance(answer, Message) else ""
        return answer.message if isinstance(answer, Message) else None

    def __del__(self) -> None:
        self.finish()


def become_mule(number: int) -> None:
    """Make this process mule `number`: called once, before its program runs."""
    _mule.number = number
    _mule.path = subscribers_path(os.environ[SOCKET_VARIABLE])


def mule_id() -> int:
    """Return the number of this mule, from 1; 0 in a process that is none."""
    return _mule.number


def mule_get_msg(timeout: float | None = None) -> bytes | None:
    """Wait for a message of a ``mule`` alarm, and return its bytes; None when there is none within `timeout` seconds.

    A message counts as delivered when the thread that took it asks for the next one or ends, or the program ends
    without an error. Until then it is kept: when the mule is killed, its successor gets the message again. May be
    called in several threads. Raises `NotRunningError` where this process is not a mule: only ``alarm-mw run --mule
    FILE`` starts them.
    """
    if not _mule.number:
        raise NotRunningError("messages can be received in a mule only: alarm-mw run --mule FILE")
    asker: _Asker | None = getattr(_mule.thread, "asker", None)
    if asker is None:
        asker = _mule.thread.asker = _Asker()
        _mule.askers.add(asker)
    return asker.ask(timeout)


def end(*, has_failed: bool) -> None:
    """Account for what the threads have taken: it is done, or, when the program has failed, for the next mule."""
    for asker in list(_mule.askers):
        if has_failed:
            asker.hang_up()
        else:
            asker.finish()


def _after_fork_in_child() -> None:
    """Let go of the parent's connections; a child that asks gets its own."""
    inherited = list(_mule.askers)
    _mule.askers, _mule.thread = weakref.WeakSet(), threading.local()
    for asker in inherited:
        asker.hang_up()


os.register_at_fork(after_in_child=_after_fork_in_child)
