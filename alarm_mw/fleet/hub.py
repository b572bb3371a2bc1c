"""Messages that machines leave to a hub, which delivers them: it alone has the receivers' secrets, or reaches them."""

from __future__ import annotations

import asyncio
import logging

from msgspec import structs

from alarm_mw.delivery.outbox.entries import decode, encode
from alarm_mw.fleet.link import Link
from alarm_mw.fleet.store import FleetUnreachableError, Store
from alarm_mw.model.errors import ActionError
from alarm_mw.model.fleet import LocalState
from alarm_mw.model.types import Firing, Machines

log = logging.getLogger(__name__)

#: Seconds between two looks: of the hub for messages, and of a machine whether the hub has taken its one.
LOOK = 0.5

#: How many messages may wait for the hub; beyond that, they wait in the outboxes of their machines.
MOST = 1000

#: Bytes of a message.
LARGEST = 256 * 1024


async def leave(store: Store, firing: Firing, machine: str) -> None:
    """Leave a message to the hub, and return when it is in the hub's outbox. Raises `ActionError`.

    Takes as long as no hub runs. A message that is left again, under the same id, is taken once.
    """
    data = encode(structs.replace(firing, machines=firing.machines or Machines((machine,), 1)))
    if len(data) > LARGEST:
        raise ActionError(f"the message has {len(data)} bytes, and the hub takes at most {LARGEST}", retry=False)
    try:
        if not await store.hand_over(firing.id, data, MOST):
            raise ActionError(f"{MOST} messages wait for the hub already: is `alarm-mw hub` running?", retry=True)
        while await store.waits_for_hub(firing.id):  # noqa: ASYNC110  # Redis tells nobody
            await asyncio.sleep(LOOK)
    except FleetUnreachableError as error:
        raise ActionError(f"the fleet cannot be reached: {error}", retry=True) from error


class Hub:
    """Lives on one event loop."""

    def __init__(self, link: Link, local: LocalState, machine: str) -> None:
        self._link = link
        self._local = local
        self._machine = machine

    async def hand_over(self, firing: Firing) -> None:
        """Do what `leave` does."""
        await leave(self._link.store, firing, self._machine)

    async def take(self) -> None:
        """Take what machines leave to this hub, without an end."""
        refused: set[str] = set()
        while True:
            await self._link.is_connected.wait()
            try:
                found = await self._link.store.handed_over()
                taken = await self._taken({name: data for name, data in found.items() if name not in refused})
                refused = {*found}.difference(taken)
                await self._link.store.took(taken)
            except FleetUnreachableError as error:
                self._link.lost(error)
            await asyncio.sleep(LOOK)

    async def _taken(self, found: dict[str, bytes]) -> list[str]:
        """Put messages into the outbox, and return the names of those that are there."""
        firings: dict[str, Firing] = {}
        for name, data in found.items():
            try:
                firings[name] = decode(data)
            except (ValueError, TypeError) as error:  # msgspec's are among them
                log.error("fleet: the message %s for this hub cannot be read: %s", name, error)
        if not firings:
            return []
        unknown = await self._local.take_over([*firings.values()])
        for alarm in unknown:
            log.error("fleet: messages for the alarm %r wait for this hub, which has no such alarm", alarm)
        return [name for name, firing in firings.items() if firing.alarm not in unknown]
