"""Forks of the application's process: none happens while a thread of ours has what its child would find held for ever.

SQLite has locks for the whole process, and Python has one for each module that is just being imported.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

#: Seconds that a fork waits for a thread of ours; one within SQLite in memory is there for less than a thousandth.
PATIENCE = 5.0

_locks: weakref.WeakSet[threading.RLock] = weakref.WeakSet()
#: Held while `_locks` grows, and during a fork.
_gate = threading.RLock()
_forking = threading.local()


def new_lock() -> threading.RLock:
    """Return a lock that nobody holds during a fork, as users of SQLite need. In a child it is free.

    Blocks while another thread forks.
    """
    lock = threading.RLock()
    with _gate:
        _locks.add(lock)
    return lock


@contextmanager
def held_off() -> Iterator[None]:
    """Let other threads' forks wait, for `PATIENCE` at most, while this one imports a module.

    Other threads that import do not wait: what they hold may be needed here.
    """
    lock = threading.RLock()
    with lock:
        with _gate:
            _locks.add(lock)
        yield


def _before_fork() -> None:
    gate = [_gate] if _gate.acquire(timeout=PATIENCE) else []
    _forking.held = gate + [lock for lock in list(_locks) if lock.acquire(timeout=PATIENCE)]


def _after_fork() -> None:
    for lock in _forking.held:
        lock.release()
    _forking.held = []


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


class _Lockless:
    """What `functools.cached_property` is since Python 3.12: without a lock, which a child could find held for ever.

    Two threads may compute the value at the same time; both results are as good.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> object:
        value = instance.__dict__[self._name] = self._function(instance)
        return value


if TYPE_CHECKING:
    cached_property = functools.cached_property
else:
    cached_property = _Lockless
