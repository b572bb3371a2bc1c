"""A runtime as a member of a fleet: what it tells, and what it does for others."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs
from recording_member import Fleets
from waiting import wait_until

from alarm_mw.actions.hub import HubOptions
from alarm_mw.config.settings import Alarm, Settings
from alarm_mw.config.tables.fleet import FleetOptions
from alarm_mw.delivery.policy import DeliveryPolicy
from alarm_mw.engine.ledger import imbalances
from alarm_mw.master.control.incidents import IncidentOrder, carry_out
from alarm_mw.master.control.silences import SilenceOrder, expire, put, shown
from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.master.worker.batch import Batch, Item
from alarm_mw.model.fleet import FleetIncident, OpenIncident, SharedOrder, SharedSilence, SilentMachine
from alarm_mw.model.interfaces import ActionContext, PluginOptions
from alarm_mw.model.types import Firing, IncidentNotice, IncidentOptions, Machines, Record, Rule, Trigger
from alarm_mw.testing import Recorder
from alarm_mw.testing.recorder import NoOptions, RecordingAction

_numbers = itertools.count()

DB = Rule(r"lost (?P<db>\S+)", ("a",), name="db", labels=(("severity", "critical"),), incident=IncidentOptions(("db",)))
BACK = Rule(r"back (?P<db>\S+)", (), resolves="db")
OWN = structs.replace(DB, pattern=r"own (?P<db>\S+)", name="own", scope="machine")
PLAIN = Rule("plain", ("a",))
SETTINGS = Settings(
    (Alarm("a", "recording", NoOptions(), DeliveryPolicy(backoff_first=0.001)),),
    (DB, BACK, OWN, PLAIN),
    own_alarms=("a",),
    fleet=FleetOptions(url="redis://h", machine="web-1"),
)
ALONE = structs.replace(SETTINGS, fleet=None)


class Machine:
    """A runtime that joins a fleet, and what its alarm has sent."""

    def __init__(self, directory: Path, settings: Settings = SETTINGS, fleets: Fleets | None = None) -> None:
        self.recorder, self.fleets = Recorder(), fleets or Fleets()
        self.runtime = Runtime(
            settings,
            outbox=directory / "outbox.db",
            write_log=lambda _: None,
            find_action=self.recorder.find,
            join=self.fleets.join,
        )
        self.runtime.start()

    def see(self, *lines: str) -> None:
        """Put lines to the rules, and wait until they were judged."""
        done = threading.Event()
        records = [Record(f"{line}\n".encode(), "logging", 1.0, f"k{next(_numbers)}") for line in lines]
        self.runtime.worker.submit(Batch([Item(record) for record in records], done=done.set))
        assert done.wait(10)

    def settle(self) -> None:
        """Wait until what was asked of the worker is done."""
        self.see()

    def open_incidents(self) -> list[OpenIncident]:
        local = self.fleets.local

        async def ask() -> list[OpenIncident]:
            return [*await local.open_incidents()]

        return self.runtime.call(ask())

    def sent(self, count: int) -> list[str]:
        """Return the texts of the messages, once there are so many."""
        return [firing.text for firing in self.recorder.wait_for(count)]

    def reload(self, settings: Settings) -> None:
        self.runtime.exchange(self.runtime.prepare(settings))

    def stop(self) -> None:
        with self.runtime.outbox.still():
            assert imbalances(*self.runtime.books()) == []
        self.runtime.stop(5)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    found = Machine(tmp_path)
    yield found
    found.stop()


def test_a_fleet_is_joined_and_left(tmp_path: Path) -> None:
    """A master joins before its first message, asks for each, and says goodbye after the last one."""
    machine = Machine(tmp_path)
    machine.see("plain 1")
    assert machine.sent(1) == ["plain 1 (on 2 machines)"]
    overview = machine.runtime.call(machine.runtime.fleet())
    assert overview is not None
    assert (overview.name, overview.machine) == ("default", "web-1")
    state = machine.runtime.fleet_state()
    assert state is not None
    assert (state["name"], state["machine"], state["state"]) == ("default", "web-1", "connected")
    machine.stop()
    asked = machine.fleets.member.asked
    assert (asked[0], asked[-1]) == ("start", "stop")


def test_a_reload_changes_joins_and_leaves(tmp_path: Path) -> None:
    """Other rules change the plan; another place is another member; without the table, the machine is alone."""
    machine = Machine(tmp_path, ALONE)
    assert machine.fleets.members == []
    assert machine.runtime.call(machine.runtime.fleet()) is None
    assert machine.runtime.fleet_state() is None
    machine.reload(SETTINGS)
    wait_until(lambda: machine.fleets.members)
    machine.reload(structs.replace(SETTINGS, rules=(PLAIN,)))
    first = machine.fleets.member
    wait_until(lambda: first.asked == ["start", "change"])
    machine.reload(structs.replace(SETTINGS, fleet=FleetOptions(url="redis://h", machine="web-2")))
    wait_until(lambda: len(machine.fleets.members) == 2)
    assert first.asked == ["start", "change", "stop"]
    machine.reload(ALONE)
    wait_until(lambda: machine.fleets.member.asked == ["start", "stop"])
    machine.see("plain 1")
    assert machine.sent(1) == ["plain 1"]
    machine.stop()


def test_a_machine_that_cannot_join_is_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A URL that cannot be used is named, and the alarms go on."""
    machine = Machine(tmp_path, fleets=Fleets(is_refusing=True))
    machine.see("plain 1")
    assert machine.sent(1) == ["plain 1"]
    machine.stop()
    assert "fleet default: this machine cannot join, and sends its alarms alone: no such scheme" in caplog.text


def test_a_program_of_its_own_joins_no_fleet(tmp_path: Path) -> None:
    """A master in an application's process ignores the table."""
    runtime = Runtime(SETTINGS, write_log=lambda _: None, find_action=Recorder().find)
    runtime.start()
    assert runtime.call(runtime.fleet()) is None
    runtime.stop(5)


def test_a_silence_is_shared_whoever_makes_it(machine: Machine) -> None:
    """Creating and ending a silence both reach the fleet; what comes from the fleet does not go back."""
    silence = put(machine.runtime, SilenceOrder(("a",), time.time() + 600.0, author="kim"))
    wait_until(lambda: len(machine.fleets.member.silences) == 1)
    expire(machine.runtime, [silence["id"]])
    created, ended = machine.fleets.member.silences
    assert created.id == ended.id == silence["id"]
    assert created.matchers == ('alarm="a"',)
    assert abs(created.ends - silence["ends"]) < 1.0
    assert ended.ends < created.ends
    assert ended.updated > created.updated


def test_a_silence_of_the_fleet_holds(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """A silence of another machine holds back here; one that cannot be read is named."""
    now = time.time()
    silence = SharedSilence("s1", ('alarm="a"',), now, now + 600.0, "kim", "deploy", now)
    machine.fleets.local.take_silence(silence)
    machine.fleets.local.take_silence(structs.replace(silence, id="s2", matchers=("x",)))
    machine.see("plain 1")
    (found,) = shown(machine.runtime)
    assert (found["id"], found["author"], found["comment"], found["state"]) == ("s1", "kim", "deploy", "active")
    assert machine.recorder.messages == []
    assert machine.fleets.member.silences == []
    assert "the silence s2 of another machine cannot be taken over" in caplog.text

    async def ask() -> list[SharedSilence]:
        return [*await machine.fleets.local.silences()]

    (known,) = machine.runtime.call(ask())
    assert (known.id, known.matchers, known.author) == ("s1", ('alarm="a"',), "kim")
    assert abs(known.ends - silence.ends) < 1.0


def test_an_acknowledgement_is_shared_and_followed(machine: Machine) -> None:
    """What people do to incidents goes to the fleet, and what they do elsewhere is done here, without an echo."""
    machine.see("lost eu")
    (incident,) = machine.open_incidents()
    assert carry_out(machine.runtime, IncidentOrder("ack", (incident.id,), "kim", 600.0, "on it")) == [incident.id]
    wait_until(lambda: machine.fleets.member.orders)
    (order,) = machine.fleets.member.orders
    assert (order.kind, order.incident, order.by, order.comment) == ("acknowledged", incident.id, "kim", "on it")
    assert abs(order.until - order.time - 600.0) < 1.0
    machine.fleets.local.take_order(SharedOrder("resolved", incident.id, "lou", time=time.time()))
    machine.settle()
    assert machine.open_incidents() == []
    assert len(machine.fleets.member.orders) == 1


def test_an_incident_of_other_machines_can_be_acknowledged_here(machine: Machine) -> None:
    """An order about an incident of other machines goes to those that have it; an unknown one is refused."""
    there = FleetIncident("0123456789", "db", 1.0, 2, ("web-2", "web-3"))
    machine.fleets.member.incidents = (there,)
    done = carry_out(machine.runtime, IncidentOrder("ack", (there.id, "ffff"), "kim", 600.0, "on it"))
    assert done == [there.id]
    (order,) = machine.fleets.member.orders
    assert (order.kind, order.incident, order.by, order.comment) == ("acknowledged", there.id, "kim", "on it")
    assert abs(order.until - time.time() - 600.0) < 5.0


def test_open_incidents_say_who_was_told(tmp_path: Path) -> None:
    """The fleet hears of shared incidents alone, and of notifications that were sent, not of those that wait."""
    fleets = Fleets()
    machine = Machine(tmp_path, fleets=fleets)
    machine.see("lost eu", "own eu")
    assert len(machine.sent(2)) == 2
    wait_until(lambda: not machine.runtime.outbox.count_waiting())
    (told,) = machine.open_incidents()
    assert (told.rule, told.key, told.text, told.count) == ("db", {"db": "eu"}, "lost eu", 1)
    assert told.labels == {"severity": "critical", "db": "eu"}
    assert [*told.notified] == ["a"]
    assert abs(told.notified["a"] - time.time()) < 60.0
    machine.stop()


def test_what_waits_for_another_machine_is_not_told(machine: Machine) -> None:
    """A notification that is deferred is not said to be sent: otherwise nobody would send it after a restart of all."""
    member = machine.fleets.member
    original = member.claim

    async def defer(firing: Firing, on_deferred: object) -> object:
        member.owned.add(firing.id)
        return await original(firing, lambda: None)

    member.claim = defer  # type: ignore[method-assign, assignment]  # whatever its id is
    machine.see("lost eu")
    wait_until(lambda: member.owned)
    (incident,) = machine.open_incidents()
    assert incident.notified == {}
    machine.runtime.loop.call_soon_threadsafe(member.free, *member.owned)
    machine.sent(1)


def test_a_silent_machine_is_an_incident(machine: Machine) -> None:
    """Each machine that falls silent is told with its last lines, once, and its end when it is heard of again."""
    local, now = machine.fleets.local, time.time()
    report = {"web-9": SilentMachine(("web-9",), now, ("last words",))}
    for machines in ({}, report, report, {}):
        machine.runtime.loop.call_soon_threadsafe(local.report_silent, machines)
    begin, end = machine.recorder.wait_for(2)
    assert begin.text.startswith("machine web-9 is silent: nothing was heard of its master since ")
    assert begin.record.pid == 0
    assert "last words" in begin.text
    assert begin.trigger is not None
    assert begin.trigger.labels == {"machine": "web-9"}
    assert end.trigger is not None
    assert end.trigger.incident is not None
    assert (end.trigger.incident.status, end.trigger.incident.end) == ("resolved", "web-9 is no longer silent")


def test_machines_that_vanish_together_are_one_incident(machine: Machine) -> None:
    """Many machines at once lead to one message, which names the first of them."""
    names = tuple(f"web-{n}" for n in range(30))
    report = {"30 machines": SilentMachine(names, time.time())}
    machine.runtime.loop.call_soon_threadsafe(machine.fleets.local.report_silent, report)
    (begin,) = machine.recorder.wait_for(1)
    assert begin.text.startswith("30 machines are silent since ")
    assert begin.text.endswith("web-18, web-19, … (on 2 machines)")


def test_silent_machines_need_alarms(tmp_path: Path) -> None:
    """Without alarms for them, machines that fall silent fire nothing."""
    machine = Machine(tmp_path, structs.replace(SETTINGS, own_alarms=()))
    machine.runtime.loop.call_soon_threadsafe(machine.fleets.local.report_silent, {"x": SilentMachine(("x",), 0.0)})
    machine.see("plain 1")
    assert machine.sent(1) == ["plain 1 (on 2 machines)"]
    machine.stop()


def test_the_end_of_what_others_had_is_sent(machine: Machine) -> None:
    """A message that no engine here has made goes through the outbox, and is counted; of unknown alarms it is not."""
    notice = IncidentNotice("i1", "resolved", 3, "i1-x", 0.0, column="resolved")
    record = Record(b"lost eu\n", "fleet", time.time(), "k")
    firing = Firing("i1-3-2.a", "a", b"lost eu\n", record, record.time, trigger=Trigger("db", incident=notice))
    machine.fleets.local.send(firing)
    machine.settle()
    machine.fleets.local.send(structs.replace(firing, alarm="z", id="other"))
    machine.fleets.local.send(firing)
    assert machine.sent(1) == ["lost eu (on 2 machines)"]
    machine.settle()
    books, _ = machine.runtime.books()
    assert (books["alarms"]["a"]["resolved"], books["alarms"]["a"]["held_back"]) == (2, {"duplicate": 1})
    assert "z" not in books["alarms"]


def test_a_hub_has_what_others_leave_to_it_in_its_outbox(machine: Machine) -> None:
    """What a hub says to have is in its outbox; alarms that it does not have are named."""
    record = Record(b"disk full\n", "stdout", time.time(), "k")
    firing = Firing("f1", "a", b"disk full\n", record, record.time, machines=Machines(("web-9",), 1))
    unknown = structs.replace(firing, id="f2", alarm="z")

    async def take_over() -> list[str]:
        return [*await machine.fleets.local.take_over([firing, unknown])]

    assert machine.runtime.call(take_over()) == ["z"]
    assert machine.runtime.outbox.query("SELECT id FROM firings") == [("f1",)]
    machine.sent(1)


def test_an_action_leaves_a_message_to_the_hub(tmp_path: Path) -> None:
    """The action `hub` reaches the fleet; a machine that has left its fleet keeps the message."""
    settings = structs.replace(SETTINGS, alarms=(Alarm("a", "hub", HubOptions()),))
    fleets = Fleets()
    runtime = Runtime(settings, outbox=tmp_path / "outbox.db", write_log=lambda _: None, join=fleets.join)
    runtime.start()
    record = Record(b"plain\n", "logging", 1.0, "k")
    runtime.worker.submit(Batch([Item(record)]))
    wait_until(lambda: runtime.outbox.query("SELECT 1 FROM firings WHERE state = 'delivered'"))
    assert any(asked.startswith("hand over ") for asked in fleets.member.asked)
    runtime.exchange(runtime.prepare(structs.replace(settings, fleet=None)))
    wait_until(lambda: runtime.fleet_state() is None)
    runtime.worker.submit(Batch([Item(structs.replace(record, key="k2", message=b"plain 2\n"))]))
    wait_until(runtime.dispatcher.failing)
    assert "configure [fleet]" in runtime.dispatcher.failing()["a"]["error"]
    runtime.stop(1)


def test_actions_know_the_machine_by_its_name_in_the_fleet(tmp_path: Path) -> None:
    """Messages name the machine as the fleet does, from the start and after a reload that changes it."""
    hosts: list[str] = []

    class Placed(RecordingAction):
        recorder = Recorder()

        def __init__(self, options: PluginOptions, context: ActionContext) -> None:
            hosts.append(context.place.host)
            super().__init__(options, context)

    fleets = Fleets()
    runtime = Runtime(
        SETTINGS, outbox=tmp_path / "o.db", write_log=lambda _: None, find_action=lambda _: Placed, join=fleets.join
    )
    runtime.start()
    runtime.exchange(runtime.prepare(SETTINGS))
    assert hosts == ["web-1"]
    runtime.exchange(runtime.prepare(structs.replace(SETTINGS, fleet=FleetOptions(url="redis://h", machine="web-2"))))
    assert hosts == ["web-1", "web-2"]
    wait_until(lambda: len(fleets.members) == 2)
    runtime.stop(5)
