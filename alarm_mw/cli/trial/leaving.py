"""Leaves messages to the hub of a fleet without joining it: those of alarms that are tried from the command line."""

from __future__ import annotations

import contextlib
import secrets

from msgspec import structs

from alarm_mw.config.build import fleet_plan_of
from alarm_mw.config.settings import Settings
from alarm_mw.master.runtime.membership import taken
from alarm_mw.model.errors import ActionError
from alarm_mw.model.interfaces import HandOver, no_hub
from alarm_mw.model.types import Firing


def to_hub(settings: Settings) -> HandOver:
    """Return what leaves a message to the hub of the fleet that these settings name."""
    plan = fleet_plan_of(settings)
    if plan is None:
        return no_hub
    url, fleet, machine = plan.url, plan.name, plan.machine
    #: The hub takes a message once: the next trial is another one.
    trial = secrets.token_hex(4)

    async def hand_over(firing: Firing) -> None:
        from alarm_mw.fleet.hub import leave  # noqa: PLC0415  # imports redis, for those who have a fleet
        from alarm_mw.fleet.redis_store import RedisStore  # noqa: PLC0415  # as above
        from alarm_mw.fleet.store import FleetUnreachableError  # noqa: PLC0415  # as above

        ours = structs.replace(firing, id=f"{trial}-{firing.id}")
        store = RedisStore(url, fleet)
        try:
            await store.connect()
            await taken(leave(store, ours, machine), fleet)
        except FleetUnreachableError as error:
            raise ActionError(f"the fleet cannot be reached: {error}", retry=True) from error
        finally:
            with contextlib.suppress(FleetUnreachableError):
                await store.took([ours.id])  # or a hub that is started later would deliver it
            await store.close()

    return hand_over
