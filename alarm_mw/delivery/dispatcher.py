"""The dispatcher gives every alarm its lane and runs them on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import sqlite3
import time
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass

from alarm_mw.delivery.breaker import Failing
from alarm_mw.delivery.fallback import Way, next_way
from alarm_mw.delivery.lane import Lane, Surroundings
from alarm_mw.delivery.outbox.outbox import Entry, Outbox, Taken
from alarm_mw.delivery.outbox.outcome_writer import Settler
from alarm_mw.delivery.policy import Delivery
from alarm_mw.delivery.waiting import is_set_within
from alarm_mw.model.interfaces import Action
from alarm_mw.model.types import Firing

log = logging.getLogger(__name__)

#: Seconds for the lanes to end, where nothing else is said.
STOP_TIMEOUT = 5.0

#: Seconds beyond an attempt's time limit for a lane to end that makes way for another one.
GRACE = 5.0

#: What the log says of firings that nobody delivers: how many, and of which alarm.
ORPHANED = (
    "%d firings wait for the alarm %r, which is not configured any more; `alarm-mw dead retry --waiting --alarm %s "
    "--as OTHER` has another one deliver them"
)


@dataclass(frozen=True, slots=True)
class Route:
    """How one alarm is delivered."""

    action: Action
    policy: Delivery
    #: The alarms that deliver when this one cannot, the first that can.
    fallback: tuple[str, ...] = ()
    #: After how many seconds of failing.
    fallback_after: float = 60.0


class Dispatcher:
    """Lives on the event loop: only `submit`, `offer` and `hasten` may be called from other threads."""

    def __init__(self, outbox: Outbox, routes: Mapping[str, Route]) -> None:
        self._outbox = outbox
        self._changed = asyncio.Event()
        self._settler = Settler(outbox)
        self._routes = dict(routes)
        self._fallbacks = _fallbacks(routes)
        self._lanes = {alarm: self._lane(alarm, route) for alarm, route in routes.items()}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        #: All tasks that have not ended, those of former lanes too.
        self._running: set[asyncio.Task[None]] = set()
        #: What ends with an alarm's former lanes, which finish what they have begun.
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Start the lanes; they begin with what waits in the outbox since earlier."""
        for alarm, lane in self._lanes.items():
            self._run(alarm, lane.run())

    def submit(self, alarms: Iterable[str]) -> None:
        """Tell the lanes of these alarms that there is something new in the outbox. From any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed; what is in the outbox waits there
            self._loop.call_soon_threadsafe(self._wake, frozenset(alarms))

    def hasten(self, alarms: Iterable[str]) -> None:
        """Have the lanes of these alarms make the next attempt at what waits now. From any thread."""
        with contextlib.suppress(RuntimeError):  # as above
            self._loop.call_soon_threadsafe(self._hasten, frozenset(alarms))

    def offer(self, taken: Taken) -> None:
        """Give the lanes what was just taken into the outbox, in the order in which it was. From any thread."""
        with contextlib.suppress(RuntimeError):  # as above
            self._loop.call_soon_threadsafe(self._offer, taken)

    def _offer(self, taken: Taken) -> None:
        entries: dict[str, list[Entry]] = {}
        for entry in taken.entries:
            entries.setdefault(entry.firing.alarm, []).append(entry)
        for alarm in entries.keys() & self._lanes.keys():
            self._lanes[alarm].offer(entries[alarm], taken.detours)

    def _wake(self, alarms: Iterable[str]) -> None:
        for alarm in self._lanes.keys() & alarms:  # others were taken out of the configuration meanwhile
            self._lanes[alarm].wake()

    def _hasten(self, alarms: Iterable[str]) -> None:
        for alarm in self._lanes.keys() & alarms:
            self._lanes[alarm].hasten()

    async def exchange(self, routes: Mapping[str, Route]) -> dict[str, int]:
        """Deliver by these routes from now on. Only while it runs, from `start` to `stop`.

        A lane whose route has the same action, the very object, and an equal policy goes on undisturbed. Another one
        ends the attempts that it has begun, within their time limit; only then its successor begins, with all that
        waits. Returns at once: that goes on meanwhile. What waits for alarms without a route stays in the outbox; how
        much that is, by alarm, is the result, and is logged.
        """
        old, self._routes, self._fallbacks = self._routes, dict(routes), _fallbacks(routes)
        changed = [alarm for alarm, route in old.items() if not _is_same(route, routes.get(alarm))]
        for alarm in changed:
            self._retire(alarm, old[alarm])
        for alarm, route in routes.items():
            if alarm not in self._lanes:
                self._begin(alarm, route)
        self._changed.set()
        return self._orphans(old.keys() - routes.keys())

    def _lane(self, alarm: str, route: Route) -> Lane:
        around = Surroundings(self._changed.set, self._find_way, lambda other: self._wake([other]), self._settler)
        return Lane(alarm, route.action, route.policy, self._outbox, around)

    def _find_way(self, firing: Firing) -> Way | None:
        """Return who delivers when the firing's alarm cannot."""
        other = next_way(firing, self._fallbacks)
        # The lane of an alarm that is not configured any more ends what it has begun.
        route = self._routes.get(firing.alarm)
        return Way(other, route.fallback_after) if other is not None and route is not None else None

    def failing(self) -> dict[str, Failing]:
        """Return how receivers fail, by alarm; those that do not are not in it. From any thread."""
        states = {alarm: lane.failing() for alarm, lane in [*self._lanes.items()]}
        return {alarm: state for alarm, state in states.items() if state is not None}

    def long_since(self, seconds: float) -> dict[str, float]:
        """Return since when an attempt is under way, by alarm, where that is for longer; from any thread."""
        begun = {alarm: lane.since for alarm, lane in [*self._lanes.items()]}
        latest = time.time() - seconds
        return {alarm: since for alarm, since in begun.items() if since is not None and since <= latest}

    def _begin(self, alarm: str, route: Route) -> None:
        lane = self._lanes[alarm] = self._lane(alarm, route)
        former = self._leaving.get(alarm)
        self._run(alarm, lane.run() if former is None else _run_after(former, lane))

    def _run(self, alarm: str, running: Coroutine[None, None, None]) -> None:
        self._tasks[alarm] = self._task(running, f"alarm-mw-lane-{alarm}")

    def _task(self, running: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(running, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def _retire(self, alarm: str, route: Route) -> None:
        """Let a lane end what it has begun."""
        self._lanes.pop(alarm).finish()
        former, limit = self._leaving.get(alarm), (route.policy.attempt_timeout or math.inf) + GRACE
        ending = self._task(_end(alarm, self._tasks.pop(alarm), limit, former), f"alarm-mw-end-{alarm}")
        self._leaving[alarm] = ending
        ending.add_done_callback(functools.partial(self._left, alarm))

    def _left(self, alarm: str, ending: asyncio.Task[None]) -> None:
        if self._leaving.get(alarm) is ending:
            del self._leaving[alarm]

    def _orphans(self, removed: Iterable[str]) -> dict[str, int]:
        try:
            waiting = self._outbox.count_waiting()
        except sqlite3.Error as error:
            log.error("the outbox cannot be read: %s", error)
            return {}
        orphans = {alarm: waiting[alarm] for alarm in sorted(removed) if alarm in waiting}
        for alarm, n in orphans.items():
            log.warning(ORPHANED, n, alarm, alarm)
        return orphans

    async def drain(self, timeout: float, *, wait_for_retries: bool) -> bool:
        """Wait until nothing waits in the outbox; return whether that was so within `timeout` seconds.

        Without `wait_for_retries` it also ends when all that is left waits for its next attempt.
        Groups are not gathered any more.
        """
        deadline = time.monotonic() + timeout
        for lane in self._lanes.values():
            lane.hurry()
        is_in_time = True
        while is_in_time and (waiting := self._waiting()):
            if not wait_for_retries and all(self._lanes[alarm].is_stuck() for alarm in waiting):
                return False
            self._changed.clear()
            is_in_time = await is_set_within(self._changed, deadline - time.monotonic())
        return is_in_time

    def _waiting(self) -> list[str]:
        """Return the alarms with firings that wait; those that are configured no more are nobody's to deliver."""
        try:
            return [alarm for alarm in self._lanes if self._outbox.has_waiting(alarm)]
        except sqlite3.Error as error:
            log.error("the outbox cannot be read: %s", error)
            return list(self._lanes)

    async def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Stop the lanes within about `timeout` seconds; what is not delivered stays in the outbox.

        A lane whose action does not end is left behind, and named in the log.
        """
        tasks = [*self._running]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)
        self._settler.write()
        for alarm, task in self._tasks.items():
            if not task.done():
                log.warning("alarm %s: its action did not end within %.1f seconds and is left behind", alarm, timeout)


def _fallbacks(routes: Mapping[str, Route]) -> dict[str, tuple[str, ...]]:
    return {alarm: route.fallback for alarm, route in routes.items()}


def _is_same(old: Route, new: Route | None) -> bool:
    return new is not None and old.action is new.action and old.policy == new.policy


async def _run_after(former: asyncio.Task[None], lane: Lane) -> None:
    await asyncio.wait({former})
    await lane.run()


async def _end(alarm: str, lane: asyncio.Task[None], limit: float, former: asyncio.Task[None] | None) -> None:
    """Wait for the end of a lane that was told to finish, and of those before it; cancel it after `limit` seconds."""
    if former is not None:
        await asyncio.wait({former})
    await asyncio.wait({lane}, timeout=None if math.isinf(limit) else limit)
    if not lane.done():
        log.warning("alarm %s: what it began before the change did not end within %.1f seconds", alarm, limit)
        lane.cancel()
        await asyncio.wait({lane}, timeout=GRACE)
