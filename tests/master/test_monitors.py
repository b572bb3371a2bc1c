"""Monitors on a runtime, with a recording action in the place of real ones."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from msgspec import structs
from waiting import wait_until

from alarm_mw.config.settings import Alarm, Settings, Watch
from alarm_mw.engine.ledger import imbalances
from alarm_mw.master.monitors import Monitors, watchable
from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.model.interfaces import Monitor, MonitorContext, PluginOptions
from alarm_mw.model.types import IncidentOptions, Where
from alarm_mw.monitors.fd.monitor import FdOptions
from alarm_mw.testing import Recorder
from alarm_mw.testing.recorder import NoOptions


class Scripted:
    """A monitor that does what a test says."""

    Options: ClassVar[type[PluginOptions]] = NoOptions
    script: ClassVar[Callable[[MonitorContext, int], object]]
    runs: ClassVar[int]

    def __init__(self, options: PluginOptions, context: MonitorContext) -> None:
        self._context = context

    @classmethod
    def from_uwsgi(cls, args: str) -> PluginOptions:
        return NoOptions()

    async def run(self) -> None:
        type(self).runs += 1
        type(self).script(self._context, self.runs)
        await asyncio.Event().wait()


def scripted(script: Callable[[MonitorContext, int], object]) -> type[Scripted]:
    """Return a class of monitors that call `script` with their context and the number of the run."""
    return type("ScriptedHere", (Scripted,), {"script": staticmethod(script), "runs": 0})


class OfSockets(NoOptions, frozen=True):
    """The options of a monitor with an incident for each socket."""

    incident_key: ClassVar[str] = "socket"


#: A monitor with incidents.
WITH_INCIDENTS = Watch(
    "scripted", ("a",), OfSockets(), Where("x.toml", 7), "queue", (("severity", "high"),), IncidentOptions(("socket",))
)


class House:
    """A runtime with the alarms `a` and `b`."""

    def __init__(self, outbox: Path | Literal[":memory:"] = ":memory:", *watches: Watch) -> None:
        self.recorder = Recorder()
        alarms = tuple(Alarm(name, "recording", NoOptions()) for name in "ab")
        settings = Settings(alarms=alarms, alarm_freq=0.0, monitors=watches)
        self.log: list[bytes] = []
        self.runtime = Runtime(
            settings, outbox=outbox, write_log=self.log.append, find_action=self.recorder.find, name="house"
        )
        self.runtime.start()
        self.monitors: Monitors | None = None

    def watch(self, monitor: type[Monitor], alarms: Sequence[str] = ("a",), pause: float = 0.01) -> None:
        """Start one monitor."""
        self.run(monitor, Watch("scripted", tuple(alarms), NoOptions(), Where("x.toml", 7)), pause)

    def run(self, monitor: type[Monitor], watch: Watch, pause: float = 0.01) -> None:
        """Start one monitor as it is configured."""
        self.monitors = Monitors(
            [watch], self.runtime, write_log=self.log.append, find_monitor=lambda _: monitor, pause=pause
        )
        self.monitors.start()

    def told(self, count: int) -> list[tuple[str, str, str]]:
        """Return status, key and line of so many messages about incidents."""
        notices = [(firing.trigger and firing.trigger.incident, firing) for firing in self.recorder.wait_for(count)]
        return [(each.status, ",".join(each.key.values()), each.end or firing.text) for each, firing in notices if each]

    def balance(self) -> None:
        """Check that the books do."""
        with self.runtime.outbox.still():
            assert imbalances(*self.runtime.books()) == []

    def close(self) -> None:
        if self.monitors is not None:
            self.monitors.stop()
        self.runtime.stop(5.0)


@pytest.fixture
def house() -> Iterator[House]:
    built = House()
    yield built
    built.close()


def test_a_monitor_fires_all_of_its_alarms(house: House) -> None:
    """What a monitor says goes to each of its alarms, past the rules, with its name; and the books balance."""
    house.watch(scripted(lambda context, _: context.fire(b"full")), ["a", "b"])
    firings = house.recorder.wait_for(2)
    assert {(firing.alarm, firing.message, firing.rule) for firing in firings} == {
        ("a", b"full", ""),
        ("b", b"full", ""),
    }
    assert firings[0].record.source == "monitor"
    assert firings[0].record.fields == {"monitor": "scripted"}
    with house.runtime.outbox.still():
        books, waiting = house.runtime.books()
    assert imbalances(books, waiting) == []
    assert books["sources"]["monitor"]["matched"] == 2


def test_the_same_under_one_key_fires_once(house: House) -> None:
    """What a monitor tells of again under the same key, as after a restart of the master, is not fired again."""

    def script(context: MonitorContext, _: int) -> None:
        context.fire_once(b"died", "key")
        context.fire_once(b"died again", "key")
        context.fire(b"end")

    house.watch(scripted(script))
    house.recorder.wait_for(2)
    assert house.recorder.messages == [b"died", b"end"]


def test_incidents_of_a_monitor() -> None:
    """What is wrong is an incident with its key, and over as soon as the monitor does not name it any more."""

    def script(context: MonitorContext, _: int) -> None:
        assert context.report is not None
        context.report({}, {})
        context.report({"one": b"one is full", "two": b"two is full"}, {})
        context.report({"one": b"one is fuller", "two": b"two is fuller"}, {})
        context.report({"two": b"two is full"}, {"one": b"one is over"})
        context.report({}, {})

    house = House(":memory:", WITH_INCIDENTS)
    house.run(scripted(script), WITH_INCIDENTS)
    assert house.told(4) == [
        ("firing", "one", "one is full"),
        ("firing", "two", "two is full"),
        ("resolved", "one", "one is over"),
        ("resolved", "two", "two is full"),
    ]
    firing = house.recorder.wait_for(1)[0]
    assert firing.record.fields == {"monitor": "scripted", "socket": "one"}
    assert firing.trigger is not None
    assert (firing.trigger.name, firing.trigger.labels) == ("queue", {"severity": "high", "socket": "one"})
    house.balance()
    house.close()


def test_an_incident_that_ended_while_nobody_watched(tmp_path: Path) -> None:
    """After a restart, the first look of the monitor ends what is over by now, and begins nothing anew that goes on."""

    def begin(context: MonitorContext, _: int) -> None:
        assert context.report is not None
        context.report({"one": b"one is full", "two": b"two is full"}, {})

    def go_on(context: MonitorContext, _: int) -> None:
        assert context.report is not None
        context.report({"two": b"two is full"}, {})

    first = House(tmp_path / "outbox.db", WITH_INCIDENTS)
    first.run(scripted(begin), WITH_INCIDENTS)
    assert len(first.told(2)) == 2
    first.close()
    second = House(tmp_path / "outbox.db", WITH_INCIDENTS)
    second.run(scripted(go_on), WITH_INCIDENTS)
    assert second.told(1) == [("resolved", "one", "one is full")]
    second.balance()
    second.close()


def test_a_monitor_that_does_not_know_its_end() -> None:
    """Each of its messages is a match of its incident, which ends by quiet; the same under one key is counted once."""
    quiet = structs.replace(WITH_INCIDENTS, options=NoOptions(), incident=IncidentOptions(resolve_after=0.05))

    def script(context: MonitorContext, _: int) -> None:
        context.fire_once(b"died", "key")
        context.fire_once(b"died", "key")
        context.fire(b"died again")

    house = House(":memory:", quiet)
    house.run(scripted(script), quiet)
    assert house.told(2) == [("firing", "", "died"), ("resolved", "", "died")]
    notice = house.recorder.wait_for(2)[1].trigger
    assert notice is not None
    assert notice.incident is not None
    assert (notice.incident.count, notice.incident.ended_by) == (2, "timeout")
    house.balance()
    house.close()


def test_what_a_monitor_said_before_a_reload_is_counted(house: House) -> None:
    """A report of a monitor that the configuration in force does not have changes nothing."""

    def script(context: MonitorContext, _: int) -> None:
        context.fire(b"late")

    house.run(scripted(script), WITH_INCIDENTS)
    wait_until(lambda: "monitor" in house.runtime.books()[0]["sources"], 10)
    assert house.runtime.books()[0]["sources"]["monitor"]["skipped"] == {"unjudged": 1}
    house.balance()


def test_a_monitor_that_fails_is_run_again(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """An exception is logged with its place, a mistake in the code with the traceback, and the monitor is run again."""

    def script(context: MonitorContext, run: int) -> None:
        if run == 1:
            raise FileNotFoundError(2, "No such file or directory", "/run/x")
        if run == 2:
            raise RuntimeError("a mistake")
        context.fire(b"third")

    house.watch(scripted(script))
    house.recorder.wait_for(1)
    first, second = (record for record in caplog.records if "scripted" in record.message)
    assert first.message.startswith("x.toml:7: the monitor scripted failed and is run again in 0.01 s: [Errno 2]")
    assert first.exc_info is None
    assert second.message.startswith("x.toml:7: the monitor scripted failed and is run again in 0.02 s: a mistake")
    assert second.exc_info is not None


def test_a_monitor_that_cannot_be_made_keeps_nobody_waiting(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """It is made again later, as one that fails is run again; the others run."""
    tries: list[int] = []

    class Broken(Scripted):
        def __init__(self, options: PluginOptions, context: MonitorContext) -> None:
            tries.append(1)
            if len(tries) == 1:
                raise RuntimeError("not yet")
            super().__init__(options, context)

        async def run(self) -> None:
            self._context.fire(b"made")

    house.watch(Broken)
    assert house.recorder.wait_for(1)[0].message == b"made"
    assert "x.toml:7: the monitor scripted failed and is run again in 0.01 s: not yet" in caplog.messages


def test_a_monitor_that_returns_is_left_alone(house: House) -> None:
    """One that has nothing left to watch is not run again, and stopping does not mind."""
    done = threading.Event()

    class Short(Scripted):
        runs = 0

        async def run(self) -> None:
            type(self).runs += 1
            asyncio.get_running_loop().call_later(0.05, done.set)

    house.watch(Short)
    assert done.wait(10.0)
    assert Short.runs == 1


def test_metrics_are_there(house: House) -> None:
    """A monitor finds the application's metrics and the ledger's columns, and can change the former."""

    def script(context: MonitorContext, _: int) -> None:
        context.add_to_metric("mine", 3)
        context.add_to_metric("mine", -1)
        context.fire(str(context.metrics()["mine"]).encode())

    house.watch(scripted(script))
    assert house.recorder.wait_for(1)[0].message == b"2"


def test_stopping_ends_what_runs(house: House) -> None:
    """A monitor that is stopped is cancelled, and fires no more."""
    ended = threading.Event()

    class Endless(Scripted):
        async def run(self) -> None:
            self._context.fire(b"runs")
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

    house.watch(Endless)
    house.recorder.wait_for(1)
    assert house.monitors is not None
    house.monitors.stop()
    assert ended.is_set()


def test_after_an_exchange_those_that_stay_go_on(house: House) -> None:
    """A monitor that is configured again, on another line, is not started again; one that is gone has ended."""
    ended: list[str] = []

    class Staying(Scripted):
        runs = 0

        async def run(self) -> None:
            type(self).runs += 1
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(self._context.monitor)

    def watch(name: str, line: int, alarm: str = "a") -> Watch:
        return Watch(name, (alarm,), NoOptions(), Where("x.toml", line))

    watches = [watch("stays", 1), watch("goes", 2), watch("changes", 3)]
    house.monitors = Monitors(watches, house.runtime, write_log=house.log.append, find_monitor=lambda _: Staying)
    house.monitors.start()
    house.monitors.exchange([watch("changes", 1, "b"), watch("stays", 2)])
    assert sorted(ended) == ["changes", "goes"]
    assert Staying.runs == 4


def test_crashes_that_nobody_looks_for(caplog: pytest.LogCaptureFixture) -> None:
    """A crash monitor that came after the start is told of, and left out."""
    assert watchable([Watch("segfault", ("a",), NoOptions(), Where("x.ini", 7))], [], hears_deaths=False) == ()
    assert caplog.messages == ["x.ini:7: crashes were not asked for at the start and are not watched"]


def test_descriptors_that_were_not_open(caplog: pytest.LogCaptureFixture) -> None:
    """A descriptor that nobody has opened is told of, and never mistaken for one of the master's own."""
    watches = [Watch("fd", ("a",), FdOptions(fd=number, message="x"), Where("x.ini", number)) for number in (7, 8)]
    assert [watch.where.line for watch in watchable(watches, [8, 9], hears_deaths=True)] == [8]
    assert caplog.messages == ["x.ini:7: descriptor 7 was not open at the start and is not watched"]
