"""A lane delivers one alarm: in order, with a time limit, retries and backoff. No other alarm waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from alarm_mw import signals
from alarm_mw.delivery.breaker import Breaker, Failing, is_set_within
from alarm_mw.delivery.calls import Calls
from alarm_mw.delivery.delivery_attempt import DeliveryAttempt, Ended
from alarm_mw.delivery.fallback import Fallbacks, handed_over
from alarm_mw.delivery.grouping import Group, combined, grouped, single
from alarm_mw.delivery.inbox import PAGE, Inbox
from alarm_mw.delivery.outbox.entries import Entry, Outcome, Settlement, incident_of
from alarm_mw.delivery.outbox.limits import State
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.delivery.outbox.outcome_writer import OutcomeWriter
from alarm_mw.delivery.pace import Pace
from alarm_mw.delivery.policy import DeliveryPolicy
from alarm_mw.delivery.sharing import Claims
from alarm_mw.engine.flood_control.limits import Rate
from alarm_mw.model.errors import ActionError
from alarm_mw.model.fleet import Left, Sharing
from alarm_mw.model.interfaces import Action
from alarm_mw.model.types import Firing, Reason

log = logging.getLogger(__name__)

#: Maximum number of firings in a group; the next one starts another group.
MAX_GROUP = 1000

#: After this many failed attempts, about 15 seconds, a firing lets later ones overtake it.
OVERTAKEN_AFTER = 6

#: How many firings of an alarm may be overtaken at once; beyond that, they keep the order, and spare their receiver.
MAX_OVERTAKEN = 16

#: How many firings may be overtaken while they wait for their turn: those of a backlog, and those of which it is not
#: known yet which machine of a fleet sends them.
MAX_PACED = 1000

#: Seconds before an unexpected failure, such as that of an action's start, is followed by another try.
PAUSE = 1.0


@dataclass(slots=True)
class Shared:
    """What the lanes of a dispatcher share."""

    outbox: Outbox
    #: Writes outcomes into the outbox.
    outcomes: OutcomeWriter
    fallbacks: Fallbacks
    #: Set when something has changed that may end `Dispatcher.drain`.
    changed: asyncio.Event
    #: Decides which machine of a fleet sends a message; None without one.
    sharing: Sharing | None = None


class Lane:
    """One alarm's queue. Lives on the event loop; its methods must be called there."""

    def __init__(
        self, alarm: str, action: Action, policy: DeliveryPolicy, shared: Shared, rate: Rate | None = None
    ) -> None:
        self._alarm = alarm
        self._rate = rate
        #: Made when a backlog is found; None where the alarm has no rate.
        self._pace: Pace | None = None
        #: What waits for its turn by the rate, or by the fleet.
        self._paced: set[asyncio.Task[None]] = set()
        #: What is being claimed of the fleet.
        self._claiming: dict[asyncio.Task[dict[int, Left]], Claims] = {}
        self._policy = policy
        self._shared = shared
        self._inbox = Inbox(alarm, shared.outbox)
        self._calls = Calls(alarm, action, policy.attempt_timeout)
        self._breaker = Breaker(policy)
        self._under_way: set[asyncio.Task[None]] = set()
        self._pausing = 0
        #: How many wait behind another message about the same incident.
        self._behind = 0
        #: The last message under way about each episode of an incident.
        self._of_incidents: dict[str, asyncio.Task[None]] = {}
        #: How many firings let others overtake them.
        self._aside = 0
        self._places = asyncio.Semaphore(action.concurrency)
        #: Set when no further attempt is to be started.
        self._finishing = asyncio.Event()
        #: Set when groups are to be delivered as they are.
        self._ungrouping = asyncio.Event()

    def wake(self) -> None:
        """Look for new firings in the outbox."""
        self._inbox.wake()

    def offer(self, entries: list[Entry], bypasses: int) -> None:
        """Deliver what was just taken into the outbox; see `Inbox.offer`."""
        if self._policy.group_wait:  # which is measured from the time in the outbox
            self._inbox.wake()
        else:
            self._inbox.offer(entries, bypasses)

    def finish(self) -> None:
        """Let `run` return once the attempts under way have ended; what is not delivered stays in the outbox."""
        self._finishing.set()
        self._ungrouping.set()
        self._breaker.release()
        self._inbox.wake()
        for task in self._claiming:
            task.cancel()

    def stop_grouping(self) -> None:
        """Deliver what waits without gathering groups: the program ends soon."""
        self._ungrouping.set()

    def retry_now(self) -> None:
        """Make the next attempt now, whatever the receiver asked for."""
        self._breaker.retry_now()

    def is_stuck(self) -> bool:
        """Return whether everything under way waits for its next attempt, or for another machine of the fleet."""
        waiting = self._pausing + sum(claims.is_deferred for claims in self._claiming.values())
        return waiting > 0 and waiting + self._behind == len(self._under_way)

    def failing(self) -> Failing | None:
        """Return how the receiver is failing; None while it is not."""
        return self._breaker.state()

    @property
    def since(self) -> float | None:
        """When the oldest attempt under way was started, in seconds since the epoch; None where there is none."""
        return self._calls.since

    async def run(self) -> None:
        """Deliver until cancelled, or until `finish`."""
        failures = 0
        try:
            while not self._finishing.is_set():
                try:
                    async with self._calls.opened():
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
            groups = await self._next_groups()
            for group in groups:
                if len(self._paced) >= MAX_PACED:
                    await asyncio.wait(self._paced, return_when=asyncio.FIRST_COMPLETED)
                await self._places.acquire()
                if self._shared.outcomes.is_failing:  # what is delivered meanwhile would be delivered twice
                    await self._shared.outcomes.done()
                if self._finishing.is_set():
                    self._places.release()  # those that were overtaken need one to end
                    break
                self._start(group)
            if not groups:
                await self._inbox.arrival.wait()
        if self._under_way:
            await asyncio.wait(self._under_way)
        # The next lane must not find what this one has delivered.
        await self._shared.outcomes.done()

    async def _next_groups(self) -> Sequence[Group]:
        if not self._policy.group_wait:
            return [single(entry) for entry in self._inbox.take(PAGE)]
        for entry in self._inbox.look():
            await is_set_within(self._ungrouping, self._policy.group_wait - entry.since - entry.before)
        taken = self._inbox.take(MAX_GROUP)
        plain = grouped([entry for entry in taken if incident_of(entry.firing) is None], self._policy.group_by)
        # What begins and what ends must not be one message.
        return [*plain, *(single(entry) for entry in taken if incident_of(entry.firing) is not None)]

    def _start(self, group: Group) -> None:
        thread = incident_of(group.firing)
        before = None if thread is None else self._of_incidents.get(thread)
        slot = self._slot(group)
        if slot is not None:
            delivery = self._deliver_at(slot, group)
        elif before is None:
            delivery = self._deliver(group)
        else:
            delivery = self._deliver_behind(before, group)
            self._behind += 1
            before.add_done_callback(self._go_on)
        task = asyncio.create_task(delivery, name=f"alarm-mw-{self._alarm}")
        self._under_way.add(task)
        task.add_done_callback(self._done)
        if slot is not None:
            self._paced.add(task)
            task.add_done_callback(self._paced.discard)
        if thread is not None:
            self._of_incidents[thread] = task
            task.add_done_callback(functools.partial(self._forget, thread))

    def _slot(self, group: Group) -> float | None:
        """Return when a group of a backlog may be sent, in `time.monotonic`'s seconds; None for at once."""
        now = time.monotonic()
        is_backlog = self._rate is not None and group.entries[0].before > 0
        if is_backlog and self._rate is not None and self._pace is None:
            ages = self._shared.outbox.delivered_ages(self._alarm, self._rate.window, self._rate.count)
            self._pace = Pace(self._rate.count, self._rate.window, [now - age for age in ages])
        if self._pace is None:
            return None
        if not is_backlog:
            self._pace.note(now)
            return None
        slot = self._pace.reserve(now)
        return slot if slot > now else None

    async def _deliver_at(self, slot: float, group: Group) -> None:
        """Deliver later, by the alarm's rate; newer firings are not delayed by that."""
        self._places.release()
        self._pausing += 1
        self._shared.changed.set()
        try:
            await is_set_within(self._finishing, slot - time.monotonic())
        finally:
            self._pausing -= 1
            await self._places.acquire()
        await self._deliver(group)

    def _go_on(self, _: asyncio.Task[None]) -> None:
        self._behind -= 1

    def _forget(self, thread: str, task: asyncio.Task[None]) -> None:
        if self._of_incidents.get(thread) is task:
            del self._of_incidents[thread]

    async def _deliver_behind(self, before: asyncio.Task[None], group: Group) -> None:
        """Deliver behind an earlier message about the same incident: its end must not overtake its beginning."""
        self._places.release()
        try:
            await asyncio.wait({before})
        finally:
            await self._places.acquire()
        await self._deliver(group)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._places.release()
        self._shared.changed.set()

    async def _deliver(self, group: Group) -> None:
        """Try until it is delivered, refused, given up or handed over, or the lane is to finish."""
        attempt = DeliveryAttempt.of(group, self._policy)
        if (sharing := self._shared.sharing) is not None:
            attempt.claims = Claims(sharing, self._shared.changed.set)
        try:
            result: Outcome | Ended | None = None
            while result is None and not self._finishing.is_set():
                result = await self._try(attempt)
            if isinstance(result, Outcome):
                self._settle(attempt, result)
        finally:
            if attempt.claims is not None:
                attempt.claims.settle(is_sent=False)

    async def _claim(self, attempt: DeliveryAttempt, claims: Claims) -> Ended | None:
        """Find out what of a group this machine is to send, and without a place: others of the alarm go on.

        What other machines send is dropped. Returns why nothing is to be sent, or None.
        """
        entries, me = attempt.group.entries, asyncio.current_task()
        assert me is not None
        task = asyncio.create_task(claims.take(entries), name=f"alarm-mw-claim-{self._alarm}")
        self._claiming[task] = claims
        self._paced.add(me)
        self._places.release()
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
            del self._claiming[task]
            self._paced.discard(me)
            await self._places.acquire()
        if task.cancelled():  # the lane is to finish
            for entry in entries:
                self._shared.outbox.end(entry.seq)
            return Ended.FINISHING
        left = task.result()
        for entry in entries:
            if entry.seq in left:
                self._leave(attempt, entry, left[entry.seq])
        rest = [entry for entry in entries if entry.seq not in left]
        if not rest:
            return Ended.LEFT
        attempt.group = Group(tuple(rest), combined([entry.firing for entry in rest]))
        attempt.message = combined(claims.firings(rest))
        if self._finishing.is_set():
            return Ended.FINISHING
        return None if self._begins(attempt) else Ended.DROPPED

    def _leave(self, attempt: DeliveryAttempt, entry: Entry, left: Left) -> None:
        """Drop a firing that another machine sends."""
        is_deferred = attempt.claims is not None and entry.seq in attempt.claims.deferred
        outcome = Outcome(State.DROPPED, attempt.attempts, left.text, left.reason, is_deferred)
        settlement = Settlement((entry,), outcome)
        self._shared.outcomes.add(settlement, functools.partial(self._left, entry.firing, outcome))

    def _left(self, firing: Firing, outcome: Outcome) -> None:
        log.debug("alarm %s: left to the fleet (%s): %s: %s", self._alarm, outcome.reason, outcome.error, firing.id)
        self._shared.changed.set()

    async def _try(self, attempt: DeliveryAttempt) -> Outcome | Ended | None:
        """Make one attempt when its turn comes; return how it ended, or None where the group is to be tried again."""
        attempt.fallback = self._shared.fallbacks.of(attempt.group.firing)
        if (outcome := self._outcome_without_attempt(attempt)) is not None:
            if not self._breaker.takes_probe():
                return self._given_up(attempt, outcome)
        elif not await self._turn(attempt):
            return None
        if not self._begins(attempt):
            return Ended.DROPPED
        if attempt.claims is None:
            return await self._attempt(attempt)
        if (ended := await self._claim(attempt, attempt.claims)) is not None:
            return ended
        outcome = await self._attempt(attempt)
        if outcome is None:
            attempt.claims.failed(attempt.pause)
        else:
            attempt.claims.settle(is_sent=outcome.state is State.DELIVERED)
            outcome = replace(outcome, is_deferred=bool(attempt.claims.deferred))
        return outcome

    def _given_up(self, attempt: DeliveryAttempt, outcome: Outcome) -> Outcome | Ended:
        if not self._begins(attempt):
            return Ended.DROPPED
        if outcome.state is State.DEAD:
            error = ActionError(outcome.error, retry=True)
            signals.send(signals.failed, self._alarm, firing=attempt.firing, error=error, dead=True)
        return outcome

    async def _attempt(self, attempt: DeliveryAttempt) -> Outcome | None:
        under_way, seqs = self._shared.outbox.under_way, [entry.seq for entry in attempt.group.entries]
        attempt.attempts += 1
        if under_way is not None:
            under_way.begin(seqs)
        try:
            await self._calls.deliver(attempt.firing)
        except ActionError as error:
            if under_way is not None:
                under_way.end(seqs)
            outcome = self._failed(attempt, error)
            if outcome is None and incident_of(attempt.group.firing) is not None:
                self._shared.outbox.end(seqs[0])
            return outcome
        if under_way is not None:
            under_way.succeed(seqs)
        self._succeeded()
        return Outcome(State.DELIVERED, attempt.attempts)

    def _begins(self, attempt: DeliveryAttempt) -> bool:
        """Return whether the group still is to be delivered: a message about an incident may have been dropped."""
        group = attempt.group
        return incident_of(group.firing) is None or self._shared.outbox.begin(group.entries[0])

    def _outcome_without_attempt(self, attempt: DeliveryAttempt) -> Outcome | None:
        """Return the final outcome of a group that is not tried any more; None where it is to be tried."""
        is_overdue = self._breaker.is_open and attempt.is_overdue(self._breaker.failing_since)
        error = attempt.error or self._breaker.error
        if self._is_to_hand_over(attempt) or (is_overdue and attempt.fallback is not None):
            return Outcome(State.HANDED_OVER, attempt.attempts, error)
        return Outcome(State.DEAD, attempt.attempts, error, Reason.GAVE_UP) if is_overdue else None

    def _is_to_hand_over(self, attempt: DeliveryAttempt) -> bool:
        return attempt.patience(self._breaker.failing_since) == 0.0

    def _succeeded(self) -> None:
        if self._breaker.is_open:
            log.info("alarm %s: delivery works again", self._alarm)
        self._breaker.succeeded()

    def _failed(self, attempt: DeliveryAttempt, error: ActionError) -> Outcome | None:
        """Return the final outcome, or None where the attempt is to be repeated."""
        attempt.fallback = self._shared.fallbacks.of(attempt.group.firing)
        reason = attempt.failed(error, random.random())
        if error.retry:
            self._note(attempt, error)
        else:
            self._succeeded()  # the receiver responds
        is_handed_over = attempt.fallback is not None and (reason is not None or self._is_to_hand_over(attempt))
        is_dead = reason is not None and not is_handed_over
        signals.send(signals.failed, self._alarm, firing=attempt.firing, error=error, dead=is_dead)
        if is_handed_over:
            return Outcome(State.HANDED_OVER, attempt.attempts, attempt.error)
        if reason is not None:
            return Outcome(State.DEAD, attempt.attempts, attempt.error, reason)
        log.warning("alarm %s: attempt %d failed, will be repeated: %s", self._alarm, attempt.attempts, error)
        return None

    def _note(self, attempt: DeliveryAttempt, error: ActionError) -> None:
        was_open = self._breaker.is_open
        self._breaker.failed(error)
        if self._breaker.is_open and not was_open:
            log.error("alarm %s: it keeps failing, attempts are made one at a time from now on", self._alarm)
        with contextlib.suppress(sqlite3.Error):  # then only this process knows
            self._shared.outbox.note_failure(attempt.group.entries, attempt.attempts, attempt.error)

    async def _turn(self, attempt: DeliveryAttempt) -> bool:
        """Wait for the time of the next attempt; return False when none is to be made."""
        if not attempt.pause and not self._breaker.is_open:
            return True
        async with self._paused(attempt):
            try:
                async with asyncio.timeout(attempt.patience(self._breaker.failing_since)):
                    if not self._breaker.is_open:
                        await self._breaker.rest(attempt.pause)
                    await self._breaker.admit()
            except TimeoutError:  # time for the fallback
                return False
        return not self._finishing.is_set()

    @contextlib.asynccontextmanager
    async def _paused(self, attempt: DeliveryAttempt) -> AsyncIterator[None]:
        self._pausing += 1
        self._shared.changed.set()
        is_aside = attempt.attempts >= OVERTAKEN_AFTER and self._aside < MAX_OVERTAKEN
        try:
            async with self._stepped_aside() if is_aside else contextlib.nullcontext():
                yield
        finally:
            self._pausing -= 1

    @contextlib.asynccontextmanager
    async def _stepped_aside(self) -> AsyncIterator[None]:
        """Wait without a place: what one receiver refuses must not silence the alarm for all others."""
        self._aside += 1
        self._places.release()
        try:
            yield
        finally:
            self._aside -= 1
            await self._places.acquire()

    def _settle(self, attempt: DeliveryAttempt, outcome: Outcome) -> None:
        """Write the outcome into the outbox, and report it once it is written."""
        successor = None
        if outcome.state is State.HANDED_OVER and attempt.fallback is not None:
            successor = handed_over(attempt.group.firing, attempt.fallback.alarm)
        settlement = Settlement(attempt.group.entries, outcome, successor)
        self._shared.outcomes.add(settlement, functools.partial(self._settled, attempt.firing, settlement))

    def _settled(self, firing: Firing, settlement: Settlement) -> None:
        outcome, successor = settlement.outcome, settlement.successor
        if outcome.state is State.DELIVERED:
            signals.send(signals.delivered, self._alarm, firing=firing)
        elif outcome.reason is not None:
            attempts = "1 attempt" if outcome.attempts == 1 else f"{outcome.attempts} attempts"
            log.error("alarm %s: undeliverable after %s (%s): %s", self._alarm, attempts, outcome.reason, outcome.error)
        if successor is not None:
            log.warning("alarm %s: handed over to %s: %s", self._alarm, successor.alarm, outcome.error)
        self._shared.changed.set()


async def _cancel(tasks: set[asyncio.Task[None]]) -> None:
    waiting = list(tasks)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
