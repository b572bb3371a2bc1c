"""The module ``uwsgi`` of a mule: what mule files written for uWSGI use of it.

`alarm_mw.app.workers.mule` puts it into `sys.modules`, in mule processes and nowhere else. See uWSGI's documentation of
its Python API: https://uwsgi-docs.readthedocs.io/en/latest/PythonModule.html
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn

from alarm_mw.app.client import alarm as _alarm
from alarm_mw.app.workers.mules import mule_get_msg as _mule_get_msg
from alarm_mw.app.workers.mules import mule_id
from alarm_mw.app.workers.subscriber import is_registered, on_signal
from alarm_mw.transports.records import to_bytes as _to_bytes

__all__ = [
    "alarm",
    "applications",
    "i_am_the_spooler",
    "log",
    "masterpid",
    "mule_get_msg",
    "mule_id",
    "numproc",
    "opt",
    "register_signal",
    "signal_registered",
    "version",
    "worker_id",
]

#: The version whose interface this is.
version = b"2.0.31"
#: The options of uWSGI's own configuration: none is known here.
opt: dict[str, bytes] = {}
#: A mule has no applications.
applications: dict[str, object] = {}
#: How many workers there are is not known here.
numproc = 0


def mule_get_msg(
    signals: object = None,  # noqa: ARG001  # uWSGI's; handlers have a thread of their own here
    farms: object = None,  # noqa: ARG001  # uWSGI's; there are no farms here
    buffer_size: int = 65536,
    timeout: int = -1,
) -> bytes:
    """Wait for a message and return at most `buffer_size` bytes of it; after `timeout` seconds ``b""``, as uWSGI does.

    A negative `timeout` waits for ever. The message is done when the next one is asked for: see
    `alarm_mw.mule_get_msg`.
    """
    message = _mule_get_msg(None if timeout < 0 else timeout)
    return b"" if message is None else message[:buffer_size]


def alarm(name: str, message: str | bytes) -> None:
    """Fire an alarm, past all rules."""
    _alarm(name, message)


def register_signal(number: int, target: str, handler: Callable[[int], object]) -> None:
    """Run `handler` when signal `number` is raised: see `alarm_mw.on_signal`."""
    on_signal(number, target)(handler)


def signal_registered(number: int) -> bool:
    """Return whether this process has a handler for the signal."""
    return is_registered(number)


def log(message: str | bytes) -> bool:
    """Write a line to the log."""
    data = message if isinstance(message, bytes) else _to_bytes(message)
    sys.stderr.flush()
    os.write(2, data if data.endswith(b"\n") else data + b"\n")
    return True


def worker_id() -> int:
    """Return 0: a mule is no worker."""
    return 0


def masterpid() -> int:
    """Return the process id of the master."""
    return os.getppid()


def i_am_the_spooler() -> bool:
    """Return False: there is no spooler."""
    return False


#: What uWSGI's module has and this one has not, by the beginnings of names, and what does it here.
_REPLACEMENTS = {
    "mule_msg": "alarm_mw.alarm('NAME', message) sends to a mule, with alarm = NAME mule:NUMBER in the configuration",
    "signal": "alarm_mw.alarm('NAME', '') raises a signal, with alarm = NAME signal:NUMBER in the configuration",
    "lock": "use fcntl.flock on a file, or the locks of a database or of Redis",
    "unlock": "use fcntl.flock on a file, or the locks of a database or of Redis",
    "is_locked": "use fcntl.flock on a file, or the locks of a database or of Redis",
    "add_": "use a thread that waits, a scheduler such as APScheduler, or cron; to watch files, the monitor fd",
    "cache_": "use a cache that all processes reach, such as Redis or memcached",
    "spool": "use a task queue such as Celery or RQ, or a mule",
    "farm_": "use a mule by its number: there are no farms here",
    "rpc": "use HTTP",
    "metric_": "use alarm_mw.metrics.get, set, inc and dec",
}


def __getattr__(name: str) -> NoReturn:
    """Say what does it here, or what there is (PEP 562)."""
    known = f"there are: {', '.join(__all__)}"
    advice = next((text for start, text in _REPLACEMENTS.items() if name.startswith(start)), known)
    raise AttributeError(f"this is alarm-mw's stand-in for uWSGI's module, which has no {name!r}; {advice}")
