"""A master's membership of a fleet: it joins, goes on with other settings, and leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from alarm_mw.config.build import fleet_plan_of
from alarm_mw.config.settings import Settings
from alarm_mw.delivery.dispatcher import Dispatcher
from alarm_mw.model.errors import ActionError
from alarm_mw.model.fleet import (
    FleetHistory,
    FleetOverview,
    FleetPlan,
    FleetRecord,
    FleetState,
    LocalState,
    SharedOrder,
    SharedSilence,
    Sharing,
)
from alarm_mw.model.interfaces import no_hub
from alarm_mw.model.types import Firing

log = logging.getLogger(__name__)

#: Seconds to say goodbye.
LEAVE_TIMEOUT = 2.0

#: Seconds for a hub to take a message, within the usual `attempt_timeout`. A hub looks twice in a second.
TAKEN_WITHIN = 20.0


class Member(Protocol):
    """A member of a fleet. Its methods belong on the event loop, but for `share_silence` and `share_order`."""

    @property
    def sharing(self) -> Sharing:
        """What decides which messages this machine sends."""
        ...

    async def start(self) -> None:
        """Begin to connect; does not wait for the fleet."""
        ...

    async def stop(self, timeout: float) -> None:
        """Say goodbye, for at most `timeout` seconds."""
        ...

    def change(self, plan: FleetPlan) -> None:
        """Go on with another plan of the same URL, fleet and machine."""
        ...

    def share_silence(self, silence: SharedSilence) -> None:
        """Tell the other machines of a silence. From any thread."""
        ...

    def share_order(self, order: SharedOrder) -> None:
        """Tell the other machines what somebody has done about an incident. From any thread."""
        ...

    def state(self) -> FleetState:
        """Return whether this machine shares with the others now. From any thread."""
        ...

    async def hand_over(self, firing: Firing) -> None:
        """Leave a message to the hub, and return when it is in the hub's outbox; raise `ActionError`."""
        ...

    async def overview(self) -> FleetOverview:
        """Return what is known of the fleet."""
        ...

    async def history(self, since: float) -> FleetHistory:
        """Return the episodes of the fleet that are open, and those that ended since a time."""
        ...

    async def incident(self, key: str) -> FleetRecord | None:
        """Return what the fleet knows of one incident; None while it cannot be asked."""
        ...


async def taken(handing: Awaitable[None], fleet: str) -> None:
    """Wait until the hub of a fleet has taken a message. Raises `ActionError` where none takes it in time."""
    try:
        async with asyncio.timeout(TAKEN_WITHIN):
            await handing
    except TimeoutError:
        text = f"no hub of fleet {fleet} has taken it within {TAKEN_WITHIN:g} seconds: is `alarm-mw hub` running?"
        raise ActionError(text, retry=True) from None


#: Makes a member that has not joined yet; raises `ValueError` for a URL that cannot be used.
Join = Callable[[FleetPlan, LocalState], Member]


class Membership:
    """A master's place in a fleet, as long as its settings name one. Lives on the event loop."""

    def __init__(self, local: LocalState, dispatcher: Dispatcher, make: Join) -> None:
        self._local = local
        self._dispatcher = dispatcher
        self._make = make
        self._plan: FleetPlan | None = None
        #: One reload after the other.
        self._changing = asyncio.Lock()
        #: None where this machine shares nothing. May be read from any thread.
        self.member: Member | None = None

    async def follow(self, settings: Settings) -> None:
        """Join the fleet that these settings name, go on as its member, or leave it."""
        async with self._changing:
            await self._follow(fleet_plan_of(settings))

    async def _follow(self, plan: FleetPlan | None) -> None:
        before, self._plan = self._plan, plan
        if self.member is not None and plan is not None and before is not None and _place(plan) == _place(before):
            self.member.change(plan)
            return
        await self.leave(LEAVE_TIMEOUT)
        if plan is None:
            return
        try:
            member = self._make(plan, self._local)
        except ValueError as error:
            log.error("fleet %s: this machine cannot join, and sends its alarms alone: %s", plan.name, error)
            return
        await member.start()
        self.member = member
        self._dispatcher.share(member.sharing)

    async def hand_over(self, firing: Firing) -> None:
        """Leave a message to the hub, and return when it is in the hub's outbox. Raises `ActionError`."""
        if self.member is None or self._plan is None:
            await no_hub(firing)
        else:
            await taken(self.member.hand_over(firing), self._plan.name)

    async def leave(self, timeout: float) -> None:
        """Say goodbye, for at most `timeout` seconds."""
        member, self.member = self.member, None
        self._dispatcher.share(None)
        if member is not None:
            await member.stop(timeout)


def _place(plan: FleetPlan) -> tuple[str, str, str, bool]:
    return plan.url, plan.name, plan.machine, plan.is_hub
