"""Runs a monitor on a loop of the test's own, and waits for what it says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager

import pytest
from waiting import LIMIT

from alarm_mw.model.interfaces import Monitor, MonitorContext, PluginOptions


class Stage:
    """What a monitor finds around it, and what it has done."""

    def __init__(self) -> None:
        self.fired: asyncio.Queue[bytes] = asyncio.Queue()
        self.log: list[bytes] = []
        self.values: dict[str, int] = {}
        self.server: int | None = None
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self.tasks: list[asyncio.Task[None]] = []
        #: What is wrong, and what may be said of what is over, by the value of the key; each change of the former once.
        self.reports: asyncio.Queue[tuple[dict[str, bytes], dict[str, bytes]]] = asyncio.Queue()
        self.has_incidents = False
        self._wrong: set[str] | None = None

    async def next(self) -> str:
        """Wait for the next message."""
        return (await asyncio.wait_for(self.fired.get(), LIMIT)).decode("utf-8", "surrogateescape")

    def report(self, wrong: Mapping[str, bytes], over: Mapping[str, bytes]) -> None:
        if self._wrong is None or wrong.keys() != self._wrong:
            self._wrong = set(wrong)
            self.reports.put_nowait((dict(wrong), dict(over)))

    async def reported(self) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Wait for the next change of what is wrong."""
        return await asyncio.wait_for(self.reports.get(), LIMIT)

    async def end(self) -> None:
        """Wait for the monitor to end by itself; raise what it raised."""
        await asyncio.wait_for(asyncio.shield(self.tasks[0]), LIMIT)

    def server_pid(self) -> int | None:
        self.asked.put_nowait("server_pid")
        return self.server

    def metrics(self) -> dict[str, int]:
        self.asked.put_nowait("metrics")
        return self.values

    async def looked(self, times: int) -> None:
        """Wait until monitors have looked around them so many times from now on."""
        while not self.asked.empty():
            self.asked.get_nowait()
        for _ in range(times):
            await asyncio.wait_for(self.asked.get(), LIMIT)

    def add_to_metric(self, name: str, value: int) -> None:
        self.values[name] = self.values.get(name, 0) + value

    @contextlib.asynccontextmanager
    async def running(self, *monitors: tuple[type[Monitor], PluginOptions]) -> AsyncIterator[Stage]:
        context = MonitorContext(
            monitor="test",
            fire=self.fired.put_nowait,
            server_pid=self.server_pid,
            write_log=self.log.append,
            metrics=self.metrics,
            add_to_metric=self.add_to_metric,
            report=self.report if self.has_incidents else None,
        )
        self.tasks = [asyncio.create_task(monitor(options, context).run()) for monitor, options in monitors]
        try:
            yield self
        finally:
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
def running() -> Callable[..., AbstractAsyncContextManager[Stage]]:
    """Give a context in which monitors run: pairs of a class and its options."""

    def run(*monitors: tuple[type[Monitor], PluginOptions]) -> AbstractAsyncContextManager[Stage]:
        return Stage().running(*monitors)

    return run


@pytest.fixture
def make_stage() -> Callable[[], Stage]:
    """Give a maker of stages, for what has to be set before monitors run."""
    return Stage
