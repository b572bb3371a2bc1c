"""Members that share a Redis, while nothing fails."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest
from fleet_members import Machine, deliver_all, event, incident, machines, named, sent
from msgspec import structs
from redis_server import ENGINES, RedisServer
from waiting import LIMIT, until

from alarm_mw.model.fleet import Claim, Left, SharedAlarm, SharedOrder
from alarm_mw.model.types import Firing, IncidentNotice, Reason

pytestmark = pytest.mark.parametrize("redis", ENGINES.values(), ids=ENGINES.keys(), indirect=True)


def notice_of(firing: Firing) -> IncidentNotice:
    assert firing.trigger is not None
    assert firing.trigger.incident is not None
    return firing.trigger.incident


def reasons(found: list[Machine]) -> Counter[str]:
    return Counter(str(left.reason) for machine in found for left in machine.left)


def test_one_machine_notifies_for_all(redis: RedisServer, fleet: str) -> None:
    """An incident on ten machines at once is one message, which names them and adds their matches up."""

    async def scene() -> None:
        async with machines(redis.url, fleet, *named(10), group_wait=0.3) as found:
            await deliver_all(found, lambda: incident(count=3))
            (firing,) = sent(found)
            assert firing.machines is not None
            assert firing.machines.count == 10
            assert set(firing.machines.names) == set(named(10))
            assert notice_of(firing).count == 30
            owner = next(machine.name for machine in found if machine.sent)
            assert {left.text.partition(" s ago")[0][: len(f"sent by {owner}")] for m in found for left in m.left} == {
                f"sent by {owner}"
            }
            assert reasons(found) == {"fleet": 9}

    asyncio.run(scene())


def test_machines_that_begin_later_are_left_out(redis: RedisServer, fleet: str) -> None:
    """A machine whose incident begins after the message sends none: it is the same incident."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "a", "b") as (a, b):
            assert isinstance(await a.deliver(incident()), Claim)
            await until(lambda: b.member.memory.get("abc", "mail"))
            left = await b.deliver(incident())
            assert isinstance(left, Left)
            assert left.reason is Reason.FLEET
            assert b.deferred == 0

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
            assert notice_of(end).thread == notice_of(begin).thread
            assert notice_of(end).status == "resolved"
            assert end.id != begin.id

    asyncio.run(scene())


def test_another_episode_is_another_message(redis: RedisServer, fleet: str) -> None:
    """What begins again after its end is told again, with ids of its own."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "a", "b") as found:
            for episode in (1, 2, 3):
                await deliver_all(found, lambda episode=episode: incident(episode=episode))  # type: ignore[misc]
                await deliver_all(found, lambda episode=episode: incident("resolved", episode=episode))  # type: ignore[misc]
            statuses = Counter(notice_of(firing).status for firing in sent(found))
            assert statuses == {"firing": 3, "resolved": 3}
            assert len({firing.id for firing in sent(found)}) == 6

    asyncio.run(scene())


def test_an_end_that_no_message_announces_is_noticed(redis: RedisServer, fleet: str) -> None:
    """An alarm that wants no ends is told of the next episode: the member notices that the former one is over."""

    async def scene() -> None:
        alarms = {"mail": SharedAlarm(send_resolved=False)}
        async with machines(redis.url, fleet, "a", "b", alarms=alarms) as found:
            a, b = found
            await a.deliver(incident())
            await a.deliver(incident(episode=2))
            assert len(a.sent) == 2
            a.local.opened.clear()
            await until(lambda: redis.cli("ZCARD", f"{{alarm_mw:{fleet}}}:open") == "0\n")
            await b.deliver(incident())
            assert len(b.sent) == 1

    asyncio.run(scene())


def test_the_end_of_what_nobody_was_told_is_not_told(redis: RedisServer, fleet: str) -> None:
    """Nobody is told that it is over who was not told that it began."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "a", "b") as (a, _):
            left = await a.deliver(incident("resolved"))
            assert isinstance(left, Left)
            assert left.text == "no machine has sent that it began"

    asyncio.run(scene())


def test_an_alarm_that_only_others_had_told_is_told_of_the_end(redis: RedisServer, fleet: str) -> None:
    """Only the machine that ends first has escalated to a second alarm; the last machine tells both of the end."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "a", "b") as (a, b):
            await a.deliver(incident())
            await b.deliver(incident())
            await a.deliver(incident("escalated", alarm="sms"))
            for alarm in ("mail", "sms"):
                await a.deliver(incident("resolved", alarm=alarm))
            assert len(a.sent) == 2
            await b.deliver(incident("resolved"))
            (owed,) = b.local.sent
            assert owed.alarm == "sms"
            await b.deliver(owed)
            assert [(notice_of(each).status, each.alarm) for each in b.sent] == [
                ("resolved", "mail"),
                ("resolved", "sms"),
            ]

    asyncio.run(scene())


def test_events_with_one_fingerprint_are_one_message(redis: RedisServer, fleet: str) -> None:
    """The same line on five machines is one message; the next one, after `repeat_after`, counts the others."""

    async def scene() -> None:
        alarms = {"mail": SharedAlarm(repeat_after=1.5)}
        async with machines(redis.url, fleet, *named(5), alarms=alarms) as found:
            await deliver_all(found, event)
            (first,) = sent(found)
            assert first.count == 5
            await deliver_all(found, event)
            assert sent(found) == [first]
            times = await found[0].deliver_again_and_again(event)
            later = found[0].sent[-1]
            assert later.count == 5 + times
            assert later.machines is not None
            assert later.machines.count == 5
            await found[1].deliver(event(b"ANOTHER ALARM\n"))
            assert len(sent(found)) == 3

    asyncio.run(scene())


def test_a_growing_incident_is_told_again_at_ten_machines(redis: RedisServer, fleet: str) -> None:
    """When the tenth machine reports an incident, it says so in one more message."""

    async def scene() -> None:
        async with machines(redis.url, fleet, *named(12)) as found:
            for machine in found:
                await machine.deliver(incident())
            first, update = sent(found)
            assert found[9].sent == [update]
            assert notice_of(update).status == "reminder"
            assert notice_of(update).thread == notice_of(first).thread
            assert update.machines is not None
            assert update.machines.count == 10

    asyncio.run(scene())


def test_a_reminder_is_sent_by_one_machine(redis: RedisServer, fleet: str) -> None:
    """Of the reminders that all machines make, one is sent each `repeat_interval`."""

    async def scene() -> None:
        alarms = {"mail": SharedAlarm(repeat_interval=1.5)}
        async with machines(redis.url, fleet, *named(4), alarms=alarms) as found:
            await deliver_all(found)
            await deliver_all(found, lambda: incident("reminder"))
            assert len(sent(found)) == 1
            async with asyncio.timeout(LIMIT):
                while len(sent(found)) == 1:
                    await deliver_all(found, lambda: incident("reminder"))
            assert [notice_of(firing).status for firing in sent(found)].count("reminder") == 1

    asyncio.run(scene())


def test_an_escalation_is_repeated_by_one_machine(redis: RedisServer, fleet: str) -> None:
    """Each repetition of an escalation is sent once, and the first one of a machine that came later is none."""

    async def scene() -> None:
        began = time.time()

        def escalated(number: int) -> Firing:
            return structs.replace(incident("escalated"), time=began + 0.1 * number)  # every 0.1 s, as they think

        async with machines(redis.url, fleet, "a", "b", group_wait=0.0) as found:
            clock = found[0].member.link.clock
            for number in range(4):
                await deliver_all(found, lambda number=number: escalated(number))  # type: ignore[misc]
                told = clock.now()
                await until(lambda told=told: clock.now() > told + 100)  # type: ignore[misc]
            assert len(sent(found)) == 4

    asyncio.run(scene())


def test_an_acknowledgement_stops_the_messages_of_all(redis: RedisServer, fleet: str) -> None:
    """What is acknowledged on one machine is an order to all, and later messages are left as acknowledged."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "a", "b", "c") as (a, b, c):
            await a.deliver(incident())
            now = a.member.link.clock.wall(a.member.link.clock.now())
            a.member.share_order(SharedOrder("acknowledged", "abc", "kim", "on it", now, now + 60.0))
            await until(lambda: b.local.ordered and c.local.ordered)
            (order,) = b.local.ordered
            assert (order.kind, order.incident, order.by, order.comment) == ("acknowledged", "abc", "kim", "on it")
            assert order.until == pytest.approx(now + 60.0, abs=0.5)
            assert a.local.ordered == []
            left = await b.deliver(incident("escalated", alarm="sms"))
            assert isinstance(left, Left)
            assert (left.reason, left.text) == (Reason.ACKNOWLEDGED, "acknowledged by kim")
            a.member.share_order(SharedOrder("unacknowledged", "abc", "kim", "", now + 1))
            await until(lambda: c.local.ordered[-1].kind == "unacknowledged")
            assert isinstance(await b.deliver(incident("escalated", alarm="sms")), Claim)

    asyncio.run(scene())


def test_an_acknowledgement_is_told_once(redis: RedisServer, fleet: str) -> None:
    """Services that keep an alert of their own hear of each acknowledgement from one machine."""

    async def scene() -> None:
        async with machines(redis.url, fleet, *named(4)) as found:
            await deliver_all(found)
            for number in (1, 2):
                now = found[0].member.link.clock.wall(found[0].member.link.clock.now())
                found[0].member.share_order(SharedOrder("acknowledged", "abc", "kim", "", now, now + 60.0))
                await until(lambda number=number: all(len(m.local.ordered) == number for m in found[1:]))  # type: ignore[misc]
                await deliver_all(found, lambda: incident("acknowledged"))
            assert Counter(notice_of(firing).status for firing in sent(found)) == {"firing": 1, "acknowledged": 2}

    asyncio.run(scene())


def test_a_rate_holds_for_the_whole_fleet(redis: RedisServer, fleet: str) -> None:
    """A hundred machines with `rate = "20/1h"` send 20 messages, and the others are counted as held back."""

    async def scene() -> None:
        alarms = {"mail": SharedAlarm(rate=(20, 3600.0))}
        async with machines(redis.url, fleet, *named(100), alarms=alarms, group_wait=0.0) as found:
            await asyncio.gather(
                *(
                    machine.deliver(event(f"{'abcdefghij'[i % 10]}{'klmnopqrst'[i // 10]} broken\n".encode()))
                    for i, machine in enumerate(found)
                )
            )
            assert len(sent(found)) == 20
            assert reasons(found) == {"rate": 80}
            overview = await found[0].member.overview()
            (budget,) = overview.budgets
            assert (budget.alarm, budget.used, budget.limit, budget.seconds) == ("mail", 20, 20, 3600.0)

    asyncio.run(scene())


def test_all_alarms_for_humans_have_one_budget(redis: RedisServer, fleet: str) -> None:
    """`alarm_rate` counts the messages of all alarms for humans on all machines; an end passes, and counts."""

    async def scene() -> None:
        alarms = {"mail": SharedAlarm(), "sms": SharedAlarm(), "log": SharedAlarm(for_humans=False)}
        async with machines(redis.url, fleet, "a", "b", alarms=alarms, alarm_rate=(2, 3600.0)) as (a, b):
            await a.deliver(incident())
            await b.deliver(incident(alarm="sms", name="def"))
            left = await b.deliver(incident(name="ghi"))
            assert isinstance(left, Left)
            assert left.reason is Reason.ALARM_RATE
            assert isinstance(await b.deliver(incident(name="ghi", alarm="log")), Claim)
            assert isinstance(await a.deliver(incident("resolved")), Claim)

    asyncio.run(scene())


def test_what_was_held_back_is_counted_in_the_next_message(redis: RedisServer, fleet: str) -> None:
    """The first message after a rate allows one again says how many were held back, on all machines."""

    async def scene() -> None:
        alarms = {"mail": SharedAlarm(rate=(1, 1.5), repeat_after=0.1)}
        async with machines(redis.url, fleet, *named(4), alarms=alarms) as found:
            await found[0].deliver(event())
            async with asyncio.timeout(LIMIT):
                while not reasons(found)["rate"]:  # but left to the one that has just been sent
                    await found[1].deliver(event())
            for machine in found[2:]:
                assert isinstance(await machine.deliver(event()), Left)
            await found[0].deliver_again_and_again(event)
            assert found[0].sent[-1].held_back == reasons(found)["rate"] >= 3

    asyncio.run(scene())


def test_a_message_that_is_given_up_is_sent_by_another_machine(redis: RedisServer, fleet: str) -> None:
    """A machine whose receiver fails leaves the message to the others, under the same id."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "a", "b") as (a, b):
            claim = await a.claim(incident())
            assert isinstance(claim, Claim)
            other = asyncio.create_task(b.deliver(incident()))
            await until(lambda: b.deferred)
            a.member.sharing.settle(claim, is_sent=False)
            again = asyncio.create_task(a.claim(incident()))
            await other
            assert [firing.id for firing in b.sent] == [claim.firing.id]
            left = await again
            assert isinstance(left, Left)
            assert left.text.startswith("sent by b")

    asyncio.run(scene())


def test_a_message_that_nobody_else_has_is_tried_again(redis: RedisServer, fleet: str) -> None:
    """A machine that has given a message up may send it after all, where no other machine does."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "a", "b") as (a, _):
            claim = await a.claim(incident())
            assert isinstance(claim, Claim)
            a.member.sharing.settle(claim, is_sent=False)
            again = await a.deliver(incident())
            assert isinstance(again, Claim)
            assert again.firing.id == claim.firing.id
            assert again.token > claim.token

    asyncio.run(scene())


def test_a_claim_that_is_canceled_is_given_up(redis: RedisServer, fleet: str) -> None:
    """A message that is dropped while it waits for other machines does not keep them from sending it."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "a", "b", group_wait=30.0) as (a, b):
            first = asyncio.create_task(a.claim(incident()))
            key = f"{{alarm_mw:{fleet}}}:i:abc"
            await until(lambda: '"o":"a"' in redis.cli("HGET", key, "a:mail"))
            second = asyncio.create_task(b.deliver(incident()))
            await until(lambda: b.deferred)
            first.cancel()
            b.member.sharing.hurry()
            assert isinstance(await second, Claim)

    asyncio.run(scene())


def test_a_program_that_ends_does_not_wait_for_others(redis: RedisServer, fleet: str) -> None:
    """Once the program is about to end, its messages are sent without waiting for other machines."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "a", group_wait=60.0) as (a,):
            task = asyncio.create_task(a.deliver(incident()))
            await until(lambda: a.member.sharing.counters["offers"])
            a.member.sharing.hurry()
            assert isinstance(await task, Claim)

    asyncio.run(scene())


def test_rules_and_alarms_may_be_local(redis: RedisServer, fleet: str) -> None:
    """Messages of local rules, and to alarms that are not shared, do not concern the fleet."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "a", local_rules=frozenset({"db", "ALARM"})) as (a,):
            assert not a.member.sharing.shares(incident())
            assert not a.member.sharing.shares(event())
        async with machines(redis.url, fleet, "a") as (a,):
            assert a.member.sharing.shares(incident())
            assert not a.member.sharing.shares(incident(alarm="pager"))

    asyncio.run(scene())


def test_a_changed_plan_holds_at_once(redis: RedisServer, fleet: str) -> None:
    """After a reload, the member shares by the new configuration, without leaving."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "a") as (a,):
            from fleet_members import plan  # noqa: PLC0415

            a.member.change(plan(redis.url, fleet, "a", alarms={"pager": SharedAlarm()}, rules_hash="2"))
            assert a.member.sharing.shares(incident(alarm="pager"))
            assert not a.member.sharing.shares(incident())

    asyncio.run(scene())


def test_machines_are_named_in_the_order_in_which_people_count(redis: RedisServer, fleet: str) -> None:
    """Messages and the overview have web-2 before web-10, whichever was first."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "web-10", "web-2", "web-1", "web", "db-7") as found:
            await deliver_all(found)
            (firing,) = sent(found)
            ordered = ("db-7", "web", "web-1", "web-2", "web-10")
            assert firing.machines is not None
            assert firing.machines.names == ordered
            overview = await found[0].member.overview()
            assert tuple(member.machine for member in overview.members) == ordered
            assert next(each for each in overview.incidents if each.id == "abc").machines == ordered

    asyncio.run(scene())


def test_matches_are_counted_while_an_incident_is_firing(redis: RedisServer, fleet: str) -> None:
    """The overview has what all machines have counted, although no message has said so since."""

    async def scene() -> None:
        async with machines(redis.url, fleet, "a", "b") as found:
            await deliver_all(found, lambda: incident(count=3))
            for number, machine in enumerate(found):
                opened = machine.local.opened
                opened["abc"] = structs.replace(opened["abc"], count=4 + number)
            key = f"{{alarm_mw:{fleet}}}:c:abc"
            await until(
                lambda: all(redis.cli("HGET", key, name).startswith(n) for name, n in (("a", "4:"), ("b", "5:")))
            )
            assert (await found[0].member.overview()).incidents[0].count == 9

    asyncio.run(scene())


def test_every_machine_knows_what_is_over(redis: RedisServer, fleet: str) -> None:
    """An incident is remembered after its end, with its time line, on machines that never had it as well."""

    async def scene() -> None:
        began = time.time()
        async with machines(redis.url, fleet, "a", "b", page="https://alarms.example.org") as (a, b):
            await a.deliver(incident())
            await b.deliver(incident(name="def"))
            await until(lambda: all(a.member.memory.get(name, "mail") for name in ("abc", "def")))
            (still,) = [each for each in (await a.member.history(0.0)).incidents if each.id == "def"]
            assert (still.ended, still.machines, still.alarms["mail"].first_by) == (None, ("b",), "b")
            await a.deliver(incident("resolved", count=4))
            over = [each for each in (await b.member.history(began - 60.0)).incidents if each.id == "abc"]
            (past,) = over
            assert (past.rule, past.key, past.labels) == ("db", {"db": "eu"}, {"severity": "critical"})
            assert (past.text, past.machines, past.machine_count, past.count) == ("lost db eu", ("a",), 1, 4)
            assert past.ended is not None
            assert began - 1.0 < past.started <= past.ended < time.time() + 1.0
            told = past.alarms["mail"]
            assert (told.first_by, told.over_by, told.messages) == ("a", "", 1)
            record = await b.member.incident("abc")
            assert record is not None
            assert [each.episode for each in record.episodes] == [past.episode]
            found = await a.member.incident("def")
            assert found is not None
            assert (found.episodes[0].machines, found.pages) == (("b",), {"b": "https://alarms.example.org"})
            assert await b.member.incident("unknown") is not None
            assert [each.id for each in (await b.member.history(time.time() + 60.0)).incidents] == ["def"]

    asyncio.run(scene())


def test_a_long_history_is_read_in_parts(redis: RedisServer, fleet: str) -> None:
    """More episodes than one call returns are all there, each once, the latest end first."""
    prefix, numbers, now = f"{{alarm_mw:{fleet}}}:", range(1200), int(time.time() * 1000)
    facts = {str(n): f'{{"ep":{n},"began":{n},"ended":{n + 1}}}' for n in numbers} | {
        "700": '{"ep":"of a later version"}'
    }
    redis.cli("HSET", f"{prefix}e:abc", *(word for pair in facts.items() for word in pair))
    redis.cli("ZADD", f"{prefix}past", *(word for n in numbers for word in (str(now - n // 3), f"abc~{n}")))

    async def scene() -> None:
        async with machines(redis.url, fleet, "a") as (a,):
            await until(lambda: a.member.link.state == "connected")
            found = (await a.member.history(0.0)).incidents
            assert sorted(each.episode for each in found) == [n for n in range(1200) if n != 700]

    asyncio.run(scene())


def test_without_the_fleet_its_history_is_not_known(redis: RedisServer, fleet: str) -> None:
    """A machine that cannot ask says why."""

    async def scene() -> None:
        async with machines("unix:///nowhere/redis.sock", fleet, "a") as (a,):
            assert (await a.member.history(0.0)).error == "this machine is not connected yet"
            await until(lambda: a.member.link.state == "away")
            assert "nowhere" in (await a.member.history(0.0)).error
            assert await a.member.incident("abc") is None

    asyncio.run(scene())
