"""The dispatcher gives every alarm its lane and runs the lanes on one event loop.

Alarms that leave the configuration keep their lanes until nothing waits for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import sqlite3
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass

from alarm_mw.delivery.breaker import Failing, is_set_within
from alarm_mw.delivery.fallback import Fallbacks
from alarm_mw.delivery.lane import Lane, Shared
from alarm_mw.delivery.outbox.entries import Entry, Taken
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.delivery.outbox.outcome_writer import OutcomeWriter
from alarm_mw.delivery.policy import DeliveryPolicy
from alarm_mw.engine.flood_control.limits import Rate
from alarm_mw.model.fleet import Sharing
from alarm_mw.model.interfaces import Action

log = logging.getLogger(__name__)

#: Seconds for the lanes to end, unless `stop` is given another time.
STOP_TIMEOUT = 5.0

#: Seconds beyond an attempt's time limit for a replaced lane to end.
GRACE = 5.0

#: Seconds between checks whether the last firing of an alarm that left the configuration was delivered.
RETIRE_EVERY = 1.0

#: Seconds after which an attempt counts as long.
LONG = 30.0


@dataclass(frozen=True, slots=True)
class Route:
    """How one alarm is delivered."""

    action: Action
    policy: DeliveryPolicy
    #: The alarms that deliver when this one cannot, the first that can.
    fallback: tuple[str, ...] = ()
    #: After how many seconds of failing.
    fallback_after: float = 60.0
    #: For the firings of earlier processes; None: they are delivered at once.
    rate: Rate | None = None


Routes = Mapping[str, Route]


class Dispatcher:
    """Lives on the event loop, between `start` and `stop`. `routes` are those of the configuration.

    `retired` are those of alarms that have left it. Only `wake`, `offer`, `retry_now`, `failing`, `long_since`, `names`
    and `retired` may be used from other threads.
    """

    def __init__(self, outbox: Outbox, routes: Routes, retired: Routes | None = None) -> None:
        self._outbox = outbox
        self._outcomes = OutcomeWriter(outbox, lambda alarm: self._wake([alarm]))
        self._shared = Shared(outbox, self._outcomes, Fallbacks(), asyncio.Event())
        self._current = routes
        self._retired = dict(retired or {})
        #: Those of them that no rule fires any more.
        self._unfired = frozenset(self._retired)
        #: All that have a lane, and their lanes.
        self._routes: dict[str, Route] = {}
        self._lanes: dict[str, Lane] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        #: All tasks that have not ended, including those of replaced lanes.
        self._running: set[asyncio.Task[None]] = set()
        #: The end of an alarm's replaced lanes, which finish their attempts.
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._retiring: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start the lanes; they begin with what waits in the outbox."""
        self._apply()
        self._loop = asyncio.get_running_loop()
        self._retire_later()

    def wake(self, alarms: Iterable[str]) -> None:
        """Let the lanes of these alarms look for new firings in the outbox. From any thread."""
        self._call(self._wake, frozenset(alarms))

    def retry_now(self, alarms: Iterable[str]) -> None:
        """Make the next attempt at what waits for these alarms now. From any thread."""
        self._call(self._retry_now, frozenset(alarms))

    def offer(self, taken: Taken) -> None:
        """Give the lanes what was just taken into the outbox, in that order. From any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed; what is in the outbox stays there
                self._loop.call_soon_threadsafe(self._offer, taken)

    def _call(self, function: Callable[[frozenset[str]], None], alarms: frozenset[str]) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # as above
                self._loop.call_soon_threadsafe(function, alarms)

    def _offer(self, taken: Taken) -> None:
        entries: dict[str, list[Entry]] = {}
        for entry in taken.entries:
            entries.setdefault(entry.firing.alarm, []).append(entry)
        for alarm in entries.keys() & self._lanes.keys():
            self._lanes[alarm].offer(entries[alarm], taken.bypasses)

    def _wake(self, alarms: Iterable[str]) -> None:
        for alarm in self._lanes.keys() & alarms:  # others have left the configuration meanwhile
            self._lanes[alarm].wake()

    def _retry_now(self, alarms: Iterable[str]) -> None:
        for alarm in self._lanes.keys() & alarms:
            self._lanes[alarm].retry_now()

    def share(self, sharing: Sharing | None) -> None:
        """Ask a fleet before each message that is not under way yet; None: ask none."""
        self._shared.sharing = sharing

    async def exchange(self, routes: Routes) -> None:
        """Deliver by these routes from now on; alarms without one deliver what they have, until `settle` and then.

        A lane whose route has the same action, the very object, and an equal policy goes on undisturbed. Any other lane
        ends the attempts that it has begun, within their time limit; only then its successor starts, with all that
        waits. Does not wait for that.
        """
        known = {**self._retired, **self._current}
        self._retired = {name: route for name, route in known.items() if name not in routes}
        self._current = routes
        self._unfired -= routes.keys()
        self._apply()

    async def settle(self) -> None:
        """End the lanes of alarms that have left the configuration, each when nothing waits for it."""
        self._unfired = frozenset(self._retired)
        self._retire_later()

    @property
    def retired(self) -> tuple[str, ...]:
        """The alarms that have left the configuration, and still deliver what was fired before."""
        return tuple(self._retired)

    def names(self) -> set[str]:
        """Return the names of all alarms that have a lane."""
        return {*self._retired, *self._current}

    def failing(self) -> dict[str, Failing]:
        """Return how receivers are failing, by alarm, without those that work. From any thread."""
        states = {alarm: lane.failing() for alarm, lane in [*self._lanes.items()]}
        return {alarm: state for alarm, state in states.items() if state is not None}

    def long_since(self, seconds: float = LONG) -> dict[str, float]:
        """Return when attempts that take longer than `seconds` were started, by alarm, since the epoch."""
        begun = {alarm: lane.since for alarm, lane in [*self._lanes.items()]}
        latest = time.time() - seconds
        return {alarm: since for alarm, since in begun.items() if since is not None and since <= latest}

    def _apply(self) -> None:
        """Give every alarm the lane that its route asks for."""
        old, self._routes = self._routes, {**self._retired, **self._current}
        self._shared.fallbacks.configure(
            {alarm: route.fallback for alarm, route in self._routes.items()},
            {alarm: route.fallback_after for alarm, route in self._routes.items()},
        )
        for alarm, route in old.items():
            if not _is_same(route, self._routes.get(alarm)):
                self._replace(alarm, route)
        for alarm, route in self._routes.items():
            if alarm not in self._lanes:
                self._begin(alarm, route)
        self._shared.changed.set()

    def _begin(self, alarm: str, route: Route) -> None:
        lane = self._lanes[alarm] = Lane(alarm, route.action, route.policy, self._shared, route.rate)
        former = self._leaving.get(alarm)
        running = lane.run() if former is None else _run_after(former, lane)
        self._tasks[alarm] = self._task(running, f"alarm-mw-lane-{alarm}")

    def _task(self, running: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(running, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def _replace(self, alarm: str, route: Route) -> None:
        """Let a lane end the attempts that it has begun."""
        self._lanes.pop(alarm).finish()
        former, limit = self._leaving.get(alarm), (route.policy.attempt_timeout or math.inf) + GRACE
        ending = self._task(_end(alarm, self._tasks.pop(alarm), limit, former), f"alarm-mw-end-{alarm}")
        self._leaving[alarm] = ending
        ending.add_done_callback(functools.partial(self._left, alarm))

    def _left(self, alarm: str, ending: asyncio.Task[None]) -> None:
        if self._leaving.get(alarm) is ending:
            del self._leaving[alarm]

    def _retire_later(self) -> None:
        if self._retired and (self._retiring is None or self._retiring.done()):
            self._retiring = asyncio.create_task(self._retire(), name="alarm-mw-retire")

    async def _retire(self) -> None:
        while self._retired:
            await asyncio.sleep(RETIRE_EVERY)
            with contextlib.suppress(sqlite3.Error):  # which the lanes report
                done = self._unfired - self._outbox.count_waiting().keys()
                self._retired = {name: route for name, route in self._retired.items() if name not in done}
                self._apply()

    async def drain(self, timeout: float, *, wait_for_retries: bool) -> bool:
        """Wait until nothing waits in the outbox; return whether that was so within `timeout` seconds.

        Without `wait_for_retries` it also ends when all that is left waits for its next attempt, or for another machine
        of the fleet. No groups are gathered any more.
        """
        deadline = time.monotonic() + timeout
        for lane in self._lanes.values():
            lane.stop_grouping()
        if self._shared.sharing is not None:
            self._shared.sharing.hurry()
        is_in_time = self._loop is not None
        while is_in_time and (waiting := self._waiting()):
            if not wait_for_retries and all(self._lanes[alarm].is_stuck() for alarm in waiting):
                return False
            self._shared.changed.clear()
            is_in_time = await is_set_within(self._shared.changed, deadline - time.monotonic())
        return is_in_time

    def _waiting(self) -> list[str]:
        """Return the alarms whose firings wait; those without a lane are not delivered."""
        try:
            return [alarm for alarm in self._lanes if self._outbox.has_waiting(alarm)]
        except sqlite3.Error as error:
            log.error("the outbox cannot be read: %s", error)
            return list(self._lanes)

    async def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Stop the lanes within about `timeout` seconds; what is not delivered stays in the outbox.

        A lane whose action does not end is left behind, and named in the log.
        """
        if self._retiring is not None:
            self._retiring.cancel()
        tasks = [*self._running]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)
        self._outcomes.write()
        for alarm, task in self._tasks.items():
            if not task.done():
                log.warning("alarm %s: its action did not end within %.1f seconds and is left behind", alarm, timeout)


def _is_same(old: Route, new: Route | None) -> bool:
    return new is not None and old.action is new.action and (old.policy, old.rate) == (new.policy, new.rate)


async def _run_after(former: asyncio.Task[None], lane: Lane) -> None:
    await asyncio.wait({former})
    await lane.run()


async def _end(alarm: str, lane: asyncio.Task[None], limit: float, former: asyncio.Task[None] | None) -> None:
    """Wait for the end of a lane that is to finish, and of those before it; cancel it after `limit` seconds."""
    if former is not None:
        await asyncio.wait({former})
    await asyncio.wait({lane}, timeout=None if math.isinf(limit) else limit)
    if not lane.done():
        log.warning("alarm %s: what it began before the change did not end within %.1f seconds", alarm, limit)
        lane.cancel()
        await asyncio.wait({lane}, timeout=GRACE)
