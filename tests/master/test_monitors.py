"""Monitors on a runtime, with a recording action in the place of real ones."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import pytest

from alarm_mw.config.settings import Alarm, Settings, Watch
from alarm_mw.engine.ledger import imbalances
from alarm_mw.master.monitors import Monitors, watchable
from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.model.interfaces import Monitor, MonitorContext, PluginOptions
from alarm_mw.model.types import Where
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


class House:
    """A runtime with the alarms `a` and `b`."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        alarms = tuple(Alarm(name, "recording", NoOptions()) for name in "ab")
        settings = Settings(alarms=alarms, alarm_freq=0.0)
        self.log: list[bytes] = []
        self.runtime = Runtime(settings, write_log=self.log.append, find_action=self.recorder.find)
        self.runtime.start()
        self.monitors: Monitors | None = None

    def watch(self, monitor: type[Monitor], alarms: Sequence[str] = ("a",), pause: float = 0.01) -> None:
        """Start one monitor."""
        watches = [Watch("scripted", tuple(alarms), NoOptions(), Where("x.toml", 7))]
        self.monitors = Monitors(
            watches, self.runtime, write_log=self.log.append, find_monitor=lambda _: monitor, pause=pause
        )
        self.monitors.start()

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
