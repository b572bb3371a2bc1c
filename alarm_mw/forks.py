"""Forks of the application's process: none happens while a thread of ours has what its child would find held for ever.

SQLite has locks for the whole process, and Python has one for each module that is just being imported.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

#: Seconds that a fork waits for a thread of ours; one within SQLite in memory is there for less than a thousandth.
PATIENCE = 5.0

_locks: weakref.WeakSet[threading.RLock] = weakref.WeakSet()
#: Held while `_locks` grows, and during a fork.
_gate = threading.RLock()
_forking = threading.local()


def new_lock() -> threading.RLock:
    """Return a lock that nobody else has during a fork: whoever uses SQLite has one. A child has it free.

    Blocks while another thread forks.
    """
    lock = threading.RLock()
    with _gate:
        _locks.add(lock)
    return lock


@contextmanager
def held_off() -> Iterator[None]:
    """Let other threads' forks wait, for `PATIENCE` at most, while this one imports a module.

    Whoever else imports does not wait: what it has may be needed here.
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
