"""Members that share a Redis, while nothing fails."""

from __future__ import annotations

import asyncio

from fleet_members import deliver_all, incident, machines, named, sent
from redis_server import RedisServer

from alarm_mw.model.fleet import Left
from alarm_mw.model.types import Reason


def test_one_machine_notifies_for_all(redis: RedisServer, fleet: str) -> None:
    """An incident on ten machines at once is one message, which names them."""

    async def scene() -> None:
        async with machines(redis.url, fleet, *named(10), group_wait=0.3) as found:
            await deliver_all(found)
            (firing,) = sent(found)
            assert firing.machines is not None
            assert firing.machines.count == 10
            assert set(firing.machines.names) == set(named(10))
            lefts = [left for machine in found for left in machine.left]
            assert {left.reason for left in lefts} == {Reason.FLEET}
            owner = next(machine.name for machine in found if machine.sent)
            assert {left.text.partition(",")[0] for left in lefts} == {f"sent by {owner}"}

    asyncio.run(scene())


def test_the_last_machine_says_that_it_is_over(redis: RedisServer, fleet: str) -> None:
    """The end is sent once, when no machine reports the incident any more, in the thread of the beginning."""

    async def scene() -> None:
        async with machines(redis.url, fleet, *named(3)) as found:
            await deliver_all(found)
            (begin,) = sent(found)
            for machine in found[:2]:
                left = await machine.deliver(incident("resolved"))
                assert isinstance(left, Left)
                assert left.text.startswith("still firing")
            await found[2].deliver(incident("resolved"))
            _, end = sent(found)
            assert begin.trigger is not None
            assert end.trigger is not None
            assert begin.trigger.incident is not None
            assert end.trigger.incident is not None
            assert end.trigger.incident.thread == begin.trigger.incident.thread
            assert end.id != begin.id

    asyncio.run(scene())
