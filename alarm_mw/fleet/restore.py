"""Gives the shared state back what this member knows, and compares both from time to time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator
from itertools import islice

from msgspec import structs

from alarm_mw.engine.messages import named
from alarm_mw.fleet.claimant import Claimant
from alarm_mw.fleet.link import Link
from alarm_mw.fleet.memory import Known, ToldMemory
from alarm_mw.fleet.messages import base36, info, offer_of
from alarm_mw.fleet.relay import Relay
from alarm_mw.fleet.store import Ack, FleetUnreachableError, Offer, Told
from alarm_mw.fleet.tasks import Tasks
from alarm_mw.model.fleet import LocalState, OpenIncident

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
        self, link: Link, memory: ToldMemory, relay: Relay, claimant: Claimant, *, local: LocalState, tasks: Tasks
    ) -> None:
        self._link = link
        self._memory = memory
        self._relay = relay
        self._claimant = claimant
        self._local = local
        self._tasks = tasks
        #: How often what is firing here has matched, as the fleet knows it.
        self._counts: dict[str, int] = {}

    def begin(self, grace: float) -> None:
        """Say all that is known to a state that may lack it, within `grace` seconds."""
        self._tasks.spawn(self._restore(grace))

    async def _restore(self, grace: float) -> None:
        gen = self._link.generation
        await self._claimant.confirm_all()
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
            self._relay.take_end(offer.key, answer.over)
        if offer.told is not None and answer.gen == gen:
            self._memory.note(offer.key, offer.alarm, offer.told, gen, is_event=offer.is_event)

    def _spent(self) -> Iterator[Offer]:
        """Yield the messages that count for budgets."""
        for alarm, shared in self._claimant.plan.alarms.items():
            both = (shared.rate, self._claimant.plan.alarm_rate if shared.for_humans else None)
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
        shared = self._claimant.plan.alarms.get(alarm)
        if shared is None:
            return False
        return not known.is_event or self._link.clock.now() - known.told.at < shared.repeat_after * 1000

    def _of_open(self, incidents: Iterable[OpenIncident]) -> Iterator[Offer]:
        for incident in incidents:
            self._memory.reported.setdefault(incident.id, self._link.clock.monotonic())
            alarms = [alarm for alarm in incident.notified if alarm in self._claimant.plan.alarms]
            told = {alarm: self._told(incident, alarm) for alarm in alarms}
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
        plan, clock = self._claimant.plan, self._link.clock
        offer = offer_of("restore", key, alarm, plan, self._link.periods, is_event=is_event)
        offer = structs.replace(offer, ep=0 if told is None else told.ep, told=told)
        if incident is None:
            return offer
        facts = info(incident.rule, dict(incident.key), dict(incident.labels), incident.text, program=plan.program)
        fired, ack = clock.shared(incident.fired), None
        if incident.acknowledged_by:
            at, until = clock.shared(incident.acknowledged_at), clock.shared(incident.acknowledged_until)
            ack = Ack(incident.acknowledged_by, at, until)
        count = max(incident.count, 1)
        return structs.replace(offer, is_member=True, count=count, fired=fired, began=fired, info=facts, ack=ack)

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
        link, reported, before = self._link, self._memory.reported, self._link.clock.monotonic()
        incidents = await self._local.open_incidents()
        known = {incident.id for incident in incidents}
        gone = [key for key, at in reported.items() if key not in known and at < before]
        for key in [each for each in gone if not self._claimant.is_busy(each)]:
            reported.pop(key, None)
            plan = self._claimant.plan
            await link.call(link.store.resolve(Offer(machine=plan.machine, key=key, alarm="", kind="resolved")))
        fresh = [incident for incident in incidents if is_full or incident.id not in reported]
        await self._say_all(self._of_open(fresh), link.generation)
        grown = [each for each in incidents if self._counts.get(each.id) != each.count][:MOST_COUNTS]
        offers = (self._offer(each.id, "", told=None, incident=each) for each in grown)
        await self._say_all(offers, link.generation)
        self._counts = {each.id: self._counts[each.id] for each in incidents if each.id in self._counts}
        self._counts.update((each.id, each.count) for each in grown)
