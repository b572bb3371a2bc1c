"""A lane delivers one alarm: in order, with a time limit, retries and backoff. Nobody else waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sqlite3
import time
from collections.abc import Callable

from alarm_mw import signals
from alarm_mw.delivery.calls import MAX_ABANDONED, AbandonedError, Calls, PluginError
from alarm_mw.delivery.outbox import Entry, Outbox, Outcome, State
from alarm_mw.delivery.policy import Delivery
from alarm_mw.errors import ActionError
from alarm_mw.interfaces import Action
from alarm_mw.types import Firing, Reason

log = logging.getLogger(__name__)

#: How many firings are taken from the outbox at a time.
PAGE = 64

#: After so many attempts in vain, some 15 seconds, a firing lets those behind it past.
PATIENCE = 6

#: How many firings of an alarm may stand aside at once; beyond, they keep the order, and their receiver its peace.
MAX_ASIDE = 16

#: Seconds before something is tried again that should not have failed: the outbox, an action's start.
PAUSE = 1.0


class Lane:
    """One alarm's queue. Lives on the event loop; its methods must be called there."""

    def __init__(
        self, alarm: str, action: Action, policy: Delivery, outbox: Outbox, on_change: Callable[[], None]
    ) -> None:
        self._alarm = alarm
        self._action = action
        self._policy = policy
        self._outbox = outbox
        self._on_change = on_change
        self._calls = Calls()
        self._is_nonsense_told = False
        self._last = 0
        self._under_way: set[asyncio.Task[None]] = set()
        self._pausing = 0
        #: How many firings have let others past.
        self._aside = 0
        self._places = asyncio.Semaphore(action.concurrency)
        self._wake = asyncio.Event()
        #: Set when no further attempt is to be begun.
        self._finishing = asyncio.Event()

    def wake(self) -> None:
        """There is something new in the outbox."""
        self._wake.set()

    def finish(self) -> None:
        """Let `run` return as soon as the attempts that are under way have ended; what is not delivered waits on."""
        self._finishing.set()
        self._wake.set()

    def is_stuck(self) -> bool:
        """Return whether everything under way waits for its next attempt."""
        return self._pausing > 0 and self._pausing == len(self._under_way)

    async def run(self) -> None:
        """Deliver until cancelled, or told to finish."""
        failures = 0
        try:
            while not self._finishing.is_set():
                try:
                    async with self._calls.opened(self._action, self._policy.attempt_timeout):
                        failures = 0
                        await self._work()
                except Exception:  # a plugin's mistake, or the outbox's disk, must not end the lane
                    failures += 1
                    log.exception("alarm %s: its lane failed and is started again", self._alarm)
                    await self._sleep(max(PAUSE, self._policy.pause(failures, chance=1.0)))
        finally:
            await _cancel(self._under_way)

    async def _work(self) -> None:
        while not self._finishing.is_set():
            self._wake.clear()
            page = self._outbox.waiting(self._alarm, after=self._last, limit=PAGE)
            for entry in page:
                await self._places.acquire()
                if self._finishing.is_set():
                    break
                self._start(entry)
            if not page:
                await self._wake.wait()
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _sleep(self, seconds: float) -> None:
        """Wait so long, or until told to finish."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._finishing.wait()

    def _start(self, entry: Entry) -> None:
        self._last = entry.seq
        task = asyncio.create_task(self._deliver(entry), name=f"alarm-mw-{self._alarm}")
        self._under_way.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._places.release()
        self._on_change()

    async def _deliver(self, entry: Entry) -> None:
        """Try until it is delivered, refused or given up."""
        began = time.monotonic()
        attempt = 1
        while (outcome := await self._try(entry.firing, attempt, began)) is None:
            if self._finishing.is_set():
                return
            attempt += 1
        await self._settle(entry, outcome)
        if outcome.state is State.DELIVERED:
            signals.send(signals.delivered, self._alarm, firing=entry.firing)

    async def _try(self, firing: Firing, attempt: int, began: float) -> Outcome | None:
        """Make one attempt; return how it ended for good, or None after the pause before the next one."""
        try:
            await self._attempt(firing)
        except ActionError as error:
            reason = self._why_dead(error, began)
            signals.send(signals.failed, self._alarm, firing=firing, error=error, dead=reason is not None)
            if reason is not None:
                log.error("alarm %s: undeliverable after %d attempts (%s): %s", self._alarm, attempt, reason, error)
                return Outcome(State.DEAD, attempt, str(error), reason)
            log.warning("alarm %s: attempt %d failed, will be repeated: %s", self._alarm, attempt, error)
            await self._pause(attempt, error)
            return None
        return Outcome(State.DELIVERED, attempt)

    async def _attempt(self, firing: Firing) -> None:
        """Raise nothing but `ActionError`, whatever the plugin does."""
        limit = self._policy.attempt_timeout
        try:
            result = await self._calls.call(self._action.deliver, firing, limit=limit)
        except PluginError as error:
            raise self._explained(error) from error.__cause__
        except TimeoutError as error:
            self._tell_abandoned()
            raise ActionError(f"not done within {limit:g} seconds", retry=True) from error
        except AbandonedError as error:
            raise ActionError(f"not tried: {error}", retry=True) from error
        if result is not None:
            self._tell_nonsense(result)

    def _explained(self, error: PluginError) -> ActionError:
        """Return what the action raised, or what is to be said of an error that it should not raise."""
        cause = error.__cause__
        if isinstance(cause, ActionError):
            return cause
        if isinstance(cause, TimeoutError):
            return ActionError("the action raised TimeoutError", retry=True)
        # A plugin's mistake harms only its own lane.
        log.error("alarm %s: the action raised what it should not", self._alarm, exc_info=cause)
        return ActionError(f"the action raised {error}", retry=False)

    def _tell_abandoned(self) -> None:
        if n := self._calls.abandoned:
            text = "alarm %s: a call goes on beyond its time limit and is abandoned (%d of at most %d)"
            log.error(text, self._alarm, n, MAX_ABANDONED)

    def _tell_nonsense(self, result: object) -> None:
        """Say once that an action returned something, as if that meant something."""
        if not self._is_nonsense_told:
            self._is_nonsense_told = True
            text = "alarm %s: the action returned %s, expected None; it counts as delivered, ActionError would not"
            log.warning(text, self._alarm, type(result).__name__)

    def _why_dead(self, error: ActionError, began: float) -> Reason | None:
        if not error.retry:
            return Reason.REFUSED
        return Reason.GAVE_UP if time.monotonic() - began >= self._policy.give_up_after else None

    async def _pause(self, attempt: int, error: ActionError) -> None:
        chance = random.random()  # noqa: S311  # jitter keeps no secret
        seconds = max(error.after or 0.0, self._policy.pause(attempt, chance))
        self._pausing += 1
        self._on_change()
        try:
            if attempt >= PATIENCE and self._aside < MAX_ASIDE:
                await self._step_aside(seconds)
            else:
                await self._sleep(seconds)
        finally:
            self._pausing -= 1

    async def _step_aside(self, seconds: float) -> None:
        """Wait without a place: what one receiver does not take must not silence the alarm for all others."""
        self._aside += 1
        self._places.release()
        try:
            await self._sleep(seconds)
        finally:
            self._aside -= 1
            await self._places.acquire()

    async def _settle(self, entry: Entry, outcome: Outcome) -> None:
        """Write the outcome down, however long the outbox cannot: what is not written would be delivered twice."""
        while True:
            try:
                self._outbox.settle(entry, outcome)
            except sqlite3.Error as error:
                log.error("alarm %s: the outbox cannot be written: %s", self._alarm, error)  # no news in a traceback
                await asyncio.sleep(PAUSE)
            else:
                return


async def _cancel(tasks: set[asyncio.Task[None]]) -> None:
    waiting = list(tasks)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
