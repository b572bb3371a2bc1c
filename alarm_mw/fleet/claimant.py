"""Claims messages: decides together with the other machines which of them sends a message."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec
from msgspec import structs

from alarm_mw.engine.messages import named
from alarm_mw.fleet.link import Link
from alarm_mw.fleet.memory import ToldMemory
from alarm_mw.fleet.messages import (
    Message,
    alone,
    base36,
    in_order,
    info_of,
    message_of,
    next_message,
    offer_of,
    shared,
    shared_alarm,
    window_of,
)
from alarm_mw.fleet.relay import Relay
from alarm_mw.fleet.store import Answer, Belief, Event, FleetUnreachableError, Offer, Settled, Settlement, Told
from alarm_mw.fleet.tasks import Tasks, is_set
from alarm_mw.model.fleet import Claim, FleetPlan, Left, LocalState
from alarm_mw.model.types import Firing, IncidentNotice, Reason

#: How many firings are remembered that a machine has made for an escalation, to know how far apart they are.
MOST_REPEATED = 10_000

#: Milliseconds by which this member may be wrong about the shared time.
_UNSURE = 1000

_REASONS: Mapping[str, Reason] = {str(each): each for each in (Reason.RATE, Reason.ALARM_RATE, Reason.ACKNOWLEDGED)}

_settled = msgspec.json.Decoder(Settled)
_named = msgspec.json.Decoder(dict[str, str])


@dataclass(eq=False, slots=True)
class Waiting:
    """A message that this machine would send, until it is known which machine does."""

    message: Message
    #: What the fleet has given it.
    given: str = ""
    ep: int = 0
    #: The machine that owns it.
    owner: str = ""
    #: Set when there is a reason to ask again.
    news: asyncio.Event = field(default_factory=asyncio.Event)
    #: What has ended the wait.
    settled: Settled | None = None


@dataclass(eq=False, slots=True)
class Held:
    """A message that this machine sends for all."""

    message: Message
    #: The id of what is sent.
    id: str
    ep: int
    token: int
    claimed: str = ""


class Claimant:
    """Lives on the dispatcher's event loop; implements `alarm_mw.model.fleet.Sharing`."""

    def __init__(self, plan: FleetPlan, link: Link, memory: ToldMemory, relay: Relay, local: LocalState) -> None:
        #: Changes with a reload.
        self.plan = plan
        self._link = link
        self._memory = memory
        self._relay = relay
        self._local = local
        self._waiting: dict[tuple[str, str], set[Waiting]] = {}
        #: By the id of what is sent.
        self._held: dict[str, Held] = {}
        #: When this machine last fired an escalation, by message key, alarm and its own episode.
        self._escalated: dict[tuple[str, str, str], float] = {}
        self._hurried = asyncio.Event()
        #: Say what became of messages.
        self._closing = Tasks()
        self.counters = dict.fromkeys(
            ("offers", "claims", "deferred", "left", "lost", "fail_opens", "settled", "released"), 0
        )

    async def stop(self, timeout: float) -> None:
        """Say what became of the last messages. Takes at most `timeout` seconds."""
        if self._link.state == "connected":
            await self._closing.wait(timeout)
        await self._closing.stop()

    def hurry(self) -> None:
        """See `Sharing`."""
        self._hurried.set()

    def shares(self, firing: Firing) -> bool:
        """Return whether the message concerns the fleet."""
        plan = self.plan
        name = "" if firing.trigger is None else firing.trigger.name
        if firing.machines is not None:  # it speaks for the fleet, and was left to this hub
            return False
        return firing.alarm in plan.alarms and not (plan.local_rules and {name, firing.rule} & plan.local_rules)

    async def claim(self, firing: Firing, on_deferred: Callable[[], object]) -> Claim | Left:
        """See `Sharing`."""
        waiting = Waiting(message_of(firing))
        place = (waiting.message.key, waiting.message.alarm)
        self._waiting.setdefault(place, set()).add(waiting)
        try:
            return await self._claim(waiting, on_deferred)
        finally:
            known = self._waiting[place]
            known.discard(waiting)
            if not known:
                del self._waiting[place]

    async def _claim(self, waiting: Waiting, on_deferred: Callable[[], object]) -> Claim | Left:
        interval = self._interval(waiting.message)
        while True:
            if not await self._is_reachable(waiting, on_deferred):
                return self._alone(waiting)
            waiting.news.clear()
            try:
                answer = await self._offer(waiting, interval)
            except FleetUnreachableError:
                continue
            if answer.kind == "own":
                if (claim := await self._gathered(waiting, answer)) is not None:
                    return claim
            elif answer.kind == "deferred":
                if waiting.owner != answer.by:
                    self.counters["deferred"] += 1
                waiting.owner, waiting.given, waiting.ep = answer.by, answer.id, answer.ep
                on_deferred()
                if (left := await self._wait_for_owner(waiting)) is not None:
                    return left
            elif answer.kind == "wait":
                waiting.given, waiting.ep = answer.id or waiting.given, answer.ep or waiting.ep
                await is_set(waiting.news, answer.wait / 1000 * random.uniform(1.0, 1.1) + 0.01)
            else:
                return self._left(waiting.message, answer)

    async def renew(self, claim: Claim) -> bool:
        """See `Sharing`."""
        held = self._held.get(claim.firing.id)
        if held is None or self._link.state != "connected":
            return True
        if not held.token:  # another machine may have sent it, now that they can be asked
            del self._held[held.id]
            return False
        try:
            answer = await self._confirm(held)
        except FleetUnreachableError:
            return True
        if answer.kind == "own":
            return True
        self.counters["lost"] += 1
        del self._held[held.id]
        return False

    async def _confirm(self, held: Held) -> Answer:
        offer = self._offer_of(held.message, given=held.id, ep=held.ep, token=held.token, claimed=held.claimed)
        return await self._ask(held.message, offer)

    async def confirm_all(self) -> None:
        """Say of all messages that this machine sends them."""
        for held in [each for each in self._held.values() if each.token]:
            await self._confirm(held)

    def is_busy(self, key: str) -> bool:
        """Return whether messages of a key are under way."""
        return any(name == key for name, _ in self._waiting) or any(
            held.message.key == key for held in self._held.values()
        )

    def settle(self, claim: Claim, *, is_sent: bool) -> None:
        """See `Sharing`."""
        held = self._held.pop(claim.firing.id, None)
        if held is None:
            return
        if is_sent:
            self.counters["settled"] += 1
            self._note_sent(held)
        if held.token:
            if not is_sent:
                self.counters["released"] += 1
            self._closing.spawn(self._close(held, is_sent=is_sent))

    def _note_sent(self, held: Held) -> None:
        message = held.message
        known = self._memory.get(message.key, message.alarm)
        _, seq = next_message(message.kind, known, 0)
        status: Belief = "over" if message.kind == "resolved" else "open"
        # What the fleet says about the time is right, and counts as later.
        at = self._link.clock.now() - (_UNSURE if held.token else 0)
        told = Told(at, held.ep, status, held.id, self.plan.machine, seq)
        self._memory.note(message.key, message.alarm, told, 0, is_event=message.is_event)

    async def _close(self, held: Held, *, is_sent: bool) -> None:
        message, link = held.message, self._link
        settlement = Settlement(
            machine=self.plan.machine,
            key=message.key,
            alarm=message.alarm,
            token=held.token,
            id=held.id,
            is_event=message.is_event,
            window=window_of(self.plan, message.alarm) if message.is_event else None,
            grace=int(link.periods.grace * 1000),
        )
        answer = await link.call(link.store.settle(settlement) if is_sent else link.store.release(settlement))
        known = self._memory.get(message.key, message.alarm)
        if is_sent and answer.kind == "told" and known is not None:
            told = structs.replace(known, at=answer.told, ep=answer.ep, seq=answer.seq)
            self._memory.note(message.key, message.alarm, told, answer.gen, is_event=message.is_event)

    # Offers

    def _interval(self, message: Message) -> float | None:
        """Return the seconds between two reminders, or repetitions of an escalation; None for the first message."""
        notice = message.notice
        if notice is None or notice.status not in ("reminder", "escalated"):
            return None
        place, now = (message.key, message.alarm, message.thread), message.firing.time
        former = self._escalated.pop(place, None)
        self._escalated[place] = now
        if len(self._escalated) > MOST_REPEATED:
            del self._escalated[next(iter(self._escalated))]
        if notice.status == "reminder":
            return shared_alarm(self.plan, message.alarm).repeat_interval
        return now - former if former is not None and former < now else None

    def _offer_of(
        self,
        message: Message,
        *,
        given: str = "",
        ep: int = 0,
        interval: float | None = None,
        token: int | None = None,
        claimed: str = "",
    ) -> Offer:
        """Return what a message is to the shared state."""
        notice, clock, periods = message.notice, self._link.clock, self._link.periods
        known = self._memory.get(message.key, message.alarm)
        if not ep and known is not None and notice is not None:
            ep = known.ep if known.status == "open" or message.kind == "resolved" else known.ep + 1
        kind = "repeat" if interval is not None else message.kind
        return structs.replace(
            offer_of(kind, message.key, message.alarm, self.plan, periods, is_event=message.is_event),
            id=message.firing.id,
            sent=clock.now(),
            is_member=notice is not None and message.kind != "resolved",
            count=message.firing.count if notice is None else max(notice.count, 1),
            thread=message.thread,
            fired=None if notice is None else clock.shared(notice.started),
            began=None if notice is None else clock.shared(_began(message.firing, notice)),
            info=info_of(message.firing, self.plan.program),
            cause="" if notice is None else notice.ended_by,
            by=notice.end if notice is not None and notice.ended_by == "operator" else "",
            given=given or None,
            ep=ep,
            token=token,
            claimed=claimed,
            interval=None if interval is None else int(interval * 1000),
        )

    async def _offer(self, waiting: Waiting, interval: float | None) -> Answer:
        message = waiting.message
        self.counters["offers"] += 1
        answer = await self._ask(
            message, self._offer_of(message, given=waiting.given, ep=waiting.ep, interval=interval)
        )
        for alarm in answer.owed:  # only other machines have notified it of the beginning
            if isinstance(alarm, str):
                name = f"{message.key}-{base36(answer.ep)}-end.{named(alarm)}"
                self._local.send(structs.replace(message.firing, id=name, alarm=alarm, via=()))
        return answer

    async def _ask(self, message: Message, offer: Offer) -> Answer:
        link = self._link
        if message.kind == "resolved":
            self._memory.reported.pop(message.key, None)
            return await link.call(link.store.resolve(offer))
        if offer.is_member:
            self._memory.reported.setdefault(message.key, link.clock.monotonic())
        return await link.call(link.store.offer(offer))

    async def _gathered(self, waiting: Waiting, answer: Answer) -> Claim | None:
        """Wait for other machines that have the same to say; return None where the fleet has to be asked again."""
        message = waiting.message
        waiting.given, waiting.ep = answer.id, answer.ep
        held = Held(message, answer.id, answer.ep, answer.token, answer.claimed)
        try:
            if answer.claimed in ("begin", "event"):
                await is_set(self._hurried, self.plan.group_wait)
            if self._link.state == "connected":
                with contextlib.suppress(FleetUnreachableError):
                    answer = await self._confirm(held)
        except asyncio.CancelledError:
            self._closing.spawn(self._close(held, is_sent=False))
            raise
        if answer.kind != "own":
            self.counters["lost"] += 1
            return None
        if self._link.state != "connected":
            return None  # it is asked for again, as soon as the fleet is back, or sent alone
        self.counters["claims"] += 1
        self._held[held.id] = held
        started = None if answer.started is None else self._link.clock.wall(answer.started)
        return Claim(shared(message, answer, self.plan.name, started), message.key, answer.token)

    def _left(self, message: Message, answer: Answer) -> Left:
        self.counters["left"] += 1
        if answer.told and answer.status:
            told = Told(answer.told, answer.ep, "over" if answer.status == "over" else "open", answer.id, answer.by)
            told = structs.replace(told, seq=answer.seq)
            self._memory.note(message.key, message.alarm, told, answer.gen, is_event=message.is_event)
        if answer.ack is not None:
            self._relay.take_ack(message.key, answer.ack)
        if answer.over is not None:
            self._relay.take_end(message.key, answer.over)
            return Left(Reason.FLEET, f"resolved by {answer.over.by}")
        reason = Reason(answer.reason) if answer.reason in _REASONS else Reason.FLEET
        if reason is Reason.FLEET:
            return Left(reason, self._left_text(message, answer))
        return Left(reason, "" if answer.ack is None else f"acknowledged by {answer.ack.by}")

    def _left_text(self, message: Message, answer: Answer) -> str:
        if answer.n and message.kind == "resolved":
            more = "" if not answer.machines else f": {', '.join(in_order(answer.machines))}"
            return f"still firing on {answer.n} machines{more}" if answer.n > 1 else f"still firing{more}"
        if not answer.by:
            return "no machine has sent that it began" if message.kind == "resolved" else ""
        seconds = max((self._link.clock.now() - answer.told) / 1000, 0.0)
        return f"sent by {answer.by} {seconds:.0f} s ago"

    # Waits

    async def _is_reachable(self, waiting: Waiting, on_deferred: Callable[[], object]) -> bool:
        """Wait for the fleet as long as the message can wait; return whether it can be asked."""
        link = self._link
        if link.state == "connected":
            return True
        if link.state == "connecting":
            await is_set(link.is_known, self._link.periods.first_connection)
            if link.state == "connected":
                return True
        patience = self._patience(waiting)
        if patience > self._link.periods.tolerance:
            on_deferred()
        return await is_set(link.is_connected, patience - (self._link.clock.monotonic() - link.away_since))

    def _patience(self, waiting: Waiting) -> float:
        """Return how many seconds a message waits for a fleet that is away."""
        message = waiting.message
        known = self._memory.get(message.key, message.alarm)
        is_told_by_other = known is not None and known.status == "open" and known.by != self.plan.machine
        if message.kind == "resolved" and is_told_by_other:
            return self._link.periods.end_patience
        # What has been said is not urgent; but it may be over meanwhile, and begin again.
        is_known = waiting.owner or (message.kind == "begin" and is_told_by_other)
        return self._link.periods.patience if is_known else self._link.periods.tolerance

    async def _wait_for_owner(self, waiting: Waiting) -> Left | None:
        """Wait until the owner has sent the message, or may not be about to any more."""
        await is_set(waiting.news, self._link.periods.owner_timeout * random.uniform(1.0, 1.3))
        settled, waiting.settled = waiting.settled, None
        if settled is None or not self._answers(settled, waiting):
            return None
        self.counters["left"] += 1
        return Left(Reason.FLEET, f"sent by {settled.by}")

    @staticmethod
    def _answers(settled: Settled, waiting: Waiting) -> bool:
        """Return whether a message of another machine says what this one would."""
        kind = waiting.message.kind
        if kind == "event":
            return True
        return (
            settled.ep == waiting.ep and kind != "acknowledged" and (settled.status == "over") is (kind == "resolved")
        )

    def _alone(self, waiting: Waiting) -> Claim | Left:
        message = waiting.message
        known = self._memory.get(message.key, message.alarm)
        if message.kind == "repeat" and known is not None and known.by not in ("", self.plan.machine):
            return Left(Reason.FLEET, f"fleet unreachable, left to {known.by}")
        if message.kind == "resolved" and known is not None and known.status == "over":
            return Left(Reason.FLEET, f"sent by {known.by}")
        self.counters["fail_opens"] += 1
        notice = message.notice
        fired = 0 if notice is None else self._link.clock.shared(notice.started)
        firing = alone(message, waiting.given, known, fired, self.plan.name)
        ep = waiting.ep or (0 if notice is None else next_message(message.kind, known, fired)[0])
        self._held[firing.id] = Held(message, firing.id, ep, 0)
        return Claim(firing)

    # What comes over the connection

    def event(self, event: Event) -> None:
        """Take note of what became of messages, and of machines that send no more."""
        if event.kind == "settled":
            self._note_settled(_settled.decode(event.body))
        elif event.kind == "released":
            body = _named.decode(event.body)
            for waiting in self._waiting.get((body["key"], body["alarm"]), ()):
                waiting.news.set()
        elif event.kind in ("left", "late"):
            self.ask_again(_named.decode(event.body)["machine"])

    def ask_again(self, owner: str | None = None) -> None:
        """Let messages ask again, all of them, or those that a machine owns."""
        for waiting in [each for group in self._waiting.values() for each in group]:
            if owner is None or waiting.owner == owner:
                waiting.news.set()

    def _note_settled(self, settled: Settled) -> None:
        status: Belief = "over" if settled.status == "over" else "open"
        told = Told(settled.at, settled.ep, status, settled.id, settled.by, settled.seq)
        gen = settled.gen if settled.gen == self._link.generation else 0
        self._memory.note(settled.key, settled.alarm, told, gen, is_event=settled.event)
        for waiting in self._waiting.get((settled.key, settled.alarm), ()):
            waiting.settled = settled
            waiting.news.set()


def _began(firing: Firing, notice: IncidentNotice) -> float:
    """Return when an incident began to fire, as far as its message says: it may be pending for long."""
    return firing.time if notice.status == "firing" else notice.started
