"""A member of a fleet: decides together with the others which machine sends a message."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field

import msgspec

from alarm_mw.fleet.hub import Hub
from alarm_mw.fleet.link import Link, Periods
from alarm_mw.fleet.memory import ToldMemory
from alarm_mw.fleet.messages import Message, alone, in_order, info_of, message_of, next_message, shared
from alarm_mw.fleet.overview import overview_of
from alarm_mw.fleet.redis_store import RedisStore
from alarm_mw.fleet.relay import Relay
from alarm_mw.fleet.restore import Restorer
from alarm_mw.fleet.store import Answer, Belief, Event, FleetUnreachableError, Offer, Settled, Settlement, Store, Told
from alarm_mw.fleet.tasks import end, is_set
from alarm_mw.model.fleet import (
    Claim,
    FleetOverview,
    FleetPlan,
    FleetState,
    Left,
    LocalState,
    SharedAlarm,
    SharedOrder,
    SharedSilence,
)
from alarm_mw.model.types import Firing, IncidentNotice, Reason
from alarm_mw.model.version import VERSION

log = logging.getLogger(__name__)

#: How many firings are remembered that a machine has made for an escalation, to know how far apart they are.
MOST_REPEATED = 10_000

#: Characters of each of this machine's last lines that are shared, and how many of them.
LINE, LINES = 200, 10

#: Milliseconds by which this member may be wrong about the shared time.
_UNSURE = 1000

_NO_ALARM = SharedAlarm()

_settled = msgspec.json.Decoder(Settled)


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


class Member:
    """Lives on the dispatcher's event loop; implements `alarm_mw.model.fleet.Sharing`."""

    def __init__(
        self,
        plan: FleetPlan,
        local: LocalState,
        *,
        store: Store | None = None,
        periods: Periods = Periods(),  # noqa: B008  # frozen
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`monotonic` and `wall` are the clocks of `time`. Raises `ValueError` for a wrong URL. Does not connect."""
        self._plan = plan
        self._local = local
        self._periods = periods
        self._monotonic = monotonic
        self.memory = ToldMemory()
        self.link = Link(
            RedisStore(plan.url, plan.name) if store is None else store,
            plan.machine,
            secrets.token_hex(4),
            self,
            periods,
            monotonic=monotonic,
            wall=wall,
        )
        self._relay = Relay(self.link, local, plan.machine, self.spawn)
        self._restorer = Restorer(
            self.link,
            self.memory,
            local,
            plan=lambda: self._plan,
            monotonic=monotonic,
            spawn=self.spawn,
            confirm=self._confirm_all,
            is_busy=self._is_busy,
            take_end=self._relay.take_end,
        )
        self._hub = Hub(self.link, local, plan.machine)
        self._waiting: dict[tuple[str, str], set[Waiting]] = {}
        #: By the id of what is sent.
        self._held: dict[str, Held] = {}
        #: When this machine last fired an escalation, by message key, alarm and its own episode.
        self._escalated: dict[tuple[str, str, str], float] = {}
        self._hurried = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.counters = dict.fromkeys(
            ("offers", "claims", "deferred", "left", "lost", "fail_opens", "settled", "released"), 0
        )

    # Life

    async def start(self) -> None:
        """Begin to connect. Does not wait for the fleet."""
        self._loop = asyncio.get_running_loop()
        self.link.start()
        self.spawn(self._restorer.compare_again_and_again())
        if self._plan.is_hub:
            self.spawn(self._hub.take())

    async def stop(self, timeout: float = 2.0) -> None:
        """Say what became of the last messages, and goodbye. Takes at most `timeout` seconds, and as long to close."""
        began = self._monotonic()
        closing = {task for task in self._tasks if task.get_name() == _CLOSING}
        if closing and self.link.state == "connected":
            await asyncio.wait(closing, timeout=timeout / 2)
        await end(self._tasks)
        await self.link.stop(max(timeout - (self._monotonic() - began), 0.1))

    def change(self, plan: FleetPlan) -> None:
        """Go on with another plan of the same URL, fleet and machine."""
        self._plan = plan

    def hurry(self) -> None:
        """Let no message wait for other machines any more: the program ends soon."""
        self._hurried.set()

    def spawn(self, coroutine: Coroutine[object, object, None], name: str = "alarm-mw-fleet-task") -> None:
        """Run something in the background, until `stop`."""
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, FleetUnreachableError):
            log.error("fleet: unexpected failure", exc_info=error)

    # Sharing

    def shares(self, firing: Firing) -> bool:
        """Return whether the message concerns the fleet."""
        plan = self._plan
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
                await self._news(waiting, answer.wait / 1000 * random.uniform(1.0, 1.1) + 0.01)
            else:
                return self._left(waiting.message, answer)

    async def renew(self, claim: Claim) -> bool:
        """See `Sharing`."""
        held = self._held.get(claim.firing.id)
        if held is None or self.link.state != "connected":
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

    async def _confirm_all(self) -> None:
        """Say of all messages that this machine sends them."""
        for held in [each for each in self._held.values() if each.token]:
            await self._confirm(held)

    def _is_busy(self, key: str) -> bool:
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
            self.spawn(self._close(held, is_sent=is_sent), _CLOSING)

    def _note_sent(self, held: Held) -> None:
        message = held.message
        known = self.memory.get(message.key, message.alarm)
        _, seq = next_message(message.kind, known, 0)
        status: Belief = "over" if message.kind == "resolved" else "open"
        # What the fleet says about the time is right, and counts as later.
        at = self.link.clock.now() - (_UNSURE if held.token else 0)
        told = Told(at, held.ep, status, held.id, self._plan.machine, seq)
        self.memory.note(message.key, message.alarm, told, 0, is_event=message.is_event)

    async def _close(self, held: Held, *, is_sent: bool) -> None:
        message, link = held.message, self.link
        settlement = Settlement(
            machine=self._plan.machine,
            key=message.key,
            alarm=message.alarm,
            token=held.token,
            id=held.id,
            is_event=message.is_event,
            window=self._window(message),
            grace=self._ms(self._periods.grace),
        )
        answer = await link.call(link.store.settle(settlement) if is_sent else link.store.release(settlement))
        known = self.memory.get(message.key, message.alarm)
        if is_sent and answer.kind == "told" and known is not None:
            told = msgspec.structs.replace(known, at=answer.told, ep=answer.ep, seq=answer.seq)
            self.memory.note(message.key, message.alarm, told, answer.gen, is_event=message.is_event)

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
            return self._alarm(message).repeat_interval
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
        alarm, notice, clock = self._alarm(message), message.notice, self.link.clock
        known = self.memory.get(message.key, message.alarm)
        if not ep and known is not None and notice is not None:
            ep = known.ep if known.status == "open" or message.kind == "resolved" else known.ep + 1
        kind = "repeat" if interval is not None else message.kind
        return Offer(
            machine=self._plan.machine,
            key=message.key,
            alarm=message.alarm,
            name=message.name,
            id=message.firing.id,
            sent=clock.now(),
            kind=kind,
            is_event=message.is_event,
            is_member=notice is not None and message.kind != "resolved",
            count=message.firing.count if notice is None else max(notice.count, 1),
            thread=message.thread,
            fired=None if notice is None else clock.shared(notice.started),
            began=None if notice is None else clock.shared(_began(message.firing, notice)),
            info=info_of(message.firing, self._plan.program),
            given=given or None,
            ep=ep,
            token=token,
            claimed=claimed,
            interval=None if interval is None else self._ms(interval),
            window=self._window(message),
            rate=self._limit(alarm.rate),
            alarm_rate=self._limit(self._plan.alarm_rate) if alarm.for_humans else None,
            no_resolved=not alarm.send_resolved,
            grace=self._ms(self._periods.grace),
            owner_timeout=self._ms(self._periods.owner_timeout),
            release_pause=self._ms(self._periods.release_pause),
        )

    async def _offer(self, waiting: Waiting, interval: float | None) -> Answer:
        message = waiting.message
        self.counters["offers"] += 1
        answer = await self._ask(
            message, self._offer_of(message, given=waiting.given, ep=waiting.ep, interval=interval)
        )
        if answer.owed:
            self._restorer.send_owed(message, answer)
        return answer

    async def _ask(self, message: Message, offer: Offer) -> Answer:
        link = self.link
        if message.kind == "resolved":
            self._restorer.joined.pop(message.key, None)
            return await link.call(link.store.resolve(offer))
        if offer.is_member:
            self._restorer.joined.setdefault(message.key, self._monotonic())
        return await link.call(link.store.offer(offer))

    async def _gathered(self, waiting: Waiting, answer: Answer) -> Claim | None:
        """Wait for other machines that have the same to say; return None where the fleet has to be asked again."""
        message = waiting.message
        waiting.given, waiting.ep = answer.id, answer.ep
        held = Held(message, answer.id, answer.ep, answer.token, answer.claimed)
        try:
            if answer.claimed in ("begin", "event"):
                await is_set(self._hurried, self._plan.group_wait)
            if self.link.state == "connected":
                with contextlib.suppress(FleetUnreachableError):
                    answer = await self._confirm(held)
        except asyncio.CancelledError:
            self.spawn(self._close(held, is_sent=False), _CLOSING)
            raise
        if answer.kind != "own":
            self.counters["lost"] += 1
            return None
        if self.link.state != "connected":
            return None  # it is asked for again, as soon as the fleet is back, or sent alone
        self.counters["claims"] += 1
        self._held[held.id] = held
        started = None if answer.started is None else self.link.clock.wall(answer.started)
        return Claim(shared(message, answer, self._plan.name, started), message.key, answer.token)

    def _left(self, message: Message, answer: Answer) -> Left:
        self.counters["left"] += 1
        if answer.told and answer.status:
            told = Told(answer.told, answer.ep, "over" if answer.status == "over" else "open", answer.id, answer.by)
            told = msgspec.structs.replace(told, seq=answer.seq)
            self.memory.note(message.key, message.alarm, told, answer.gen, is_event=message.is_event)
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
        seconds = max((self.link.clock.now() - answer.told) / 1000, 0.0)
        return f"sent by {answer.by} {seconds:.0f} s ago"

    # Waits

    async def _is_reachable(self, waiting: Waiting, on_deferred: Callable[[], object]) -> bool:
        """Wait for the fleet as long as the message can wait; return whether it can be asked."""
        link = self.link
        if link.state == "connected":
            return True
        if link.state == "connecting":
            await is_set(link.is_known, self._periods.first_connection)
            if link.state == "connected":
                return True
        patience = self._patience(waiting)
        if patience > self._periods.tolerance:
            on_deferred()
        return await is_set(link.is_connected, patience - (self._monotonic() - link.away_since))

    def _patience(self, waiting: Waiting) -> float:
        """Return how many seconds a message waits for a fleet that is away."""
        message = waiting.message
        known = self.memory.get(message.key, message.alarm)
        is_told_by_other = known is not None and known.status == "open" and known.by != self._plan.machine
        if message.kind == "resolved" and is_told_by_other:
            return self._periods.end_patience
        # What has been said is not urgent; but it may be over meanwhile, and begin again.
        is_known = waiting.owner or (message.kind == "begin" and is_told_by_other)
        return self._periods.patience if is_known else self._periods.tolerance

    async def _wait_for_owner(self, waiting: Waiting) -> Left | None:
        """Wait until the owner has sent the message, or may not be about to any more."""
        await self._news(waiting, self._periods.owner_timeout * random.uniform(1.0, 1.3))
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

    async def _news(self, waiting: Waiting, timeout: float) -> None:
        """Wait until there is a reason to ask again, or the fleet is lost, or the time is over."""
        await is_set(waiting.news, timeout)

    def _wake(self, *, key: str | None = None, alarm: str = "", owner: str | None = None) -> None:
        """Let messages ask again: those of a key and an alarm, those that a machine owns, or all."""
        found = self._waiting.values() if key is None else [self._waiting.get((key, alarm), set())]
        for waiting in [each for group in found for each in group]:
            if owner is None or waiting.owner == owner:
                waiting.news.set()

    def _alone(self, waiting: Waiting) -> Claim | Left:
        message = waiting.message
        known = self.memory.get(message.key, message.alarm)
        if message.kind == "repeat" and known is not None and known.by not in ("", self._plan.machine):
            return Left(Reason.FLEET, f"fleet unreachable, left to {known.by}")
        if message.kind == "resolved" and known is not None and known.status == "over":
            return Left(Reason.FLEET, f"sent by {known.by}")
        self.counters["fail_opens"] += 1
        notice = message.notice
        fired = 0 if notice is None else self.link.clock.shared(notice.started)
        firing = alone(message, waiting.given, known, fired, self._plan.name)
        ep = waiting.ep or (0 if notice is None else next_message(message.kind, known, fired)[0])
        self._held[firing.id] = Held(message, firing.id, ep, 0)
        return Claim(firing)

    # What comes over the connection

    def info(self) -> str:
        """See `Listener`."""
        lines = [line[:LINE] for line in self._local.last_lines()[-LINES:]]
        facts = {
            "labels": dict(self._plan.labels),
            "version": VERSION,
            "rules": self._plan.rules_hash,
            "program": self._plan.program,
            "lag": round(self.link.lag, 4),
            "lines": [line.encode("utf-8", "backslashreplace").decode() for line in lines],
        }
        return msgspec.json.encode(facts).decode()

    async def connected(self, answer: Answer, *, is_new: bool) -> None:
        """See `Listener`."""
        self._relay.connected()
        if is_new:
            self._restorer.begin(answer.grace / 1000)
        else:
            self._restorer.go_on()
        self._wake()

    def renewed(self) -> None:
        """See `Listener`."""
        self._restorer.begin(self._periods.grace)
        self._relay.connected()
        self._wake()

    def event(self, event: Event) -> None:
        """See `Listener`."""
        if event.kind == "settled":
            self._note_settled(_settled.decode(event.body))
        elif event.kind == "released":
            body = msgspec.json.decode(event.body, type=dict[str, str])
            self._wake(key=body["key"], alarm=body["alarm"])
        elif event.kind in ("left", "late"):
            self._wake(owner=msgspec.json.decode(event.body, type=dict[str, str])["machine"])
        else:
            self._relay.event(event)

    def _note_settled(self, settled: Settled) -> None:
        status: Belief = "over" if settled.status == "over" else "open"
        told = Told(settled.at, settled.ep, status, settled.id, settled.by, settled.seq)
        gen = settled.gen if settled.gen == self.link.generation else 0
        self.memory.note(settled.key, settled.alarm, told, gen, is_event=settled.event)
        for waiting in self._waiting.get((settled.key, settled.alarm), ()):
            waiting.settled = settled
            waiting.news.set()

    async def sweep(self) -> None:
        """See `Listener`."""
        await self._restorer.sweep()

    # From any thread

    def share_silence(self, silence: SharedSilence) -> None:
        """Let a silence hold on all machines. May be called from any thread; does not block."""
        self._soon(lambda: self._relay.share_silence(silence))

    def share_order(self, order: SharedOrder) -> None:
        """Have all machines do what somebody has done here. May be called from any thread; does not block."""
        self._soon(lambda: self._relay.share_order(order))

    def _soon(self, function: Callable[[], None]) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the program has ended
                self._loop.call_soon_threadsafe(function)

    # For people

    def state(self) -> FleetState:
        """Return whether this machine shares with the others now. May be called from any thread."""
        link, plan = self.link, self._plan
        return {
            "name": plan.name,
            "machine": plan.machine,
            "state": link.state,
            "error": link.error or link.warning,
            "lag": link.lag,
        }

    async def hand_over(self, firing: Firing) -> None:
        """Leave a message to the hub, and return when it is in the hub's outbox. Raises `ActionError`."""
        await self._hub.hand_over(firing)

    async def overview(self) -> FleetOverview:
        """Return what is known of the fleet. Takes at most the time of a call."""
        alarms = {name: alarm.rate[1] * 1000 for name, alarm in self._plan.alarms.items() if alarm.rate is not None}
        if self._plan.alarm_rate is not None:
            alarms[""] = self._plan.alarm_rate[1] * 1000
        facts = None
        if self.link.state == "connected":
            try:
                facts = await self.link.store.facts(alarms)
            except FleetUnreachableError as error:
                self.link.lost(error)
        counters = {**self.counters, "reconnects": self.link.reconnects}
        return overview_of(self._plan, self.link, facts, counters)

    # Small things

    def _alarm(self, message: Message) -> SharedAlarm:
        return self._plan.alarms.get(message.alarm, _NO_ALARM)

    def _window(self, message: Message) -> int | None:
        return self._ms(self._alarm(message).repeat_after) if message.is_event else None

    def _limit(self, rate: tuple[int, float] | None) -> tuple[int, int] | None:
        return None if rate is None else (rate[0], self._ms(rate[1]))

    @staticmethod
    def _ms(seconds: float) -> int:
        return int(seconds * 1000)


def _began(firing: Firing, notice: IncidentNotice) -> float:
    """Return when an incident began to fire, as far as its message says: it may be pending for long."""
    return firing.time if notice.status == "firing" else notice.started


#: The name of tasks that say what became of a message.
_CLOSING = "alarm-mw-fleet-closing"

_REASONS: Mapping[str, Reason] = {str(each): each for each in (Reason.RATE, Reason.ALARM_RATE, Reason.ACKNOWLEDGED)}
