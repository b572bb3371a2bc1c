"""What members do when Redis, or one of them, fails."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fleet_members import QUICK, Local, Machine, deliver_all, event, incident, machines, make, named, sent
from msgspec import structs
from redis_server import ENGINES, RedisServer, Sentinel
from tcp_proxy import TcpProxy
from waiting import until, wait_until

from alarm_mw.model.fleet import Claim, Left, SharedAlarm
from alarm_mw.model.types import Reason


def statuses(found: list[Machine]) -> list[str]:
    """Return the statuses of all messages, in the order of the alphabet."""
    return sorted(
        firing.trigger.incident.status
        for firing in sent(found)
        if firing.trigger is not None and firing.trigger.incident is not None
    )


async def connected(found: list[Machine]) -> None:
    await until(lambda: all(machine.member.link.state == "connected" for machine in found))


async def away(found: list[Machine]) -> None:
    await until(lambda: all(machine.member.link.state == "away" for machine in found))


# The owner of a message dies


def test_the_message_of_a_dead_owner_is_taken_over(redis: RedisServer, fleet: str) -> None:
    """A machine that dies while it sends is followed by another one, with the same id."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "b", "c") as found:
            dead = make(redis.url, fleet, "a")
            await dead.member.start()
            claim = await dead.claim(incident())
            assert isinstance(claim, Claim)
            others = asyncio.create_task(deliver_all(found))
            await until(lambda: all(machine.deferred for machine in found))
            await dead.kill()
            await others
            assert [firing.id for firing in sent(found)] == [claim.firing.id]

    asyncio.run(scene())


def test_a_former_owner_knows_that_it_lost_its_message(redis: RedisServer, fleet: str) -> None:
    """A machine that was taken for dead does not send what another one has taken over; if it has, that counts."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "a", "b") as (a, b):
            slow = await a.claim(incident())
            assert isinstance(slow, Claim)
            redis.cli("HDEL", f"{{alarm_mw:{fleet}}}:inst", "a")
            redis.cli("ZREM", f"{{alarm_mw:{fleet}}}:hb", "a")
            taken = await b.claim(incident())
            assert isinstance(taken, Claim)
            assert taken.firing.id == slow.firing.id
            assert taken.token > slow.token
            assert not await a.member.sharing.renew(slow)
            assert await b.member.sharing.renew(taken)

    asyncio.run(scene())


def test_a_late_success_of_a_former_owner_counts(redis: RedisServer, fleet: str) -> None:
    """Where the former owner has sent the message after all, the new one leaves it."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "a", "b") as (a, b):
            slow = await a.claim(incident())
            assert isinstance(slow, Claim)
            redis.cli("ZREM", f"{{alarm_mw:{fleet}}}:hb", "a")
            taken = await b.claim(incident())
            assert isinstance(taken, Claim)
            a.member.sharing.settle(slow, is_sent=True)
            await until(lambda: b.member.memory.get("abc", "mail"))
            assert not await b.member.sharing.renew(taken)
            assert isinstance(await b.claim(incident()), Left)

    asyncio.run(scene())


def test_a_machine_that_leaves_hands_its_messages_over_at_once(redis: RedisServer, fleet: str) -> None:
    """Nobody waits for a machine that has said goodbye."""

    async def scene() -> None:
        periods = structs.replace(QUICK, owner_timeout=60.0)
        async with machines(redis.url, fleet, "b", periods=periods) as (b,):
            async with machines(redis.url, fleet, "a", periods=periods) as (a,):
                assert isinstance(await a.claim(incident()), Claim)
                task = asyncio.create_task(b.deliver(incident()))
                await until(lambda: b.deferred)
            assert isinstance(await task, Claim)

    asyncio.run(scene())


def test_the_end_of_an_incident_of_dead_machines_is_sent(redis: RedisServer, fleet: str) -> None:
    """Where the only machine with an incident is gone for long, another one says that it is over."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "b") as (b,):
            dead = make(redis.url, fleet, "a")
            await dead.member.start()
            await dead.deliver(incident())
            await until(lambda: dead.member.memory.get("abc", "mail"))
            await dead.kill()
            await until(lambda: b.local.sent)
            end = b.local.sent[0]
            assert (end.alarm, end.text, end.rule) == ("mail", "lost db eu", "lost")
            claim = await b.deliver(end)
            assert isinstance(claim, Claim)
            assert statuses([dead, b]) == ["firing", "resolved"]

    asyncio.run(scene())


# The state is lost


@pytest.mark.parametrize("after", ["told", "owned"])
def test_a_flush_leads_to_no_second_message(redis: RedisServer, fleet: str, after: str) -> None:
    """After FLUSHALL, members say what was told, and go on sending what they own: nothing is sent twice."""

    async def scene() -> None:
        async with machines(redis.url, fleet, *named(5)) as found:
            if after == "told":
                await deliver_all(found)
                flush(redis, fleet)
                await deliver_all(found, lambda: incident("escalated"))
            else:
                claim = await found[0].claim(incident())
                assert isinstance(claim, Claim)
                others = asyncio.create_task(deliver_all(found[1:]))
                await until(lambda: all(machine.deferred for machine in found[1:]))
                flush(redis, fleet)
                await until(lambda: '"o":"web-1"' in redis.cli("HGET", f"{{alarm_mw:{fleet}}}:i:abc", "a:mail"))
                assert await found[0].member.sharing.renew(claim)
                found[0].sent.append(claim.firing)
                found[0].member.sharing.settle(claim, is_sent=True)
                await others
            assert statuses(found) == ["firing"]
            await deliver_all(found, lambda: incident("resolved"))
            assert statuses(found) == ["firing", "resolved"]

    asyncio.run(scene())


def flush(redis: RedisServer, fleet: str) -> None:
    """Do to one fleet what FLUSHALL does to all."""
    keys = redis.cli("KEYS", f"{{alarm_mw:{fleet}}}:*").split()
    redis.cli("DEL", *keys)


def test_an_end_at_the_time_of_a_flush_is_sent_by_who_had_the_incident(redis: RedisServer, fleet: str) -> None:
    """An incident that ends before members have said again what was told ends with the text of its lines."""

    async def scene() -> None:
        async with machines(redis.url, fleet, *named(3)) as found:
            await deliver_all(found)
            flush(redis, fleet)
            await deliver_all(found, lambda: incident("resolved"))
            assert statuses(found) == ["firing", "resolved"]
            assert [machine.local.sent for machine in found] == [[], [], []]

    asyncio.run(scene())


def test_a_message_that_waits_for_others_survives_a_flush(redis: RedisServer, fleet: str) -> None:
    """A flush while the owner waits for other machines leads to one message."""

    async def scene() -> None:
        async with machines(redis.url, fleet, *named(3), group_wait=1.0) as found:
            task = asyncio.create_task(deliver_all(found))
            await until(lambda: sum(machine.deferred for machine in found) == 2)
            flush(redis, fleet)
            await task
            assert statuses(found) == ["firing"]

    asyncio.run(scene())


def test_a_restart_without_persistence_leads_to_no_second_message(
    new_redis: Callable[..., RedisServer], new_fleet: str
) -> None:
    """Redis starts again empty, without its functions: members load them again, and say what was told."""

    async def scene() -> None:
        server = new_redis()
        async with machines(server.url, new_fleet, *named(4)) as found:
            await deliver_all(found)
            await until(lambda: all(machine.member.memory.get("abc", "mail") for machine in found))
            server.stop()
            await away(found)
            server.start()
            await connected(found)
            await deliver_all(found, lambda: incident("escalated"))
            assert statuses(found) == ["firing"]
            await deliver_all(found, lambda: incident("resolved"))
            assert statuses(found) == ["firing", "resolved"]

    asyncio.run(scene())


def test_a_failover_to_a_replica_without_data_leads_to_no_second_message(
    new_redis: Callable[..., RedisServer], new_fleet: str
) -> None:
    """The replica that becomes master lacks the last writes: members say what was told, and find it by sentinels."""

    async def scene() -> None:
        master = new_redis()
        replica = new_redis()
        sentinel = Sentinel(master.directory, master)
        replica.cli("REPLICAOF", "127.0.0.1", str(master.port))
        sentinel.start()
        try:
            sentinel.wait_for_replicas(1)
            url = f"redis+sentinel://127.0.0.1:{sentinel.port},127.0.0.1:1/alarms/0"
            async with machines(url, new_fleet, *named(3)) as found:
                await connected(found)
                replica.send(signal.SIGSTOP)  # it does not hear of what follows
                await deliver_all(found)
                await until(lambda: all(machine.member.memory.get("abc", "mail") for machine in found))
                master.stop()
                replica.send(signal.SIGCONT)
                await until(lambda: "master" in replica.cli("ROLE"))
                await connected(found)
                await deliver_all(found, lambda: incident("escalated"))
                assert statuses(found) == ["firing"]
                await deliver_all(found, lambda: incident("resolved"))
                assert statuses(found) == ["firing", "resolved"]
        finally:
            sentinel.stop()

    asyncio.run(scene())


def test_the_node_of_a_cluster_is_found(new_redis: Callable[..., RedisServer], redis_directory: Path) -> None:
    """A fleet lives on one node of a Redis Cluster, and any node may be named."""
    nodes = [new_redis("--cluster-enabled", "yes", "--cluster-config-file", f"nodes-{n}.conf") for n in range(2)]
    nodes[0].cli("CLUSTER", "ADDSLOTSRANGE", "0", "8191")
    nodes[1].cli("CLUSTER", "ADDSLOTSRANGE", "8192", "16383")
    nodes[0].cli("CLUSTER", "MEET", "127.0.0.1", str(nodes[1].port))
    wait_until(lambda: all("cluster_state:ok" in node.cli("CLUSTER", "INFO") for node in nodes))

    async def scene() -> None:
        for fleet in ("one", "two", "three", "four"):  # of which both nodes have some
            async with (
                machines(f"redis://127.0.0.1:{nodes[0].port}", fleet, "a", "b") as found,
                machines(f"redis://127.0.0.1:{nodes[1].port}", fleet, "c") as (c,),
            ):
                await connected([*found, c])
                await deliver_all([*found, c])
                assert len(sent([*found, c])) == 1

    asyncio.run(scene())
    assert all(int(node.cli("DBSIZE")) > 0 for node in nodes)


def test_a_restarted_machine_says_nothing_again(redis: RedisServer, fleet: str) -> None:
    """A master that starts again with an open incident reports it, and does not send it again, even after a flush."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "a") as (a,):
            await a.deliver(incident())
        local = Local(
            opened={name: structs.replace(each, notified={"mail": each.fired}) for name, each in a.local.opened.items()}
        )
        flush(redis, fleet)
        async with machines(redis.url, fleet, "a", local=local) as (again,), machines(redis.url, fleet, "b") as (b,):
            await connected([again, b])
            assert isinstance(await b.deliver(incident()), Left)
            assert isinstance(await again.deliver(incident("resolved")), Left)
            assert isinstance(await b.deliver(incident("resolved")), Claim)

    asyncio.run(scene())


# Redis cannot be used


def test_a_hung_redis_is_given_up_after_two_seconds(new_redis: Callable[..., RedisServer], new_fleet: str) -> None:
    """While Redis hangs, each machine sends alone and says so: the first message within 2 s, all others at once."""

    async def scene() -> None:
        server = new_redis()
        async with machines(server.url, new_fleet, "a", "b") as found:
            await connected(found)
            server.send(signal.SIGSTOP)
            began, fired = time.monotonic(), time.time()
            await deliver_all(found, lambda: incident(began=fired))
            assert time.monotonic() - began < 10.0
            assert statuses(found) == ["firing", "firing"]
            assert all(each.machines is not None and each.machines.is_unreachable for each in sent(found))
            assert len({each.id for each in sent(found)}) == 1
            began = time.monotonic()
            claim = await found[0].deliver(event())
            assert time.monotonic() - began < 2.0
            assert isinstance(claim, Claim)
            assert (claim.key, claim.token) == ("", 0)
            overview = await found[0].member.overview()
            assert (overview.state, overview.error) == ("away", "no answer from Redis within 2 s")
            server.send(signal.SIGCONT)
            await connected(found)
            assert isinstance(await found[1].deliver(event()), Left)
            await deliver_all(found, lambda: incident("resolved"))
            assert statuses(found).count("resolved") == 1

    asyncio.run(scene())


def test_a_deferred_message_waits_for_the_return_of_redis(
    new_redis: Callable[..., RedisServer], new_fleet: str
) -> None:
    """What another machine was about to send is not sent by all others when Redis goes away for a while."""

    async def scene() -> None:
        server = new_redis()
        async with machines(server.url, new_fleet, *named(3)) as found:
            claim = await found[0].claim(incident())
            assert isinstance(claim, Claim)
            others = asyncio.create_task(deliver_all(found[1:]))
            await until(lambda: all(machine.deferred for machine in found[1:]))
            server.stop()
            await away(found)
            assert await found[0].member.sharing.renew(claim)
            found[0].sent.append(claim.firing)
            found[0].member.sharing.settle(claim, is_sent=True)
            server.start()
            await others
            assert statuses(found) == ["firing"]

    asyncio.run(scene())


@pytest.mark.parametrize("is_owned", [True, False])
def test_a_short_restart_leads_to_no_second_message(
    new_redis: Callable[..., RedisServer], new_fleet: str, *, is_owned: bool
) -> None:
    """Where Redis is back within two seconds, what all have to say is sent once, whether one was about to send it."""

    async def scene() -> None:
        server = new_redis()
        periods = structs.replace(QUICK, tolerance=10.0)
        async with machines(server.url, new_fleet, *named(3), group_wait=0.5, periods=periods) as found:
            await connected(found)
            early = [asyncio.create_task(found[0].deliver(incident()))] if is_owned else []
            if is_owned:
                await until(lambda: found[0].member.sharing.counters["offers"] > 0)
            server.stop()
            await away(found)
            late = asyncio.create_task(deliver_all(found[is_owned:]))
            server.start()
            await asyncio.gather(late, *early)
            assert statuses(found) == ["firing"]

    asyncio.run(scene())


def test_a_new_member_of_an_incident_waits_for_the_return_of_redis(
    new_redis: Callable[..., RedisServer], new_fleet: str
) -> None:
    """While Redis is away, a machine does not send at once of what it knows that another one has sent it."""

    async def scene() -> None:
        server = new_redis()
        async with machines(server.url, new_fleet, "a", "b") as (a, b):
            await connected([a, b])
            await a.deliver(incident())
            await until(lambda: len(b.member.memory) > 0)
            server.stop()
            await away([a, b])
            other = asyncio.create_task(b.deliver(incident()))
            await until(lambda: b.deferred)
            server.start()
            assert isinstance(await other, Left)

    asyncio.run(scene())


def test_a_deferred_message_is_sent_at_last(new_redis: Callable[..., RedisServer], new_fleet: str) -> None:
    """Where Redis does not come back in time, the deferred message is sent with the id that all have in common."""

    async def scene() -> None:
        server = new_redis()
        periods = structs.replace(QUICK, patience=1.0)
        async with machines(server.url, new_fleet, "a", "b", periods=periods) as (a, b):
            claim = await a.claim(incident())
            assert isinstance(claim, Claim)
            other = asyncio.create_task(b.deliver(incident()))
            await until(lambda: b.deferred)
            server.stop()
            alone = await other
            assert isinstance(alone, Claim)
            assert alone.token == 0
            assert alone.firing.id == claim.firing.id

    asyncio.run(scene())


def test_machines_that_were_parted_agree_afterwards(new_redis: Callable[..., RedisServer], new_fleet: str) -> None:
    """Both sides of a partition notify, with one id and one thread; after it, the end is sent once."""

    async def scene() -> None:
        server = new_redis()
        proxy = TcpProxy(server.port)
        url = f"redis://127.0.0.1:{proxy.port}"
        async with (
            proxy.running(),
            machines(server.url, new_fleet, "a", "b") as here,
            machines(url, new_fleet, "c") as (there,),
        ):
            await connected([*here, there])
            proxy.cut()
            await away([there])
            began = time.time()
            await asyncio.gather(deliver_all(here, lambda: incident(began=began)), there.deliver(incident(began=began)))
            assert len({each.id for each in sent([*here, there])}) == 1
            assert len({each.trigger.incident.thread for each in sent([*here, there])}) == 1  # type: ignore[union-attr]
            proxy.heal()
            await connected([there])
            for machine in (*here, there):
                await machine.deliver(incident("resolved"))
            assert statuses([*here, there]).count("resolved") == 1

    asyncio.run(scene())


def test_a_slow_network_changes_nothing(new_redis: Callable[..., RedisServer], new_fleet: str) -> None:
    """Answers that take a third of a second are waited for: one message, and no machine goes off alone."""

    async def scene() -> None:
        server = new_redis()
        proxy = TcpProxy(server.port)
        proxy.delay = 0.15
        async with proxy.running(), machines(f"redis://127.0.0.1:{proxy.port}", new_fleet, *named(3)) as found:
            await connected(found)
            await deliver_all(found)
            assert len(sent(found)) == 1
            assert found[0].member.link.lag > 0.3
            assert not any(machine.member.sharing.counters["fail_opens"] for machine in found)

    asyncio.run(scene())


def test_a_message_of_a_machine_alone_is_counted_afterwards(
    new_redis: Callable[..., RedisServer], new_fleet: str
) -> None:
    """What was sent while Redis was away is used up of the budget when it is back."""

    async def scene() -> None:
        server = new_redis()
        alarms = {"mail": SharedAlarm(rate=(1, 3600.0))}
        async with machines(server.url, new_fleet, "a", "b", alarms=alarms) as (a, b):
            await connected([a, b])
            server.stop()
            await away([a, b])
            await a.deliver(incident())
            server.start()
            await connected([a, b])
            left = await b.deliver(incident(name="def"))
            assert isinstance(left, Left)
            assert left.reason is Reason.RATE

    asyncio.run(scene())


def test_all_messages_before_a_restart_count_for_the_rate(
    new_redis: Callable[..., RedisServer], new_fleet: str
) -> None:
    """A Redis that lost everything learns all messages of the window, several of one incident and of others as well."""

    async def scene() -> None:
        server = new_redis()
        alarms = {"mail": SharedAlarm(rate=(20, 3600.0))}
        async with machines(server.url, new_fleet, "a", "b", alarms=alarms, alarm_rate=(50, 3600.0)) as (a, b):
            await connected([a, b])
            for episode in (1, 2):
                await a.deliver(incident(episode=episode))
                await a.deliver(incident("resolved", episode=episode))
            server.stop()
            await away([a, b])
            for name in "xyz":
                await b.deliver(incident(name=name))
            server.start()
            await connected([a, b])
            rate = f"{{alarm_mw:{new_fleet}}}:rate:mail"
            await until(lambda: server.cli("ZCARD", rate).strip() == "7")
            assert [budget.used for budget in (await b.member.overview()).budgets] == [7, 7]

    asyncio.run(scene())


def test_a_machine_alone_asks_when_the_fleet_is_back(new_redis: Callable[..., RedisServer], new_fleet: str) -> None:
    """A message that a machine could not send while Redis was away is claimed as all others when it is back."""

    async def scene() -> None:
        server = new_redis()
        async with machines(server.url, new_fleet, "a", "b") as (a, b):
            await connected([a, b])
            server.stop()
            await away([a, b])
            alone = await a.claim(incident())
            assert isinstance(alone, Claim)
            assert await a.member.sharing.renew(alone)
            server.start()
            await connected([a, b])
            await b.deliver(incident())
            assert not await a.member.sharing.renew(alone)
            assert isinstance(await a.claim(incident()), Left)

    asyncio.run(scene())


def test_reminders_are_left_to_the_machine_that_has_told(new_redis: Callable[..., RedisServer], new_fleet: str) -> None:
    """While Redis is away, only the machine that sent the first message reminds, and only it says that it is over."""

    async def scene() -> None:
        server = new_redis()
        alarms = {"mail": SharedAlarm(repeat_interval=0.1)}
        async with machines(server.url, new_fleet, "a", "b", alarms=alarms) as (a, b):
            await a.deliver(incident())
            await b.deliver(incident())
            server.stop()
            await away([a, b])
            left = await b.deliver(incident("reminder"))
            assert isinstance(left, Left)
            assert left.text == "fleet unreachable, left to a"
            assert isinstance(await a.deliver(incident("reminder")), Claim)
            assert isinstance(await a.deliver(incident("resolved")), Claim)
            waiting = asyncio.create_task(b.deliver(incident("resolved")))
            await until(lambda: b.deferred)
            server.start()
            assert isinstance(await waiting, Left)

    asyncio.run(scene())


@pytest.mark.parametrize(
    "refusal",
    [
        (("--maxmemory", "1mb", "--maxmemory-policy", "noeviction"), "unix://{}", "its memory is full"),
        (("--requirepass", "right"), "unix://:wrong@{}", "wrong user or password"),
        (("--requirepass", "right"), "unix://{}", "wrong user or password"),
        (("--user", "poor", "on", ">pw", "~*", "+ping"), "unix://poor:pw@{}", "the user lacks a permission"),
        (("--replicaof", "127.0.0.1", "1"), "unix://{}", "it is a read-only replica"),
    ],
)
@pytest.mark.parametrize("program", ENGINES.values(), ids=ENGINES.keys())
def test_a_redis_that_refuses_counts_as_away(
    program: str,
    new_redis: Callable[..., RedisServer],
    new_fleet: str,
    refusal: tuple[tuple[str, ...], str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A full Redis, a wrong password, a missing permission, a replica: alarms are sent, and the cause is named once."""
    options, url, error = refusal
    server = new_redis(*options, program=program)

    async def scene() -> None:
        async with machines(url.format(server.socket), new_fleet, "a") as (a,):
            claim = await a.deliver(incident())
            assert isinstance(claim, Claim)
            assert claim.token == 0
            assert error in (await a.member.overview()).error

    asyncio.run(scene())
    assert caplog.text.count(error) == 1


def test_a_step_of_a_machine_s_clock_changes_nothing(redis: RedisServer, fleet: str) -> None:
    """A machine whose clock is hours off shares as all others do, and shows times by its own clock."""

    async def scene() -> None:
        offset = 0.0

        def wall() -> float:
            return time.time() + offset

        async with (
            machines(redis.url, fleet, "a", clocks={"wall": wall}) as (a,),
            machines(redis.url, fleet, "b") as (b,),
        ):
            await a.deliver(incident())
            stepped, offset = a.member.link.clock.now(), -7200.0
            await until(lambda: float(redis.cli("ZSCORE", f"{{alarm_mw:{fleet}}}:hb", "a")) > stepped)
            assert isinstance(await b.deliver(incident()), Left)
            assert isinstance(await a.deliver(incident("resolved")), Left)
            assert isinstance(await b.deliver(incident("resolved")), Claim)
            offset = 7200.0
            await a.deliver(incident(name="def"))
            await until(lambda: b.member.memory.get("def", "mail"))
            (shown,) = (await a.member.overview()).incidents
            assert shown.alarms["mail"].told_at == pytest.approx(wall(), abs=30.0)

    asyncio.run(scene())
