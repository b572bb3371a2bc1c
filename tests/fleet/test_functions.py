"""The functions on Redis, against a model of them in Python, and their promises one by one."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
import redis as redis_py
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from redis_server import ENGINES, RedisServer

from alarm_mw.fleet.redis_store import library

pytestmark = pytest.mark.parametrize("redis", ENGINES.values(), ids=ENGINES.keys(), indirect=True)

MACHINES = st.sampled_from(["a", "b", "c"])
ALARMS = st.sampled_from(["mail", "sms"])

_numbers = itertools.count(1)


class Functions:
    """Calls the functions, and decodes what they answer."""

    def __init__(self, server: RedisServer, fleet: str) -> None:
        self.client: Any = redis_py.Redis(unix_socket_path=str(server.socket))
        self.prefix = f"{{alarm_mw:{fleet}}}:"
        self.client.function_load(library().code, replace=True)
        self.client.hset(f"{self.prefix}gen", mapping={"id": 1, "grace": 0, "run": ""})

    def call(self, function: str, **body: Any) -> dict[str, Any]:
        text = msgspec.json.encode(body)
        answer = self.client.execute_command("FCALL", f"{library().name}_{function}", 1, f"{self.prefix}gen", text)
        found: dict[str, Any] = msgspec.json.decode(answer)
        return found

    def beat(self, machine: str, **more: Any) -> dict[str, Any]:
        return self.call("beat", **{"machine": machine, "instance": machine, **more})

    def offer(
        self, machine: str, name: str, *, alarm: str = "mail", kind: str = "begin", **more: Any
    ) -> dict[str, Any]:
        body = {"key": "abc", "name": alarm, "is_member": kind != "resolved", "release_pause": 0}
        function = "resolve" if kind == "resolved" else "offer"
        return self.call(function, **{**body, "machine": machine, "alarm": alarm, "id": name, "kind": kind, **more})

    def settle(self, machine: str, answer: dict[str, Any], *, alarm: str = "mail", call: str = "settle") -> str:
        body = {"key": "abc", "alarm": alarm, "token": answer["token"], "id": answer["id"]}
        return str(self.call(call, machine=machine, **body)["kind"])

    def past(self, key: str = "abc") -> list[dict[str, Any]]:
        """Return the episodes of an incident that are over, the first one first."""
        found = [msgspec.json.decode(each) for each in self.client.hvals(f"{self.prefix}e:{key}")]
        return sorted(found, key=lambda each: int(each["ep"]))

    def close(self) -> None:
        self.client.close()


@pytest.fixture
def functions(redis: RedisServer, fleet: str) -> Any:
    found = Functions(redis, fleet)
    for machine in "abc":
        found.beat(machine)
    yield found
    found.close()


# The model


@dataclass
class Alarm:
    belief: str = ""
    told_ep: int = 0
    owner: str = ""
    firing: str = ""
    kind: str = ""
    claim_ep: int = 0
    pending: str = ""
    is_tried: bool = False


@dataclass
class Model:
    ep: int = 0
    is_open: bool = False
    members: set[str] = field(default_factory=set)
    alive: set[str] = field(default_factory=lambda: set("abc"))
    alarms: dict[str, Alarm] = field(default_factory=lambda: {"mail": Alarm(), "sms": Alarm()})

    def claimed(self, alarm: Alarm, machine: str, name: str) -> str:
        """Return the answer while a living machine owns a message; empty where none does."""
        if not alarm.owner or alarm.owner not in self.alive:
            return ""
        return "own" if (alarm.owner, alarm.firing) == (machine, name) else "deferred"

    def begin(self, machine: str, name: str, alarm: Alarm) -> str:
        if not self.is_open:
            self.ep, self.is_open, self.members = self.ep + 1, True, set()
        self.members.add(machine)
        if answer := self.claimed(alarm, machine, name):
            return answer
        if alarm.belief == "open" and alarm.told_ep == self.ep:
            return "left"
        return self.grant(machine, name, alarm, "begin")

    def resolve(self, machine: str, name: str, alarm: Alarm) -> str:
        self.members.discard(machine)
        if self.members:
            return "left"
        self.is_open = False
        if answer := self.claimed(alarm, machine, name):
            return answer
        may_be_told = bool(alarm.owner) and alarm.is_tried and alarm.kind == "begin"
        return self.grant(machine, name, alarm, "resolved") if alarm.belief == "open" or may_be_told else "left"

    def grant(self, machine: str, name: str, alarm: Alarm, kind: str) -> str:
        if (alarm.claim_ep, alarm.kind) != (self.ep, kind):
            alarm.pending = ""
        alarm.owner, alarm.firing, alarm.kind, alarm.claim_ep = machine, name, kind, self.ep
        alarm.is_tried = False
        return "own"

    def settle(self, alarm: Alarm) -> None:
        alarm.belief, alarm.told_ep = ("over" if alarm.kind == "resolved" else "open"), alarm.claim_ep
        alarm.owner, alarm.pending, alarm.firing, alarm.is_tried, alarm.kind = "", "", "", False, ""


@dataclass
class Granted:
    machine: str
    alarm: str
    name: str
    kind: str
    answer: dict[str, Any]


class Schedule(RuleBasedStateMachine):
    """Machines begin, end, send, give up, die and come back, in any order."""

    server: RedisServer

    def __init__(self) -> None:
        super().__init__()
        self.functions = Functions(self.server, f"model-{next(_numbers)}")
        for machine in "abc":
            self.functions.beat(machine)
        self.model = Model()
        self.granted: list[Granted] = []
        #: By id: the alarm, the kind of message, the episode.
        self.ids: dict[str, tuple[str, str, int]] = {}
        #: How often an alarm was told something, by its id; what was told late is told twice.
        self.told: dict[str, int] = {}

    def teardown(self) -> None:
        self.functions.close()

    def answered(self, machine: str, alarm: str, name: str, kind: str, expected: str) -> None:
        answer = self.functions.offer(machine, name, alarm=alarm, kind=kind)
        assert answer["kind"] == expected
        if expected == "own":
            state = self.model.alarms[alarm]
            if state.pending:
                assert answer["id"] == state.pending, "a message keeps its id over its owners"
            assert answer["id"] not in self.told, "what was sent is another message"
            about = (alarm, kind, self.model.ep)
            assert self.ids.setdefault(answer["id"], about) == about, "no two messages have one id"
            state.pending = answer["id"]
            self.granted.append(Granted(machine, alarm, name, kind, answer))

    @rule(machine=MACHINES, alarm=ALARMS)
    def begin(self, machine: str, alarm: str) -> None:
        name = f"n{next(_numbers)}"
        self.answered(machine, alarm, name, "begin", self.model.begin(machine, name, self.model.alarms[alarm]))

    @rule(machine=MACHINES, alarm=ALARMS)
    def resolve(self, machine: str, alarm: str) -> None:
        name = f"n{next(_numbers)}"
        self.answered(machine, alarm, name, "resolved", self.model.resolve(machine, name, self.model.alarms[alarm]))

    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """Ask the same once more, as after a lost answer."""
        if not self.granted:
            return
        granted = data.draw(st.sampled_from(self.granted))
        state = self.model.alarms[granted.alarm]
        if (state.owner, state.firing) != (granted.machine, granted.name) or state.owner not in self.model.alive:
            return
        if granted.kind == "resolved" and self.model.members - {granted.machine}:
            return
        function = self.model.resolve if granted.kind == "resolved" else self.model.begin
        assert function(granted.machine, granted.name, state) == "own"
        answer = self.functions.offer(granted.machine, granted.name, alarm=granted.alarm, kind=granted.kind)
        assert (answer["kind"], answer["id"], answer["token"]) == (
            "own",
            granted.answer["id"],
            granted.answer["token"],
        )

    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        """Begin an attempt: only the present owner may."""
        if not self.granted:
            return
        granted = data.draw(st.sampled_from(self.granted))
        state = self.model.alarms[granted.alarm]
        is_owner = (state.owner, state.firing) == (granted.machine, granted.name)
        more = {"token": granted.answer["token"], "given": granted.answer["id"], "claimed": granted.kind}
        answer = self.functions.offer(
            granted.machine, granted.name, alarm=granted.alarm, kind=granted.kind, **{**more, "is_member": False}
        )
        assert answer["kind"] == ("own" if is_owner else "lost")
        if is_owner:
            state.is_tried = True

    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        """Say that a message was sent; what a former owner says counts only for a message that nobody has sent yet."""
        if not self.granted:
            return
        granted = data.draw(st.sampled_from(self.granted))
        state = self.model.alarms[granted.alarm]
        is_pending = state.pending == granted.answer["id"]
        kind = self.functions.settle(granted.machine, granted.answer, alarm=granted.alarm)
        assert kind == ("told" if is_pending else "lost")
        if is_pending:
            self.model.settle(state)
        self.granted.remove(granted)
        self.told[granted.answer["id"]] = self.told.get(granted.answer["id"], 0) + 1

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if not self.granted:
            return
        granted = data.draw(st.sampled_from(self.granted))
        state = self.model.alarms[granted.alarm]
        is_owner = (state.owner, state.firing) == (granted.machine, granted.name)
        kind = self.functions.settle(granted.machine, granted.answer, alarm=granted.alarm, call="release")
        assert kind == ("released" if is_owner else "lost")
        if is_owner:
            state.owner, state.firing = "", ""
        self.granted.remove(granted)

    @rule(machine=MACHINES)
    def die(self, machine: str) -> None:
        self.functions.client.zrem(f"{self.functions.prefix}hb", machine)
        self.model.alive.discard(machine)

    @rule(machine=MACHINES)
    def come_back(self, machine: str) -> None:
        self.functions.beat(machine)
        self.model.alive.add(machine)


def test_any_order_of_events_leads_to_what_the_model_says(redis: RedisServer) -> None:
    """Whatever order machines begin, end, send, give up, die and return in: at most one owner, ids that last."""
    Schedule.server = redis
    run_state_machine_as_test(
        Schedule,
        settings=settings(
            max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


# Promises one by one


def test_a_new_generation_waits_for_what_members_know(redis: RedisServer, new_fleet: str) -> None:
    """Nothing is granted until members have had time to say what was told; what they say then counts at once."""
    functions = Functions(redis, new_fleet)
    functions.client.delete(f"{functions.prefix}gen")
    functions.beat("a", hello=True, grace=60_000)
    waiting = functions.offer("a", "n1")
    assert waiting["kind"] == "wait"
    assert 0 < waiting["wait"] <= 60_000
    told = {"at": waiting["now"] - 1000, "ep": waiting["ep"], "status": "open", "id": "abc-1-1.mail", "by": "b"}
    assert functions.offer("b", "", kind="restore", told=told)["kind"] == "told"
    left = functions.offer("a", "n1")
    assert (left["kind"], left["by"], left["id"]) == ("left", "b", "abc-1-1.mail")
    functions.close()


def test_another_server_is_another_generation(redis: RedisServer, new_fleet: str) -> None:
    """A restart or a failover shows in the server's run id."""
    functions = Functions(redis, new_fleet)
    first = functions.beat("a", hello=True)
    assert functions.beat("b", hello=True)["gen"] == first["gen"]
    functions.client.hset(f"{functions.prefix}gen", "run", "another")
    second = functions.beat("a", hello=True, grace=500)
    assert second["gen"] != first["gen"]
    assert second["grace"] == 500
    functions.close()


def test_a_budget_counts_a_message_once(functions: Functions) -> None:
    """A message that is offered again, taken over, or held back again is counted once."""
    rate = [1, 60_000]
    first = functions.offer("a", "n1", rate=rate)
    assert functions.offer("a", "n1", rate=rate)["kind"] == "own"
    functions.client.zrem(f"{functions.prefix}hb", "a")
    taken = functions.offer("b", "n2", rate=rate)
    assert (taken["kind"], taken["id"]) == ("own", first["id"])
    assert functions.settle("b", taken) == "told"
    for _ in range(3):
        held = functions.offer("b", "n3", key="def", rate=rate)
        assert (held["kind"], held["reason"]) == ("left", "rate")
    functions.client.delete(f"{functions.prefix}rate:mail")
    assert functions.offer("b", "n4", key="def", rate=rate)["held"] == 1


def test_what_a_machine_knew_before_its_restart_counts_only_for_a_lost_state(functions: Functions) -> None:
    """It may still have the message to send: where the state knows better, the guess is ignored."""
    own = functions.offer("a", "n1")
    guess = {"at": own["now"], "ep": own["ep"], "status": "open", "id": "guess", "is_guess": True}
    functions.offer("b", "", kind="restore", told=guess)
    assert functions.offer("c", "n2")["kind"] == "deferred"
    functions.offer("b", "", kind="restore", key="lost", told=guess)
    assert functions.offer("c", "n3", key="lost")["kind"] == "left"


@pytest.mark.parametrize("order", ["mail first", "sms first"])
def test_members_that_were_parted_agree_on_the_episode(functions: Functions, order: str) -> None:
    """After the loss of the state, what two sides told in episodes of their own is about the same one."""
    functions.client.hset(f"{functions.prefix}gen", "grace", str(2**42))
    at = functions.beat("a")["now"]
    told = {
        "mail": {"at": at - 2, "ep": 100, "status": "open", "id": "abc-1-1.mail"},
        "sms": {"at": at - 1, "ep": 101, "status": "open", "id": "abc-2-1.sms"},
    }
    for alarm in ("mail", "sms") if order == "mail first" else ("sms", "mail"):
        functions.offer("a", "", kind="restore", alarm=alarm, told=told[alarm])
    functions.client.hset(f"{functions.prefix}gen", "grace", "0")
    for alarm in ("mail", "sms"):
        assert functions.offer("b", f"n-{alarm}", alarm=alarm)["kind"] == "left"


def test_an_event_has_no_end(functions: Functions) -> None:
    """What was told of an event is said again to a new state, and nobody waits for its end."""
    now = functions.beat("a")["now"]
    told = {"at": now - 100, "ep": 0, "status": "open", "id": "event-1"}
    event: dict[str, Any] = {"is_event": True, "is_member": False, "key": "event", "window": 60_000}
    functions.offer("a", "", kind="restore", told=told, **event)
    assert functions.offer("b", "n1", kind="event", **event)["kind"] == "left"
    sweep = {"machine": "a", "silent_after": 60_000, "gone_after": 60_000, "forget_after": 60_000, "owed_after": -1}
    assert "owed" not in functions.call("sweep", **sweep)


def test_a_heartbeat_does_not_undo_a_goodbye(functions: Functions) -> None:
    """A heartbeat that comes after the goodbye of its master changes nothing; that of the next master does."""
    functions.beat("b")
    functions.beat("b", leaving=True)
    functions.beat("b")
    assert functions.client.zrange(f"{functions.prefix}left", 0, -1) == [b"b"]
    assert functions.client.zscore(f"{functions.prefix}hb", "b") is None
    assert "twin" not in functions.beat("b", instance="another")
    assert functions.client.zrange(f"{functions.prefix}left", 0, -1) == []
    assert functions.client.zscore(f"{functions.prefix}hb", "b")


def test_every_key_expires(functions: Functions) -> None:
    """A fleet whose machines are gone leaves nothing behind."""
    own = functions.offer("a", "n1", rate=[1, 60_000], alarm_rate=[1, 60_000], info="{}")
    functions.settle("a", own)
    functions.offer("a", "n2", kind="event", is_event=True, is_member=False, key="event", window=1000)
    functions.beat("b", leaving=True)
    functions.call("silence", id="s", matchers=["a=b"], starts=0, ends=9, author="", comment="", updated=1, origin="a")
    sweep = {"machine": "a", "silent_after": 60_000, "gone_after": 60_000, "forget_after": 60_000, "owed_after": 1000}
    functions.client.zadd(f"{functions.prefix}hb", {"c": 1})
    functions.client.hset(f"{functions.prefix}gen", "id", 1)
    functions.call("sweep", **sweep)
    functions.offer("c", "n3", kind="resolved", key="def", alarm="sms")
    functions.offer("a", "n4", key="over")
    functions.offer("a", "n5", key="over", kind="resolved")
    keys = functions.client.keys(f"{functions.prefix}*")
    assert len(keys) > 10
    assert {f"{functions.prefix}past".encode(), f"{functions.prefix}e:over".encode()} <= {*keys}
    assert [key for key in keys if functions.client.pttl(key) < 0] == []


def test_the_oldest_incidents_are_forgotten(functions: Functions) -> None:
    """Not more than 10,000 incidents are kept: those that began first make room."""
    functions.offer("a", "n1", key="first")
    functions.client.zadd(f"{functions.prefix}open", {f"k{n}": 2e12 for n in range(9_999)})
    functions.offer("a", "n2", key="next")
    assert functions.client.zcard(f"{functions.prefix}open") == 10_000
    assert not functions.client.exists(f"{functions.prefix}i:first")
    assert functions.client.exists(f"{functions.prefix}i:next")


def test_what_a_hung_redis_does_at_last_changes_nothing(functions: Functions) -> None:
    """A call of a member that has given up long ago claims nothing: nobody would send, and others would wait for it."""
    now = functions.beat("a")["now"]
    functions.beat("b")
    assert functions.offer("a", "n1", sent=now - 5000)["kind"] == "wait"
    assert not functions.client.exists(f"{functions.prefix}i:abc")
    own = functions.offer("b", "n2", sent=now)
    assert own["kind"] == "own"
    functions.settle("b", own)
    assert functions.offer("b", "n3", kind="resolved", sent=now - 5000)["kind"] == "wait"
    assert functions.offer("b", "n3", kind="resolved", sent=now)["kind"] == "own"


@pytest.mark.parametrize(("pause", "dead"), [(70_000, 0), (3000, 1)])
def test_nobody_is_silent_because_redis_hung(functions: Functions, pause: int, dead: int) -> None:
    """Where no member could sweep, Redis was away; where others could, a machine that is not heard of is silent."""
    now = functions.beat("a")["now"]
    functions.beat("b")
    sweep = {"machine": "a", "silent_after": 60_000, "gone_after": 3_600_000, "forget_after": 86_400_000}
    sweep["owed_after"] = 1000
    functions.call("sweep", **sweep)
    functions.client.hset(f"{functions.prefix}gen", "swept", now - pause)
    functions.client.zadd(f"{functions.prefix}hb", {"b": now - 70_000})
    functions.call("sweep", **sweep)
    functions.call("sweep", **sweep)
    assert functions.client.hlen(f"{functions.prefix}dead") == dead


# Episodes that are over


def end(functions: Functions, machine: str, name: str, **more: Any) -> None:
    """Have a machine say that its incident is over, and send that where it is to."""
    answer = functions.offer(machine, name, kind="resolved", **more)
    if answer["kind"] == "own":
        functions.settle(machine, answer)


def test_an_episode_that_is_over_is_known(functions: Functions) -> None:
    """What happened is kept: machines, matches, who was told by whom, who acknowledged, and how it ended."""
    info = '{"rule":"db"}'
    own = functions.offer("a", "n1", info=info, fired=1000, count=2, thread="t-a")
    assert functions.settle("a", own) == "told"
    functions.offer("b", "n2", count=3, thread="t-b")
    functions.call("order", kind="acknowledged", incident="abc", by="kim", comment="on it", time=5, until=2**42)
    end(functions, "a", "n3", count=7, cause="line")
    assert functions.past() == []
    end(functions, "b", "n4", count=3, cause="timeout")
    (past,) = functions.past()
    assert (past["ep"], past["began"], past["info"], past["cause"]) == (own["ep"], 1000, info, "timeout")
    assert (past["n"], past["machines"], past["count"]) == (2, ["a", "b"], 10)
    assert past["ended"] >= past["alarms"]["mail"]["first"]
    assert past["ack"] == {"by": "kim", "comment": "on it", "at": 5, "until": 2**42}
    mail = past["alarms"]["mail"]
    assert (mail["first_by"], mail["over_by"], mail["n"]) == ("a", "b", 2)
    assert mail["over"] >= past["ended"]
    assert functions.client.zrange(f"{functions.prefix}past", 0, -1) == [f"abc~{own['ep']}".encode()]


def test_what_is_repeated_is_kept_once(functions: Functions) -> None:
    """An end that is said again, by whoever, changes nothing; the next episode is another one."""
    functions.offer("a", "n1", thread="t-1")
    for name in ("n2", "n2", "n3"):
        functions.offer("a", name, kind="resolved")
        functions.offer("b", name, kind="resolved")
    functions.call("order", kind="resolved", incident="abc", by="kim", comment="", time=2**42, until=0)
    (first,) = functions.past()
    functions.offer("a", "n4", thread="t-2")
    functions.offer("a", "n5", kind="resolved")
    assert [each["ep"] for each in functions.past()] == [first["ep"], first["ep"] + 1]


def test_an_episode_that_goes_on_is_not_over(functions: Functions) -> None:
    """Where a member knows better that an episode is open, it is none of the past; its next end takes the place."""
    own = functions.offer("a", "n1")
    end(functions, "a", "n2", cause="line")
    (past,) = functions.past()
    told = {"at": past["ended"] + 9000, "ep": own["ep"], "status": "open", "id": "abc-x.mail", "by": "b"}
    functions.offer("b", "", kind="restore", told=told)
    assert functions.past() == []
    assert functions.client.zcard(f"{functions.prefix}past") == 0
    functions.offer("b", "n3", kind="resolved", cause="timeout")
    (again,) = functions.past()
    assert (again["ep"], again["cause"], again["machines"]) == (own["ep"], "timeout", ["b"])
    assert functions.client.zcard(f"{functions.prefix}past") == 1


def test_what_members_say_to_a_new_state_makes_no_episodes(functions: Functions) -> None:
    """After a flush, what is known to be told is told again, the open incident goes on, and its end is kept once."""
    functions.client.flushdb()
    functions.client.hset(f"{functions.prefix}gen", mapping={"id": 1, "grace": 0, "run": ""})
    at = functions.beat("a")["now"] - 1000
    for machine in "ab":
        over = {"at": at, "ep": 7, "status": "over", "id": "abc-7-end.mail"}
        functions.offer(machine, "", key="over", kind="restore", is_member=False, told=over)
        still = {"at": at, "ep": 8, "status": "open", "id": "abc-8-1.mail"}
        functions.offer(machine, "", kind="restore", told=still)
    assert functions.past("over") == []
    for machine in "ab":
        end(functions, machine, f"n-{machine}")
    (past,) = functions.past()
    assert (past["ep"], past["n"], past["alarms"]["mail"]["first"]) == (8, 2, at)


def test_how_an_episode_ended_is_kept(functions: Functions) -> None:
    """By hand and by whom, wherever its machines are; or because its machines are gone."""
    functions.offer("a", "n1")
    functions.call("order", kind="resolved", incident="abc", by="kim", comment="", time=2**42, until=0)
    functions.offer("b", "n2", key="gone")
    sweep = {"machine": "a", "silent_after": 0, "gone_after": 0, "forget_after": 2**42, "owed_after": 2**42}
    functions.client.zadd(f"{functions.prefix}hb", {"b": 1})
    functions.client.hset(f"{functions.prefix}gen", mapping={"id": 1, "swept": functions.beat("a")["now"]})
    functions.call("sweep", **sweep)
    functions.call("sweep", **sweep)
    assert [(each["cause"], each["by"]) for each in functions.past()] == [("operator", "kim")]
    assert [(each["cause"], each["machines"]) for each in functions.past("gone")] == [("gone", ["b"])]


def test_an_end_that_no_message_has_reported_is_known(functions: Functions) -> None:
    """A machine whose incident began anew has ended the one before."""
    functions.offer("a", "n1", thread="t-1")
    functions.offer("a", "n2", thread="t-2")
    assert len(functions.past()) == 1


def test_a_machine_that_returns_counts_once(functions: Functions) -> None:
    """The machines of an episode are counted, not how often it began on each; their matches are added up."""
    functions.offer("b", "n1", count=5)
    for n in range(3):
        functions.offer("a", f"n-{n}", thread=f"t-{n}", count=2)
        functions.offer("a", f"e-{n}", kind="resolved", count=2)
    functions.offer("b", "n2", kind="resolved")
    (past,) = functions.past()
    assert (past["n"], past["machines"], past["count"]) == (2, ["a", "b"], 11)


def test_the_first_machines_are_named(functions: Functions) -> None:
    """Twenty names are enough for people; the number says how many there were."""
    names = [f"web-{n:02}" for n in range(25)]
    for name in names:
        functions.offer(name, f"n-{name}")
    for name in names:
        functions.offer(name, f"e-{name}", kind="resolved")
    (past,) = functions.past()
    assert (past["n"], past["machines"]) == (25, names[:20])


def test_past_episodes_are_bounded(functions: Functions) -> None:
    """The oldest are forgotten: of 10,000 in all, of 100 of one incident, and after 90 days."""
    now = functions.beat("a")["now"]
    day = 86_400_000
    old = {f"old~{n}": now - n * day for n in range(1, 95)}
    functions.client.hset(f"{functions.prefix}e:old", mapping=dict.fromkeys(range(1, 95), "{}"))
    functions.client.zadd(f"{functions.prefix}past", old)
    sweep = {"machine": "a", "silent_after": 60_000, "gone_after": 60_000, "forget_after": 60_000, "owed_after": 1000}
    functions.call("sweep", **sweep)
    assert functions.client.hlen(f"{functions.prefix}e:old") == functions.client.zcard(f"{functions.prefix}past") == 89
    for n in range(105):
        functions.offer("a", f"n-{n}")
        functions.offer("a", f"e-{n}", kind="resolved")
    assert len(functions.past()) == 100
    assert functions.client.zcard(f"{functions.prefix}past") == 189
    functions.client.zadd(f"{functions.prefix}past", {f"more~{n}": now - day // 2 for n in range(9_811)})
    functions.offer("a", "n")
    functions.offer("a", "e", kind="resolved")
    assert functions.client.zcard(f"{functions.prefix}past") == 10_000
    functions.offer("a", "n", key="other")
    functions.offer("a", "e", key="other", kind="resolved")
    assert functions.client.zcard(f"{functions.prefix}past") == 10_000
    assert functions.client.hlen(f"{functions.prefix}e:old") == 88
