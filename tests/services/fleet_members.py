"""Members of a fleet with short periods, whose masters are lists."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from waiting import LIMIT

from alarm_mw.fleet.link import Periods
from alarm_mw.fleet.member import Member
from alarm_mw.fleet.store import Store
from alarm_mw.model.fleet import (
    Claim,
    FleetPlan,
    Left,
    OpenIncident,
    SharedAlarm,
    SharedOrder,
    SharedSilence,
    SilentMachine,
)
from alarm_mw.model.types import Firing, IncidentNotice, Record, Trigger

#: About a tenth of the real ones.
QUICK = Periods(
    heartbeat=0.25,
    owner_timeout=1.5,
    silent_after=2.0,
    gone_after=3.0,
    forget_after=60.0,
    owed_after=0.5,
    sweep_every=0.2,
    grace=0.8,
    release_pause=0.5,
    tolerance=0.3,
    patience=4.0,
    end_patience=6.0,
    reconnect_first=0.1,
    reconnect=0.3,
    compare=0.4,
    first_connection=5.0,
    gather=0.01,
)

_numbers = itertools.count(1)


@dataclass
class Local:
    """What a master would do."""

    opened: dict[str, OpenIncident] = field(default_factory=dict)
    own_silences: list[SharedSilence] = field(default_factory=list)
    lines: tuple[str, ...] = ()
    silenced: list[SharedSilence] = field(default_factory=list)
    ordered: list[SharedOrder] = field(default_factory=list)
    silent: dict[str, SilentMachine] = field(default_factory=dict)
    #: The machines that were reported as silent at any time.
    ever_silent: set[str] = field(default_factory=set)
    sent: list[Firing] = field(default_factory=list)

    async def open_incidents(self) -> Sequence[OpenIncident]:
        return list(self.opened.values())

    async def silences(self) -> Sequence[SharedSilence]:
        return self.own_silences

    def last_lines(self) -> tuple[str, ...]:
        return self.lines

    def take_silence(self, silence: SharedSilence) -> None:
        self.silenced.append(silence)

    def take_order(self, order: SharedOrder) -> None:
        self.ordered.append(order)

    def report_silent(self, machines: Mapping[str, SilentMachine]) -> None:
        self.silent = dict(machines)
        self.ever_silent.update(name for machine in machines.values() for name in machine.machines)

    def send(self, firing: Firing) -> None:
        self.sent.append(firing)

    async def take_over(self, firings: Sequence[Firing]) -> Collection[str]:
        self.sent += [firing for firing in firings if firing.alarm != "unknown"]
        return {firing.alarm for firing in firings} & {"unknown"}


def incident(
    status: str = "firing",
    *,
    alarm: str = "mail",
    name: str = "abc",
    episode: int = 1,
    count: int = 1,
    machine: str = "",
    began: float | None = None,
) -> Firing:
    """Return a message about an incident, as the engine of a machine makes it; it began now if not said otherwise."""
    n = next(_numbers)
    began, now = time.time() if began is None else began, time.time()
    notice = IncidentNotice(name, status, episode, f"{name}-{machine}-{episode}", began, {"db": "eu"}, count, now)
    record = Record(b"lost db eu\n", "stdout", now, f"k{n}")
    trigger = Trigger("db", {"severity": "critical"}, incident=notice)
    fired = began if status == "firing" else now
    return Firing(f"local-{n}.{alarm}", alarm, record.message, record, fired, "lost", trigger=trigger)


def event(text: bytes = b"TERRIBLE ALARM\n", *, alarm: str = "mail", count: int = 1) -> Firing:
    """Return a message that is about no incident."""
    n = next(_numbers)
    now = time.time()
    return Firing(f"local-{n}.{alarm}", alarm, text, Record(text, "stdout", now, f"k{n}"), now, "ALARM", count=count)


@dataclass
class Machine:
    """A member, and what its lane does."""

    name: str
    member: Member
    local: Local
    #: What it has sent.
    sent: list[Firing] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    #: How often a claim turned out to wait for another machine.
    deferred: int = 0

    async def deliver(self, firing: Firing, send: Callable[[], Any] | None = None) -> Claim | Left:
        """Do what a lane does; `send` is awaited while the message is under way."""
        self._note_state(firing)
        claim = await self.claim(firing)
        if isinstance(claim, Left):
            self.left.append(claim)
            return claim
        if send is not None:
            await send()
        self.sent.append(claim.firing)
        self.member.sharing.settle(claim, is_sent=True)
        return claim

    async def deliver_again_and_again(self, make_firing: Callable[[], Firing]) -> int:
        """Have the same to say until it may be sent; return how often it took."""
        async with asyncio.timeout(LIMIT):
            return await anext(n for n in itertools.count(1) if isinstance(await self.deliver(make_firing()), Claim))

    async def claim(self, firing: Firing) -> Claim | Left:
        async with asyncio.timeout(LIMIT):
            return await self.member.sharing.claim(firing, self._defer)

    async def kill(self) -> None:
        """End the member without a goodbye."""
        await self.member.stop(0.0)

    def _defer(self) -> None:
        self.deferred += 1

    def _note_state(self, firing: Firing) -> None:
        notice = firing.trigger.incident if firing.trigger is not None else None
        if notice is None:
            return
        if notice.status == "resolved":
            self.local.opened.pop(notice.id, None)
        elif notice.id not in self.local.opened:
            self.local.opened[notice.id] = OpenIncident(
                notice.id, "db", notice.key, {}, notice.started, firing.record.text, notice.count, {}
            )


def plan(url: str, fleet: str, machine: str, **options: Any) -> FleetPlan:
    alarms = options.pop("alarms", {"mail": SharedAlarm(), "sms": SharedAlarm()})
    options.setdefault("group_wait", 0.1)
    return FleetPlan(url=url, name=fleet, machine=machine, alarms=alarms, **options)


@contextlib.asynccontextmanager
async def machines(
    url: str, fleet: str, *names: str, periods: Periods = QUICK, clocks: Mapping[str, Any] | None = None, **options: Any
) -> AsyncIterator[list[Machine]]:
    """Start members; they leave in order at the end."""
    found = [make(url, fleet, name, periods=periods, clocks=clocks, **options) for name in names]
    try:
        for machine in found:
            await machine.member.start()
        yield found
    finally:
        await asyncio.gather(*(machine.member.stop() for machine in found))


def make(
    url: str,
    fleet: str,
    name: str,
    *,
    periods: Periods = QUICK,
    clocks: Mapping[str, Any] | None = None,
    store: Store | None = None,
    **options: Any,
) -> Machine:
    """Return a machine whose member is not started yet."""
    local = options.pop("local", None) or Local()
    member = Member(plan(url, fleet, name, **options), local, store=store, periods=periods, **(clocks or {}))
    return Machine(name, member, local)


async def deliver_all(found: Sequence[Machine], make_firing: Callable[[], Firing] = incident) -> list[Claim | Left]:
    """Let all machines have the same to say at once."""
    return list(await asyncio.gather(*(machine.deliver(make_firing()) for machine in found)))


def sent(found: Sequence[Machine]) -> list[Firing]:
    """Return all that machines have sent."""
    return [firing for machine in found for firing in machine.sent]


def named(count: int) -> list[str]:
    return [f"web-{n}" for n in range(1, count + 1)]
