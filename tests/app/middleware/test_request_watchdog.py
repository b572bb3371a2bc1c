"""Requests that do not end: the thread that tells of them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest
from waiting import LIMIT, wait_until

from alarm_mw.app.middleware.request_watchdog import Overdue, Running


class Told:
    """Keeps the limits that were told, with the thread that did it."""

    def __init__(self) -> None:
        self.limits: list[float] = []
        self.threads: list[str] = []
        self._changed = threading.Condition()

    def __call__(self, limit: float) -> None:
        with self._changed:
            self.limits.append(limit)
            self.threads.append(threading.current_thread().name)
            self._changed.notify_all()

    def wait_for(self, count: int) -> list[float]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.limits) >= count, LIMIT)
            return list(self.limits)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def request_watchdog() -> Iterator[Overdue]:
    watch = Overdue()
    yield watch
    watch.stop()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "alarm-mw-overdue"]


def test_a_request_that_does_not_end_is_told_once(request_watchdog: Overdue, told: Told) -> None:
    """The limit is told after it has passed, by the thread, and never again, however long the request goes on."""
    began = time.monotonic()
    request_watchdog.add(Running([0.05], told))
    assert told.wait_for(1) == [0.05]
    assert time.monotonic() - began >= 0.05
    assert told.threads == ["alarm-mw-overdue"]
    other = Told()
    request_watchdog.add(Running([0.1], other))
    other.wait_for(1)
    assert told.limits == [0.05]


def test_a_request_that_ends_in_time_is_not_told(request_watchdog: Overdue, told: Told) -> None:
    """A request that was removed before its limit is none that hangs."""
    running, other = Running([0.05], told), Told()
    request_watchdog.add(running)
    request_watchdog.remove(running)
    request_watchdog.add(Running([0.1], other))
    other.wait_for(1)
    assert told.limits == []


def test_every_limit_is_told_in_turn(request_watchdog: Overdue, told: Told) -> None:
    """A request that passes several limits is told at each of them."""
    request_watchdog.add(Running([0.02, 0.04, 0.06], told))
    assert told.wait_for(3) == [0.02, 0.04, 0.06]


def test_a_shorter_limit_is_not_held_up_by_a_longer_one(request_watchdog: Overdue, told: Told) -> None:
    """A thread that waits for a request with an hour's limit wakes for one that comes later and has less."""
    request_watchdog.add(Running([3600.0], told))
    wait_until(lambda: request_watchdog.looks_at > time.monotonic() + 1000)
    request_watchdog.add(Running([0.01], told))
    assert told.wait_for(1) == [0.01]


def test_the_thread_ends_when_nothing_runs(request_watchdog: Overdue, told: Told) -> None:
    """A process that serves no request has no thread for it, and the next request has one again."""
    running = Running([0.5], told)
    assert threads() == []
    request_watchdog.add(running)
    assert len(threads()) == 1
    request_watchdog.remove(running)
    wait_until(lambda: threads() == [])
    request_watchdog.add(Running([0.02], told))
    assert told.wait_for(1) == [0.02]


def test_a_shutdown_ends_the_thread(request_watchdog: Overdue, told: Told) -> None:
    """Nobody waits for a request's limit at the end."""
    request_watchdog.add(Running([3600.0], told))
    request_watchdog.stop()
    wait_until(lambda: threads() == [])


def test_many_threads_at_once_start_one_watcher_and_lose_no_request(request_watchdog: Overdue) -> None:
    """Whatever comes while the thread starts or ends, each request that hangs is told, once."""
    tolds = [Told() for _ in range(200)]
    barrier = threading.Barrier(8)

    def serve(part: list[Told]) -> None:
        barrier.wait(LIMIT)
        for each in part:
            passing = Running([0.001], lambda _: None)
            request_watchdog.add(passing)
            request_watchdog.add(Running([0.001], each))
            request_watchdog.remove(passing)
            threading.Event().wait(0.002)  # time for the watcher to find nothing and to end

    servers = [threading.Thread(target=serve, args=(tolds[n::8],)) for n in range(8)]
    for server in servers:
        server.start()
    for server in servers:
        server.join(LIMIT)
    for each in tolds:
        each.wait_for(1)
    wait_until(lambda: threads() == [])
    assert all(each.limits == [0.001] for each in tolds)


def test_a_forked_child_watches_its_own_requests_alone() -> None:
    """The parent's requests are not the child's, whose own are told by a thread of its own."""
    from alarm_mw.app.middleware import request_watchdog  # noqa: PLC0415  # the one of this process, which the fork is to renew

    parents, childs = Told(), Told()
    running = Running([0.2], parents)
    request_watchdog.add(running)
    child = os.fork()
    if child == 0:
        request_watchdog.add(Running([0.3], childs))
        childs.wait_for(1)
        os._exit(len(parents.limits))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    parents.wait_for(1)
    request_watchdog.stop()
    wait_until(lambda: threads() == [])
