"""A member of a fleet: joins, says how it is, looks after what others have left, and leaves."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable

import msgspec

from alarm_mw.fleet.claimant import Claimant
from alarm_mw.fleet.hub import Hub
from alarm_mw.fleet.link import Link, Periods
from alarm_mw.fleet.memory import ToldMemory
from alarm_mw.fleet.messages import end_of
from alarm_mw.fleet.overview import history_of, overview_of, record_of
from alarm_mw.fleet.redis_store import RedisStore
from alarm_mw.fleet.relay import Relay
from alarm_mw.fleet.restore import Restorer
from alarm_mw.fleet.store import Event, FleetUnreachableError, Owed, Store, Sweep
from alarm_mw.fleet.tasks import Tasks
from alarm_mw.model.fleet import (
    FleetHistory,
    FleetOverview,
    FleetPlan,
    FleetRecord,
    FleetState,
    LocalState,
    SharedOrder,
    SharedSilence,
)
from alarm_mw.model.types import Firing
from alarm_mw.model.version import VERSION

#: Characters of each of this machine's last lines that are shared, and how many of them.
LINE, LINES = 200, 10


class Member:
    """Lives on the dispatcher's event loop."""

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
        self._local = local
        self._monotonic = monotonic
        self._tasks = Tasks()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.memory = ToldMemory()
        store = RedisStore(plan.url, plan.name) if store is None else store
        instance = secrets.token_hex(4)
        self.link = Link(
            store, plan.machine, instance, self, periods, is_hub=plan.is_hub, monotonic=monotonic, wall=wall
        )
        self._relay = Relay(self.link, local, plan.machine, self._tasks)
        #: Decides which messages this machine sends.
        self.sharing = Claimant(plan, self.link, self.memory, self._relay, local)
        self._restorer = Restorer(self.link, self.memory, self._relay, self.sharing, local=local, tasks=self._tasks)
        self._hub = Hub(self.link, local, plan.machine)

    # Life

    async def start(self) -> None:
        """Begin to connect. Does not wait for the fleet."""
        self._loop = asyncio.get_running_loop()
        self.link.start()
        self._tasks.spawn(self._restorer.compare_again_and_again())
        if self.sharing.plan.is_hub:
            self._tasks.spawn(self._hub.take())

    async def stop(self, timeout: float = 2.0) -> None:
        """Say what became of the last messages, and goodbye. Takes at most `timeout` seconds, and as long to close."""
        began = self._monotonic()
        await self.sharing.stop(timeout / 2)
        await self._tasks.stop()
        await self.link.stop(max(timeout - (self._monotonic() - began), timeout / 2))

    def change(self, plan: FleetPlan) -> None:
        """Go on with another plan of the same URL, fleet and machine."""
        self.sharing.plan = plan

    # What comes over the connection

    def info(self) -> str:
        """See `Listener`."""
        plan, lines = self.sharing.plan, [line[:LINE] for line in self._local.last_lines()[-LINES:]]
        facts = {
            "labels": dict(plan.labels),
            "version": VERSION,
            "rules": plan.rules_hash,
            "program": plan.program,
            "page": plan.page,
            "lag": round(self.link.lag, 4),
            "lines": [line.encode("utf-8", "backslashreplace").decode() for line in lines],
        }
        return msgspec.json.encode(facts).decode()

    def connected(self, grace: float) -> None:
        """See `Listener`."""
        self._relay.connected()
        self._restorer.begin(grace)
        self.sharing.ask_again()

    def event(self, event: Event) -> None:
        """See `Listener`."""
        self.sharing.event(event)
        self._relay.event(event)

    async def sweep(self) -> None:
        """See `Listener`."""
        link, periods, plan = self.link, self.link.periods, self.sharing.plan
        sweep = Sweep(
            machine=plan.machine,
            silent_after=int(periods.silent_after * 1000),
            gone_after=int(periods.gone_after * 1000),
            forget_after=int(periods.forget_after * 1000),
            owed_after=int(periods.owed_after * 1000),
            grace=int(periods.grace * 1000),
            owner_timeout=int(periods.owner_timeout * 1000),
        )
        answer = await link.call(link.store.sweep(sweep))
        for owed in answer.owed:
            if isinstance(owed, Owed):
                self._end(owed)

    def _end(self, owed: Owed) -> None:
        """Send the end of an incident that no machine reports any more."""
        clock = self.link.clock
        now = clock.wall(clock.now())
        started = now if owed.started is None else clock.wall(owed.started)
        for alarm in owed.alarms:
            if alarm in self.sharing.plan.alarms:
                self._local.send(end_of(owed, alarm, started=started, now=now))

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
        link, plan = self.link, self.sharing.plan
        return {
            "name": plan.name,
            "machine": plan.machine,
            "state": link.state,
            "error": link.error or link.warning,
            "lag": link.lag,
            "is_hub": plan.is_hub,
        }

    async def hand_over(self, firing: Firing) -> None:
        """Leave a message to the hub, and return when it is in the hub's outbox. Raises `ActionError`."""
        await self._hub.hand_over(firing)

    async def overview(self) -> FleetOverview:
        """Return what is known of the fleet. Takes at most the time of a call."""
        plan = self.sharing.plan
        alarms = {name: alarm.rate[1] * 1000 for name, alarm in plan.alarms.items() if alarm.rate is not None}
        if plan.alarm_rate is not None:
            alarms[""] = plan.alarm_rate[1] * 1000
        facts = None
        if self.link.state == "connected":
            try:
                facts = await self.link.store.facts(alarms)
            except FleetUnreachableError as error:
                self.link.lost(error)
        return overview_of(plan, self.link, facts, {**self.sharing.counters, "reconnects": self.link.reconnects})

    async def history(self, since: float) -> FleetHistory:
        """Return the episodes that are open, and those that ended since a time. Takes some calls if there are many."""
        if self.link.state != "connected":
            return FleetHistory(error=self.link.error or "this machine is not connected yet")
        try:
            return await history_of(self.link, self.sharing.plan.machine, since)
        except FleetUnreachableError as error:  # heartbeats decide whether the fleet is lost
            return FleetHistory(error=str(error))

    async def incident(self, key: str) -> FleetRecord | None:
        """Return what is known of one incident; None while the fleet cannot be asked. Takes two calls."""
        if self.link.state != "connected":
            return None
        try:
            return record_of(key, await self.link.store.incident(key), self.link.clock)
        except FleetUnreachableError:
            return None
