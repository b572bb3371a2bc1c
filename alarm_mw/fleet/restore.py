"""Gives the shared state back what this member knows, and looks after what others have left."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from itertools import islice

from msgspec import structs

from alarm_mw.engine.messages import named
from alarm_mw.fleet.link import Link
from alarm_mw.fleet.memory import Known, ToldMemory
from alarm_mw.fleet.messages import Message, base36, end_of, info
from alarm_mw.fleet.store import Ack, Answer, FleetUnreachableError, Offer, Over, Owed, Sweep, Told
from alarm_mw.model.fleet import FleetPlan, LocalState, OpenIncident

#: How many calls are under way at once.
AT_ONCE = 100

#: After how many comparisons everything is said again, so that the shared state does not forget it.
AGAIN = 60

#: Of how many incidents a comparison says how often they have matched since.
MOST_COUNTS = 1000

_MINUTE = 60_000


class Restorer:
    """Lives on the event loop."""

    def __init__(
        self,
        link: Link,
        memory: ToldMemory,
        local: LocalState,
        *,
        plan: Callable[[], FleetPlan],
        monotonic: Callable[[], float],
        spawn: Callable[[Coroutine[object, object, None]], None],
        confirm: Callable[[], Awaitable[None]],
        is_busy: Callable[[str], bool],
        take_end: Callable[[str, Over], None],
    ) -> None:
        """`confirm` says of all claims that they hold; `is_busy` whether messages of a key are under way.

        `take_end` is told which incidents somebody has ended while this machine was away.
        """
        self._link = link
        self._memory = memory
        self._local = local
        self._plan = plan
        self._monotonic = monotonic
        self._spawn = spawn
        self._confirm = confirm
        self._is_busy = is_busy
        self._take_end = take_end
        #: Since when this machine reports an incident, in `monotonic`'s seconds.
        self.joined: dict[str, float] = {}
        #: How often what is firing here has matched, as the fleet knows it.
        self._counts: dict[str, int] = {}

    def begin(self, grace: float) -> None:
        """Say all that is known to a state that may lack it, within `grace` seconds."""
        self._spawn(self._restore(grace))

    def go_on(self) -> None:
        """Say what has happened while there was no connection."""
        self._spawn(self._restore(0.0))

    async def _restore(self, grace: float) -> None:
        gen = self._link.generation
        await self._confirm()
        await asyncio.sleep(random.uniform(0.0, grace / 8))
        await self._say_all(self._of_open(await self._local.open_incidents()), gen)
        # Others say the same: what has come from them meanwhile needs no further call.
        await asyncio.sleep(random.uniform(0.0, grace / 2))
        await self._say_all(self._missing(gen), gen)
        await self._say_all(self._spent(), gen)

    async def _say_all(self, offers: Iterable[Offer], gen: int) -> None:
        link = self._link
        rest = iter(offers)
        while some := list(islice(rest, AT_ONCE)):
            if link.generation != gen or link.state != "connected":
                return
            await asyncio.gather(*(self._say(offer, gen) for offer in some))

    async def _say(self, offer: Offer, gen: int) -> None:
        answer = await self._link.call(self._link.store.offer(offer))
        if answer.over is not None:
            self._take_end(offer.key, answer.over)
        if offer.told is not None and answer.gen == gen:
            self._memory.note(offer.key, offer.alarm, offer.told, gen, is_event=offer.is_event)

    def _spent(self) -> Iterator[Offer]:
        """Yield the messages that count for budgets."""
        for alarm, shared in self._plan().alarms.items():
            both = (shared.rate, self._plan().alarm_rate if shared.for_humans else None)
            windows = [limit[1] for limit in both if limit is not None]
            if not windows:
                continue
            spent = self._memory.spent.since(alarm, self._link.clock.now() - int(max(windows) * 1000))
            if spent:
                yield structs.replace(self._offer("", alarm, told=None), spent=spent)

    def _missing(self, gen: int) -> Iterator[Offer]:
        for key, alarm, known in self._memory.missing(gen):
            if known.gen != gen and self._is_worth_it(alarm, known):
                yield self._offer(key, alarm, told=known.told, is_event=known.is_event)

    def _is_worth_it(self, alarm: str, known: Known) -> bool:
        """Return whether a message matters still: one about an event only while it holds others back."""
        shared = self._plan().alarms.get(alarm)
        if shared is None:
            return False
        return not known.is_event or self._link.clock.now() - known.told.at < shared.repeat_after * 1000

    def _of_open(self, incidents: Iterable[OpenIncident]) -> Iterator[Offer]:
        for incident in incidents:
            self.joined.setdefault(incident.id, self._monotonic())
            told = {alarm: self._told(incident, alarm) for alarm in incident.notified if alarm in self._plan().alarms}
            for alarm, message in (told or {"": None}).items():
                yield self._offer(incident.id, alarm, told=message, incident=incident)

    def _told(self, incident: OpenIncident, alarm: str) -> Told | None:
        """Return what an alarm was notified of an open incident, as far as known."""
        known = self._memory.get(incident.id, alarm)
        if known is not None:
            return known if known.status == "open" else None
        clock = self._link.clock
        ep = clock.shared(incident.fired) // _MINUTE
        name = f"{incident.id}-{base36(ep)}-1.{named(alarm)}"
        # This process does not know who has sent it.
        return Told(clock.shared(incident.notified[alarm]), ep, "open", name, is_guess=True)

    def _offer(
        self,
        key: str,
        alarm: str,
        *,
        told: Told | None,
        is_event: bool = False,
        incident: OpenIncident | None = None,
    ) -> Offer:
        plan, periods, clock = self._plan(), self._link.periods, self._link.clock
        shared = plan.alarms.get(alarm)
        facts, fired, ack = None, None, None
        if incident is not None:
            facts = info(incident.rule, dict(incident.key), dict(incident.labels), incident.text, program=plan.program)
            fired = clock.shared(incident.fired)
            if incident.acknowledged_by:
                at, until = clock.shared(incident.acknowledged_at), clock.shared(incident.acknowledged_until)
                ack = Ack(incident.acknowledged_by, at, until)
        return Offer(
            machine=plan.machine,
            key=key,
            alarm=alarm,
            name=named(alarm),
            kind="restore",
            is_event=is_event,
            is_member=incident is not None,
            count=1 if incident is None else max(incident.count, 1),
            fired=fired,
            began=fired,
            info=facts,
            ep=0 if told is None else told.ep,
            told=told,
            ack=ack,
            window=None if shared is None or not is_event else int(shared.repeat_after * 1000),
            rate=None if shared is None else _limit(shared.rate),
            alarm_rate=_limit(plan.alarm_rate) if shared is not None and shared.for_humans else None,
            no_resolved=shared is not None and not shared.send_resolved,
            grace=int(periods.grace * 1000),
            owner_timeout=int(periods.owner_timeout * 1000),
        )

    # What is firing here

    async def compare_again_and_again(self) -> None:
        """Tell the fleet from time to time what is firing here, and what is not any more, until canceled."""
        n = 0
        while True:
            await asyncio.sleep(self._link.periods.compare * random.uniform(0.8, 1.2))
            if self._link.state != "connected":
                continue
            n += 1
            try:
                await self._compare(is_full=n % AGAIN == 0)
            except FleetUnreachableError:
                continue

    async def _compare(self, *, is_full: bool) -> None:
        """Leave incidents that are over here, of which no message has said so."""
        link, before = self._link, self._monotonic()
        incidents = await self._local.open_incidents()
        known = {incident.id for incident in incidents}
        over = [key for key, at in self.joined.items() if key not in known and at < before and not self._is_busy(key)]
        for key in over:
            self.joined.pop(key, None)
            plan = self._plan()
            await link.call(link.store.resolve(Offer(machine=plan.machine, key=key, alarm="", kind="resolved")))
        fresh = [incident for incident in incidents if is_full or incident.id not in self.joined]
        await self._say_all(self._of_open(fresh), link.generation)
        grown = [each for each in incidents if self._counts.get(each.id) != each.count][:MOST_COUNTS]
        offers = (self._offer(each.id, "", told=None, incident=each) for each in grown)
        await self._say_all(offers, link.generation)
        self._counts = {each.id: self._counts[each.id] for each in incidents if each.id in self._counts}
        self._counts.update((each.id, each.count) for each in grown)

    # What others have left

    def send_owed(self, message: Message, answer: Answer) -> None:
        """Have an end sent to alarms that only other machines have notified of the beginning."""
        for alarm in answer.owed:
            if isinstance(alarm, str):
                name = f"{message.key}-{base36(answer.ep)}-end.{named(alarm)}"
                self._local.send(structs.replace(message.firing, id=name, alarm=alarm, via=()))

    async def sweep(self) -> None:
        """Look for machines that are gone, and for incidents that no machine reports any more."""
        link, periods, plan = self._link, self._link.periods, self._plan()
        answer = await link.call(
            link.store.sweep(
                Sweep(
                    machine=plan.machine,
                    silent_after=int(periods.silent_after * 1000),
                    gone_after=int(periods.gone_after * 1000),
                    forget_after=int(periods.forget_after * 1000),
                    owed_after=int(periods.owed_after * 1000),
                    grace=int(periods.grace * 1000),
                    owner_timeout=int(periods.owner_timeout * 1000),
                )
            )
        )
        for owed in answer.owed:
            if isinstance(owed, Owed):
                self._end(owed)

    def _end(self, owed: Owed) -> None:
        clock = self._link.clock
        now = clock.wall(clock.now())
        started = now if owed.started is None else clock.wall(owed.started)
        for alarm in owed.alarms:
            if alarm in self._plan().alarms:
                self._local.send(end_of(owed, alarm, started=started, now=now))


def _limit(rate: tuple[int, float] | None) -> tuple[int, int] | None:
    return None if rate is None else (rate[0], int(rate[1] * 1000))
