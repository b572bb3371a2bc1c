"""A lane delivers one alarm: in order, with a time limit, retries and backoff. Nobody else waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from alarm_mw import signals
from alarm_mw.delivery.attempts import Attempts
from alarm_mw.delivery.breaker import Breaker, Failing
from alarm_mw.delivery.delivery_attempt import Trial
from alarm_mw.delivery.fallback import Way, handed_over
from alarm_mw.delivery.grouping import Parcel, grouped, single
from alarm_mw.delivery.inbox import PAGE, Inbox
from alarm_mw.delivery.outbox.outbox import Entry, Outbox, Outcome, Settlement, State
from alarm_mw.delivery.outbox.outcome_writer import Settler
from alarm_mw.delivery.policy import Delivery
from alarm_mw.delivery.waiting import is_set_within
from alarm_mw.model.errors import ActionError
from alarm_mw.model.interfaces import Action
from alarm_mw.model.types import Firing, Reason

log = logging.getLogger(__name__)

#: How many firings one may stand for; what comes beyond begins the next group.
MAX_GROUP = 1000

#: After so many attempts in vain, some 15 seconds, a firing lets those behind it past.
PATIENCE = 6

#: How many firings of an alarm may stand aside at once; beyond, they keep the order, and their receiver its peace.
MAX_ASIDE = 16

#: Seconds before something is tried again that should not have failed, such as an action's start.
PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a lane calls, on the event loop."""

    #: Something has changed that one who waits for the end of all deliveries wants to look at.
    on_change: Callable[[], None]
    #: Returns who delivers a firing when its alarm cannot.
    find_way: Callable[[Firing], Way | None]
    #: There is something new in the outbox for this alarm.
    wake: Callable[[str], None]
    #: Writes outcomes down.
    settler: Settler


class Lane:
    """One alarm's queue. Lives on the event loop; its methods must be called there."""

    def __init__(
        self, alarm: str, action: Action, policy: Delivery, outbox: Outbox, surroundings: Surroundings
    ) -> None:
        self._alarm = alarm
        self._policy = policy
        self._outbox = outbox
        self._inbox = Inbox(alarm, outbox)
        self._around = surroundings
        self._attempts = Attempts(alarm, action, policy.attempt_timeout)
        self._breaker = Breaker(policy)
        self._under_way: set[asyncio.Task[None]] = set()
        self._pausing = 0
        #: How many firings have let others past.
        self._aside = 0
        self._places = asyncio.Semaphore(action.concurrency)
        #: Set when no further attempt is to be begun.
        self._finishing = asyncio.Event()
        #: Set when groups are to be delivered as they are.
        self._hurrying = asyncio.Event()

    def wake(self) -> None:
        """There is something new in the outbox."""
        self._inbox.wake()

    def offer(self, entries: list[Entry], detours: int) -> None:
        """There is this in the outbox; see `Inbox.offer`."""
        if self._policy.group_wait:  # whose time begins in the outbox
            self._inbox.wake()
        else:
            self._inbox.offer(entries, detours)

    def finish(self) -> None:
        """Let `run` return as soon as the attempts that are under way have ended; what is not delivered waits on."""
        self._finishing.set()
        self._hurrying.set()
        self._breaker.release()
        self._inbox.wake()

    def hurry(self) -> None:
        """Gather no groups any more: the end is near."""
        self._hurrying.set()

    def hasten(self) -> None:
        """Make the next attempt now, whatever the receiver asked for."""
        self._breaker.hasten()

    def is_stuck(self) -> bool:
        """Return whether everything under way waits for its next attempt."""
        return self._pausing > 0 and self._pausing == len(self._under_way)

    def failing(self) -> Failing | None:
        """Return how the receiver fails; None while all is well."""
        return self._breaker.state()

    @property
    def since(self) -> float | None:
        """When the oldest attempt under way was begun, in seconds since the epoch; None where there is none."""
        return self._attempts.since

    async def run(self) -> None:
        """Deliver until cancelled, or told to finish."""
        failures = 0
        try:
            while not self._finishing.is_set():
                try:
                    async with self._attempts.opened():
                        failures = 0
                        await self._work()
                except Exception:  # a plugin's mistake, or the outbox's disk, must not end the lane
                    failures += 1
                    log.exception("alarm %s: its lane failed and is started again", self._alarm)
                    await self._breaker.rest(max(PAUSE, self._policy.pause(failures, chance=1.0)))
        finally:
            await _cancel(self._under_way)

    async def _work(self) -> None:
        while not self._finishing.is_set():
            parcels = await self._next_parcels()
            for parcel in parcels:
                await self._places.acquire()
                if self._around.settler.is_failing:  # what is delivered meanwhile would be delivered twice
                    await self._around.settler.done()
                if self._finishing.is_set():
                    self._places.release()  # those that stand aside need one to end
                    break
                self._start(parcel)
            if not parcels:
                await self._inbox.arrival.wait()
        if self._under_way:
            await asyncio.wait(self._under_way)
        # The next lane must not find what this one has delivered.
        await self._around.settler.done()

    async def _next_parcels(self) -> Sequence[Parcel]:
        if not self._policy.group_wait:
            return [single(entry) for entry in self._inbox.take(PAGE)]
        for entry in self._inbox.look():
            await is_set_within(self._hurrying, self._policy.group_wait - entry.since - entry.before)
        return grouped(self._inbox.take(MAX_GROUP), self._policy.group_by)

    def _start(self, parcel: Parcel) -> None:
        task = asyncio.create_task(self._deliver(parcel), name=f"alarm-mw-{self._alarm}")
        self._under_way.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._places.release()
        self._around.on_change()

    async def _deliver(self, parcel: Parcel) -> None:
        """Try until it is delivered, refused, given up or handed over, or the lane is to finish."""
        trial = Trial.of(parcel, self._policy)
        while not self._finishing.is_set():
            if (outcome := await self._try(trial)) is not None:
                self._settle(trial, outcome)
                return

    async def _try(self, trial: Trial) -> Outcome | None:
        """Make one attempt when its turn comes; return how it ended for good, or None."""
        trial.way = self._around.find_way(trial.parcel.firing)
        if (untried := self._untried(trial)) is not None:
            if not self._breaker.takes_probe():
                self._tell_untried(trial, untried)
                return untried
        elif not await self._turn(trial):
            return None
        trial.attempts += 1
        under_way, seqs = self._outbox.under_way, [entry.seq for entry in trial.parcel.entries]
        if under_way is not None:
            under_way.begin(seqs)
        try:
            await self._attempts.make(trial.parcel.firing)
        except ActionError as error:
            if under_way is not None:
                under_way.end(seqs)
            return self._failed(trial, error)
        if under_way is not None:
            under_way.succeed(seqs)
        self._worked()
        return Outcome(State.DELIVERED, trial.attempts)

    def _untried(self, trial: Trial) -> Outcome | None:
        """Return what becomes of it for good without another attempt; None where one is to be made."""
        is_overdue = self._breaker.is_open and trial.is_overdue(self._breaker.failing_since)
        error = trial.error or self._breaker.error
        if self._is_to_hand_over(trial) or (is_overdue and trial.way is not None):
            return Outcome(State.HANDED_OVER, trial.attempts, error)
        return Outcome(State.DEAD, trial.attempts, error, Reason.GAVE_UP) if is_overdue else None

    def _tell_untried(self, trial: Trial, outcome: Outcome) -> None:
        if outcome.state is State.DEAD:
            error = ActionError(outcome.error, retry=True)
            signals.send(signals.failed, self._alarm, firing=trial.parcel.firing, error=error, dead=True)

    def _is_to_hand_over(self, trial: Trial) -> bool:
        return trial.patience(self._breaker.failing_since) == 0.0

    def _worked(self) -> None:
        if self._breaker.is_open:
            log.warning("alarm %s: it can be delivered again", self._alarm)
        self._breaker.worked()

    def _failed(self, trial: Trial, error: ActionError) -> Outcome | None:
        """Return what becomes of it for good, or None where the attempt is to be repeated."""
        trial.way = self._around.find_way(trial.parcel.firing)
        reason = trial.failed(error, random.random())
        if error.retry:
            self._note(trial, error)
        else:
            self._worked()  # the receiver answers
        is_handed_over = trial.way is not None and (reason is not None or self._is_to_hand_over(trial))
        is_dead = reason is not None and not is_handed_over
        signals.send(signals.failed, self._alarm, firing=trial.parcel.firing, error=error, dead=is_dead)
        if is_handed_over:
            return Outcome(State.HANDED_OVER, trial.attempts, trial.error)
        if reason is not None:
            return Outcome(State.DEAD, trial.attempts, trial.error, reason)
        log.warning("alarm %s: attempt %d failed, will be repeated: %s", self._alarm, trial.attempts, error)
        return None

    def _note(self, trial: Trial, error: ActionError) -> None:
        was_open = self._breaker.is_open
        self._breaker.failed(error)
        if self._breaker.is_open and not was_open:
            log.error("alarm %s: it keeps failing, and is tried by one firing at a time from now on", self._alarm)
        with contextlib.suppress(sqlite3.Error):  # then only this process knows
            self._outbox.note_failure(trial.parcel.entries, trial.attempts, trial.error)

    async def _turn(self, trial: Trial) -> bool:
        """Wait for the time of the next attempt; return False when none is to be made."""
        if not trial.pause and not self._breaker.is_open:
            return True
        async with self._paused(trial):
            try:
                async with asyncio.timeout(trial.patience(self._breaker.failing_since)):
                    if not self._breaker.is_open:
                        await self._breaker.rest(trial.pause)
                    await self._breaker.admit()
            except TimeoutError:  # time for another way
                return False
        return not self._finishing.is_set()

    @contextlib.asynccontextmanager
    async def _paused(self, trial: Trial) -> AsyncIterator[None]:
        self._pausing += 1
        self._around.on_change()
        is_aside = trial.attempts >= PATIENCE and self._aside < MAX_ASIDE
        try:
            async with self._stepped_aside() if is_aside else contextlib.nullcontext():
                yield
        finally:
            self._pausing -= 1

    @contextlib.asynccontextmanager
    async def _stepped_aside(self) -> AsyncIterator[None]:
        """Wait without a place: what one receiver does not take must not silence the alarm for all others."""
        self._aside += 1
        self._places.release()
        try:
            yield
        finally:
            self._aside -= 1
            await self._places.acquire()

    def _settle(self, trial: Trial, outcome: Outcome) -> None:
        """Have the outcome written down, and told when it is."""
        successor = None
        if outcome.state is State.HANDED_OVER and trial.way is not None:
            successor = handed_over(trial.parcel.firing, trial.way.alarm)
        settlement = Settlement(trial.parcel.entries, outcome, successor)
        self._around.settler.add(settlement, functools.partial(self._settled, trial.parcel.firing, settlement))

    def _settled(self, firing: Firing, settlement: Settlement) -> None:
        outcome, successor = settlement.outcome, settlement.successor
        if outcome.state is State.DELIVERED:
            signals.send(signals.delivered, self._alarm, firing=firing)
        elif outcome.reason is not None:
            attempts = "1 attempt" if outcome.attempts == 1 else f"{outcome.attempts} attempts"
            log.error("alarm %s: undeliverable after %s (%s): %s", self._alarm, attempts, outcome.reason, outcome.error)
        if successor is not None:
            log.warning("alarm %s: handed over to %s: %s", self._alarm, successor.alarm, outcome.error)
            self._around.wake(successor.alarm)
        self._around.on_change()


async def _cancel(tasks: set[asyncio.Task[None]]) -> None:
    waiting = list(tasks)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
