"""Messages that machines leave to a hub."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from fleet_members import event, incident, machines
from msgspec import structs
from redis_server import RedisServer
from waiting import until

from alarm_mw.model.errors import ActionError
from alarm_mw.model.types import Machines


def run(scene: object) -> None:
    assert asyncio.iscoroutine(scene)
    asyncio.run(scene)


def test_a_message_is_handed_over_when_the_hub_has_it(redis: RedisServer, fleet: str) -> None:
    """It waits until a hub runs, names its machine, and is taken once, also where it is left again."""

    async def scene() -> None:
        async with AsyncExitStack() as stack:
            (web,) = await stack.enter_async_context(machines(redis.url, fleet, "web-1"))
            await web.member.link.is_connected.wait()
            firing = event()
            handing = asyncio.create_task(web.member.hand_over(firing))
            await asyncio.wait({handing}, timeout=0.7)
            assert not handing.done()
            (hub,) = await stack.enter_async_context(machines(redis.url, fleet, "hub", is_hub=True))
            await handing
            (taken,) = hub.local.sent
            assert (taken.id, taken.message, taken.machines) == (firing.id, firing.message, Machines(("web-1",), 1))
            assert not hub.member.sharing.shares(taken)
            await web.member.hand_over(structs.replace(incident(), id=firing.id))
            assert redis.cli("HLEN", f"{{alarm_mw:{fleet}}}:hub").strip() == "0"

    run(scene())


def test_the_machines_of_a_shared_message_stay(redis: RedisServer, fleet: str) -> None:
    """A message that speaks for many machines does so at the hub as well."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "web-1", is_hub=True) as (web,):
            await web.member.link.is_connected.wait()
            many = Machines(("web-1", "web-2"), 2)
            await web.member.hand_over(structs.replace(event(), machines=many))
            assert web.local.sent[0].machines == many

    run(scene())


def test_what_a_hub_cannot_take_is_named(redis: RedisServer, fleet: str, caplog: pytest.LogCaptureFixture) -> None:
    """A message for an alarm that the hub does not have, or that cannot be read, waits, and others do not."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "web-1", is_hub=True) as (web,):
            await web.member.link.is_connected.wait()
            key = f"{{alarm_mw:{fleet}}}:hub"
            redis.cli("HSET", key, "broken", "no message")
            refused = asyncio.create_task(web.member.hand_over(event(alarm="unknown")))
            await web.member.hand_over(event())
            await until(lambda: "which has no such alarm" in caplog.text)
            assert not refused.done()
            refused.cancel()
            assert redis.cli("HLEN", key).strip() == "2"

    run(scene())
    assert "the message broken for this hub cannot be read" in caplog.text


def test_what_cannot_be_left_stays_in_the_outbox(redis: RedisServer, fleet: str) -> None:
    """A hub that nobody runs, a message that is too large, and a fleet that is away: the action fails."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "web-1") as (web,):
            with pytest.raises(ActionError, match="the fleet cannot be reached: not connected"):
                await web.member.hand_over(event())
            await web.member.link.is_connected.wait()
            with pytest.raises(ActionError, match="the hub takes at most 262144") as raised:
                await web.member.hand_over(event(b"x" * 300_000))
            assert not raised.value.retry
            waiting = [word for n in range(1000) for word in (f"m{n}", "x")]
            redis.cli("HSET", f"{{alarm_mw:{fleet}}}:hub", *waiting)
            with pytest.raises(ActionError, match="1000 messages wait for the hub already"):
                await web.member.hand_over(event())

    run(scene())


def test_a_hub_that_cannot_connect_says_what_that_means(
    redis: RedisServer, fleet: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It sends nothing of its own: what is missing are the messages of the machines."""

    async def scene() -> None:
        async with machines(f"{redis.url}.gone", fleet, "hub", is_hub=True) as (hub,):
            await hub.member.link.is_known.wait()
            state = hub.member.state()
            assert (state["state"], state["is_hub"]) == ("away", True)

    run(scene())
    assert "fleet: unreachable, the hub gets no messages: " in caplog.text
    assert "alone" not in caplog.text
