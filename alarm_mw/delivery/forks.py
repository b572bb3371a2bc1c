"""Forks of the application's process: none happens while a thread of ours is within SQLite.

SQLite has locks for the whole process, which a child that was forked meanwhile would find held for ever.
"""

from __future__ import annotations

import os
import threading
import weakref

#: Seconds that a fork waits for a thread that is within SQLite; in memory, that is there for less than a thousandth.
PATIENCE = 1.0

_locks: weakref.WeakSet[threading.RLock] = weakref.WeakSet()
_forking = threading.local()


def new_lock() -> threading.RLock:
    """Return a lock that nobody else has during a fork: whoever uses SQLite has one. A child has it free."""
    lock = threading.RLock()
    _locks.add(lock)
    return lock


def _before_fork() -> None:
    _forking.held = [lock for lock in list(_locks) if lock.acquire(timeout=PATIENCE)]


def _after_fork() -> None:
    for lock in _forking.held:
        lock.release()
    _forking.held = []


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
