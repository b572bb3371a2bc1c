"""Silences, orders and silent machines: between this machine and the others, in both directions."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

import msgspec
from msgspec import structs

from alarm_mw.fleet.link import Link
from alarm_mw.fleet.messages import in_order
from alarm_mw.fleet.store import Ack, Event, FleetUnreachableError, Over
from alarm_mw.fleet.tasks import Tasks
from alarm_mw.model.fleet import LocalState, SharedOrder, SharedSilence, SilentMachine

log = logging.getLogger(__name__)

#: Orders that wait for the fleet, and for how many seconds they are worth it.
MOST_ORDERS, ORDER_AGE = 1000, 3600.0


class _Death(msgspec.Struct):
    """How long a machine is silent, and with which others."""

    since: float
    group: str


class _Facts(msgspec.Struct):
    """What a machine has said of itself."""

    lines: tuple[str, ...] = ()


class Relay:
    """Lives on the event loop."""

    def __init__(self, link: Link, local: LocalState, machine: str, tasks: Tasks) -> None:
        self._link = link
        self._local = local
        self._machine = machine
        self._tasks = tasks
        self._silences: dict[str, SharedSilence] = {}
        self._orders: deque[tuple[float, SharedOrder]] = deque(maxlen=MOST_ORDERS)

    # From this machine

    def share_silence(self, silence: SharedSilence) -> None:
        """Share a silence, as soon as the fleet can be reached."""
        self._silences[silence.id] = silence
        self._tasks.spawn(self._send())

    def share_order(self, order: SharedOrder) -> None:
        """Share an order, as soon as the fleet can be reached."""
        self._orders.append((time.monotonic(), order))
        self._tasks.spawn(self._send())

    async def _send(self) -> None:
        link = self._link
        while self._silences and link.state == "connected":
            name, silence = next(iter(self._silences.items()))
            await link.call(link.store.silence(self._stored(silence)))
            if self._silences.get(name) is silence:
                del self._silences[name]
        while self._orders and link.state == "connected":
            at, order = self._orders.popleft()
            if time.monotonic() - at > ORDER_AGE:
                continue
            try:
                await link.call(link.store.order(self._stored_order(order)))
            except FleetUnreachableError:
                self._orders.appendleft((at, order))
                raise

    def _stored(self, silence: SharedSilence) -> SharedSilence:
        return structs.replace(_silence_by(self._link.clock.shared, silence), origin=self._machine)

    def _stored_order(self, order: SharedOrder) -> SharedOrder:
        return structs.replace(_order_by(self._link.clock.shared, order), origin=self._machine)

    # To this machine

    def connected(self) -> None:
        """Exchange what both sides may have missed."""
        self._tasks.spawn(self._exchange())

    async def _exchange(self) -> None:
        link = self._link
        await self._send()
        theirs = {each.id: each for each in await link.store.silences()}
        ours = {each.id: self._stored(each) for each in await self._local.silences()}
        for name, stored in theirs.items():
            known = ours.get(name)
            if known is None or stored.updated > known.updated + 1:
                self._local.take_silence(_silence_by(self._link.clock.wall, stored))
        for name, stored in ours.items():
            known = theirs.get(name)
            # Times are converted twice on their way: one millisecond is no change.
            if known is None or stored.updated > known.updated + 1000:
                await link.call(link.store.silence(stored))
        await self._report_silent()

    def event(self, event: Event) -> None:
        """Take an event in.

        Orders from before this member joined are known to its machine, or were for episodes that it does not have;
        silences are asked for.
        """
        if event.time < self._link.joined:
            return
        if event.kind == "silence":
            stored = msgspec.json.decode(event.body, type=SharedSilence)
            if stored.origin != self._machine:
                self._local.take_silence(_silence_by(self._link.clock.wall, stored))
        elif event.kind == "order":
            order = msgspec.json.decode(event.body, type=SharedOrder)
            if order.origin != self._machine:
                self._local.take_order(_order_by(self._link.clock.wall, order))
        elif event.kind == "dead":
            self._tasks.spawn(self._report_silent())

    def take_ack(self, incident: str, ack: Ack) -> None:
        """Take in that somebody has acknowledged an incident elsewhere."""
        wall = self._link.clock.wall
        self._local.take_order(
            SharedOrder("acknowledged", incident, ack.by, ack.comment, wall(ack.at), wall(ack.until))
        )

    def take_end(self, incident: str, over: Over) -> None:
        """Take in that somebody has ended an incident while this machine was away."""
        self._local.take_order(SharedOrder("resolved", incident, over.by, time=self._link.clock.wall(over.at)))

    async def _report_silent(self) -> None:
        groups: dict[str, list[tuple[str, float, tuple[str, ...]]]] = {}
        for machine, (death, facts) in (await self._link.store.dead()).items():
            found = msgspec.json.decode(death, type=_Death)
            lines = msgspec.json.decode(facts, type=_Facts).lines
            groups.setdefault(found.group, []).append((machine, found.since, lines))
        self._local.report_silent({name: self._silent(found) for name, found in groups.items()})

    def _silent(self, found: list[tuple[str, float, tuple[str, ...]]]) -> SilentMachine:
        machines = in_order(machine for machine, _, _ in found)
        since = self._link.clock.wall(min(since for _, since, _ in found))
        return SilentMachine(machines, since, found[0][2] if len(found) == 1 else ())


def _silence_by(clock: Callable[[float], float], silence: SharedSilence) -> SharedSilence:
    """Return a silence with times by another clock."""
    starts, ends, updated = map(clock, (silence.starts, silence.ends, silence.updated))
    return structs.replace(silence, starts=starts, ends=ends, updated=updated)


def _order_by(clock: Callable[[float], float], order: SharedOrder) -> SharedOrder:
    """Return an order with times by another clock."""
    return structs.replace(order, time=clock(order.time), until=clock(order.until) if order.until else 0)
