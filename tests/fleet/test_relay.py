"""Silences, orders, and machines that are not heard of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from fleet_members import QUICK, Local, Machine, incident, machines, make, named
from msgspec import structs
from redis_server import RedisServer
from tcp_proxy import TcpProxy
from waiting import until

from alarm_mw.fleet.redis_store import RedisStore
from alarm_mw.fleet.store import Answer, Beat
from alarm_mw.model.fleet import Claim, Left, SharedOrder, SharedSilence
from alarm_mw.model.types import Place


def silence(name: str = "s1", *, ends: float = 60.0, updated: float = 0.0) -> SharedSilence:
    now = time.time()
    return SharedSilence(name, ('rule="db"',), now, now + ends, "kim", "deploy", now + updated)


async def connected(found: list[Machine]) -> None:
    await until(lambda: all(machine.member.link.state == "connected" for machine in found))


def test_a_silence_holds_on_all_machines(redis: RedisServer, fleet: str) -> None:
    """What is silenced on one machine is silenced on all, and not sent back."""

    async def scene() -> None:
        async with machines(redis.url, fleet, *named(3)) as found:
            await connected(found)
            shared = silence()
            await asyncio.to_thread(found[0].member.share_silence, shared)
            await until(lambda: all(machine.local.silenced for machine in found[1:]))
            (taken,) = found[1].local.silenced
            assert (taken.id, taken.matchers, taken.author, taken.comment) == ("s1", ('rule="db"',), "kim", "deploy")
            assert abs(taken.ends - shared.ends) < 0.1
            assert found[0].local.silenced == []

    asyncio.run(scene())


def test_the_later_change_of_a_silence_wins(redis: RedisServer, fleet: str) -> None:
    """A silence that was ended stays ended, whoever still has the older form."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "a", "b") as (a, b):
            await connected([a, b])
            a.member.share_silence(silence(ends=-1.0, updated=10.0))
            await until(lambda: b.local.silenced)
            b.member.share_silence(silence())
            async with machines(redis.url, fleet, "c") as (c,):
                await until(lambda: c.local.silenced)
                (taken,) = c.local.silenced
                assert taken.ends < time.time()

    asyncio.run(scene())


def test_silences_survive_the_loss_of_the_state(new_redis: Callable[..., RedisServer], new_fleet: str) -> None:
    """After a restart of Redis, and for a machine that was away, silences are exchanged in both directions."""

    async def scene() -> None:
        server = new_redis()
        local = Local(own_silences=[silence("mine")])
        async with machines(server.url, new_fleet, "a", local=local) as (a,):
            async with machines(server.url, new_fleet, "b") as (b,):
                await until(lambda: b.local.silenced)
            server.stop()
            await until(lambda: a.member.link.state == "away")
            a.member.share_silence(silence("while away"))
            server.start()
            async with machines(server.url, new_fleet, "c") as (c,):
                await until(lambda: {each.id for each in c.local.silenced} == {"mine", "while away"})

    asyncio.run(scene())


def test_an_order_waits_for_the_fleet(new_redis: Callable[..., RedisServer], new_fleet: str) -> None:
    """What somebody does while Redis is away is done on all machines when it is back."""

    async def scene() -> None:
        server = new_redis()
        async with machines(server.url, new_fleet, "a", "b") as (a, b):
            await connected([a, b])
            server.stop()
            await until(lambda: a.member.link.state == b.member.link.state == "away")
            a.member.share_order(SharedOrder("resolved", "abc", "kim", "", time.time()))
            server.start()
            await until(lambda: b.local.ordered)
            assert (b.local.ordered[0].kind, b.local.ordered[0].by) == ("resolved", "kim")

    asyncio.run(scene())


def test_a_machine_that_joins_does_not_do_what_was_done_before(redis: RedisServer, fleet: str) -> None:
    """Orders from before a master's start were for incidents that it does not have."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "a", "b") as (a, b):
            await connected([a, b])
            a.member.share_order(SharedOrder("acknowledged", "abc", "kim", "", time.time(), time.time() + 60.0))
            await until(lambda: b.local.ordered)
            async with machines(redis.url, fleet, "c") as (c,):
                await connected([c])
                a.member.share_order(SharedOrder("resolved", "def", "kim", "", time.time()))
                await until(lambda: c.local.ordered)
                assert [order.incident for order in c.local.ordered] == ["def"]

    asyncio.run(scene())


def test_what_is_done_while_a_machine_joins_reaches_it(redis: RedisServer, fleet: str) -> None:
    """An order right after the first heartbeat is followed, however long the heartbeat was on its way."""

    class SlowStore(RedisStore):
        async def beat(self, beat: Beat) -> Answer:
            await asyncio.sleep(1.0)
            return await super().beat(beat)

    async def scene() -> None:
        late = make(redis.url, fleet, "b", store=SlowStore(redis.url, fleet))
        async with machines(redis.url, fleet, "a") as (a,):
            await late.member.start()
            await connected([a, late])
            a.member.share_order(SharedOrder("resolved", "abc", "kim", "", time.time()))
            await until(lambda: late.local.ordered)
            await late.member.stop()

    asyncio.run(scene())


def test_a_silent_machine_is_reported_with_its_last_lines(redis: RedisServer, fleet: str) -> None:
    """All others are told which machine is silent, since when, and what it wrote last; then that it is back."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "a", "b") as found:
            dead = make(redis.url, fleet, "c", local=Local(lines=("starting", "lost db eu")))
            await dead.member.start()
            await connected([*found, dead])
            await dead.kill()
            await until(lambda: all(machine.local.silent for machine in found))
            (silent,) = found[0].local.silent.values()
            assert silent.machines == ("c",)
            assert silent.last_lines == ("starting", "lost db eu")
            assert 0.0 < time.time() - silent.since < 30.0
            (member,) = [each for each in (await found[0].member.overview()).members if each.machine == "c"]
            assert member.state == "silent"
            async with machines(redis.url, fleet, "c"):
                await until(lambda: not any(machine.local.silent for machine in found))

    asyncio.run(scene())


def test_a_machine_that_leaves_in_order_is_not_missed(redis: RedisServer, fleet: str) -> None:
    """A planned stop is no incident."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "a") as (a,):
            later = make(redis.url, fleet, "c")
            await later.member.start()
            async with machines(redis.url, fleet, "b") as (b,):
                await connected([a, b, later])
            await later.kill()
            await until(lambda: a.local.silent)
            assert a.local.ever_silent == {"c"}
            assert {(each.machine, each.state) for each in (await a.member.overview()).members} == {
                ("a", "alive"),
                ("b", "left"),
                ("c", "silent"),
            }

    asyncio.run(scene())


@pytest.mark.parametrize("is_noticed", [True, False])
def test_a_machine_leaves_in_order_without_its_connection(redis: RedisServer, fleet: str, *, is_noticed: bool) -> None:
    """A machine whose connection is lost when it is stopped says goodbye over another one."""

    async def scene() -> None:
        periods = structs.replace(QUICK, heartbeat=60.0, reconnect_first=60.0, reconnect=60.0)
        proxy = TcpProxy(redis.port)
        url = f"redis://127.0.0.1:{proxy.port}"
        async with proxy.running(), machines(url, fleet, "b", periods=periods) as (b,):
            await connected([b])
            proxy.cut()
            if is_noticed:
                await until(lambda: b.member.link.state == "away")
            proxy.strand()
        assert redis.cli("ZRANGE", f"{{alarm_mw:{fleet}}}:left", "0", "-1").split() == ["b"]

    asyncio.run(scene())


def test_machines_that_vanish_together_are_one_incident(redis: RedisServer, fleet: str) -> None:
    """When more than a fifth of the fleet is silent at once, one more period passes, and all are one message."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "a", "b") as found:
            dead = [make(redis.url, fleet, name) for name in named(4)]
            for machine in dead:
                await machine.member.start()
            await connected([*found, *dead])
            await asyncio.gather(*(machine.kill() for machine in dead))
            began = time.monotonic()
            await until(lambda: found[0].local.silent)
            assert time.monotonic() - began >= 2 * QUICK.silent_after - QUICK.heartbeat * 2
            (silent,) = found[0].local.silent.values()
            assert silent.machines == ("web-1", "web-2", "web-3", "web-4")

    asyncio.run(scene())


def test_a_new_generation_misses_nobody_at_once(new_redis: Callable[..., RedisServer], new_fleet: str) -> None:
    """While Redis was away, no machine was silent."""

    async def scene() -> None:
        server = new_redis("--appendonly", "yes", "--appendfsync", "always")
        periods = structs.replace(QUICK, silent_after=1.0, owner_timeout=0.8)
        async with machines(server.url, new_fleet, "a", "b", periods=periods) as found:
            await connected(found)
            server.stop()
            await until(lambda: all(each.member.link.state == "away" for each in found))
            until_silent = found[0].member.link.away_since + 1.5
            await until(lambda: time.monotonic() > until_silent)
            server.start()
            later = make(server.url, new_fleet, "c", periods=periods)
            await later.member.start()
            await connected([*found, later])
            await later.kill()
            await until(lambda: all(machine.local.silent for machine in found))
            assert [machine.local.ever_silent for machine in found] == [{"c"}] * 2

    asyncio.run(scene())


def test_the_overview_shows_the_whole_fleet(redis: RedisServer, fleet: str) -> None:
    """Any member shows all machines and all open incidents, with who has told what."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "a", "b", labels={"zone": "eu"}, rules_hash="4f2a") as (a, b):
            await a.deliver(incident(count=3))
            await b.deliver(incident(count=2))
            await until(lambda: b.member.memory.get("abc", "mail"))
            overview = await b.member.overview()
            assert (overview.name, overview.machine, overview.state, overview.error) == (fleet, "b", "connected", "")
            assert [(each.machine, each.labels, each.rules_hash) for each in overview.members] == [
                ("a", {"zone": "eu"}, "4f2a"),
                ("b", {"zone": "eu"}, "4f2a"),
            ]
            (shown,) = overview.incidents
            assert (shown.id, shown.rule, shown.key, shown.text) == ("abc", "db", {"db": "eu"}, "lost db eu")
            assert (shown.machines, shown.machine_count, shown.count) == (("a", "b"), 2, 5)
            told = shown.alarms["mail"]
            assert (told.told_by, told.owner) == ("a", "")
            assert told.told_at is not None
            assert abs(told.told_at - time.time()) < 30.0
            assert overview.counters["offers"] == 1

    asyncio.run(scene())


def test_what_is_ended_by_hand_is_over_on_machines_that_are_away(redis: RedisServer, fleet: str) -> None:
    """Somebody ends an incident of a machine that has left: it is told once, and what begins next is told anew.

    When the machine returns, it takes the end, and does not reopen the incident.
    """

    async def scene() -> None:
        async with machines(redis.url, fleet, "web-1", "web-2", program="shop") as (first, second):
            away = make(redis.url, fleet, "web-3", program="shop")
            await away.member.start()
            await connected([first, second, away])
            began = time.time() - 5.0
            for machine in (away, first):
                await machine.deliver(incident(machine=machine.name, began=began))
            assert isinstance(await first.deliver(incident("resolved")), Left)
            await away.member.stop()
            first.member.share_order(SharedOrder("resolved", "abc", "kim", time=time.time()))
            await until(lambda: first.local.sent or second.local.sent)
            sender = first if first.local.sent else second
            (end,) = sender.local.sent
            assert end.trigger is not None
            assert end.trigger.incident is not None
            notice = end.trigger.incident
            assert (notice.ended_by, notice.end) == ("operator", "kim")
            assert notice.started == pytest.approx(began, abs=0.5)
            assert end.origin == Place("web-3", "shop")
            assert isinstance(await sender.deliver(end), Claim)
            assert (await first.member.overview()).incidents == ()
            claim = await first.deliver(incident(episode=2, machine="web-1"))
            assert isinstance(claim, Claim)
            async with machines(redis.url, fleet, "web-3", local=Local(opened=away.local.opened)) as (back,):
                await until(lambda: back.local.ordered)
                (order,) = back.local.ordered
                assert (order.kind, order.incident, order.by) == ("resolved", "abc", "kim")
                left = await back.deliver(incident("reminder", machine="web-3", began=began))
                assert isinstance(left, Left)
                assert left.text == "resolved by kim"
                (incident_now,) = (await back.member.overview()).incidents
                assert incident_now.machines == ("web-1",)

    asyncio.run(scene())


def test_a_machine_that_is_there_says_that_it_was_ended_by_hand(redis: RedisServer, fleet: str) -> None:
    """The order reaches the machine that has the incident, whose message of the end is the only one."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "a", "b") as (a, b):
            await connected([a, b])
            await b.deliver(incident(began=time.time() - 5.0))
            a.member.share_order(SharedOrder("resolved", "abc", "kim", time=time.time()))
            await until(lambda: b.local.ordered)
            assert isinstance(await b.deliver(incident("resolved")), Claim)
            assert isinstance(await a.deliver(incident("resolved")), Left)

    asyncio.run(scene())


def test_what_was_pending_when_another_was_ended_by_hand_is_told(redis: RedisServer, fleet: str) -> None:
    """An incident that had its first match before, and begins to fire after it, is a new one, with all its messages."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "a", "b") as (a, b):
            await connected([a, b])
            began = time.time() - 5.0
            await a.deliver(incident(began=began))
            a.member.share_order(SharedOrder("resolved", "abc", "kim", time=time.time()))
            await until(lambda: b.local.ordered)
            await a.deliver(incident("resolved"))
            assert isinstance(await b.deliver(structs.replace(incident(began=began), time=time.time())), Claim)
            assert isinstance(await b.deliver(incident("escalated", alarm="sms", began=began)), Claim)

    asyncio.run(scene())


def test_an_old_order_ends_no_later_episode(redis: RedisServer, fleet: str) -> None:
    """What somebody has ended before the incident began stays open."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "a", "b") as (a, b):
            await connected([a, b])
            await b.deliver(incident())
            a.member.share_order(SharedOrder("resolved", "abc", "kim", time=time.time() - 60.0))
            await until(lambda: b.local.ordered)
            assert len((await a.member.overview()).incidents) == 1

    asyncio.run(scene())


def test_two_masters_of_one_name_are_noticed(redis: RedisServer, fleet: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each says in its log and its overview what to set, until the other one is gone; a restart is no second master."""

    async def scene() -> None:
        periods = structs.replace(QUICK, heartbeat=0.1, owner_timeout=0.5)
        async with machines(redis.url, fleet, "vm", "vm", periods=periods) as (first, second):
            await until(lambda: first.member.link.warning and second.member.link.warning)
            assert "set [fleet] machine to a name of its own" in (await first.member.overview()).error
            await second.kill()
            await until(lambda: not first.member.link.warning)

    asyncio.run(scene())
    assert "another master of the fleet is called 'vm' too" in caplog.text
