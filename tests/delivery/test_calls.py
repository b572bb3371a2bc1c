"""Calls of a plugin's code that does what it should not, without a lane around them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Self

import pytest
from waiting import until

from alarm_mw.delivery.calls import MAX_ABANDONED, AbandonedError, Calls, PluginError


def test_too_many_abandoned_calls_are_the_last() -> None:
    """While so many calls have not come back, no further one is made; one that comes back makes room."""
    release = threading.Event()
    calls = Calls()

    async def hang() -> None:
        loop, begun = asyncio.get_running_loop(), asyncio.Event()

        def wait() -> None:
            loop.call_soon_threadsafe(begun.set)
            release.wait()

        call = asyncio.create_task(calls.call(wait, limit=60))
        await begun.wait()
        call.cancel()
        await asyncio.wait({call})

    async def scene() -> None:
        for number in range(MAX_ABANDONED):
            assert calls.abandoned == number
            await hang()
        with pytest.raises(AbandonedError, match="4 earlier calls have not come back"):
            await calls.call(release.wait, limit=60)
        release.set()
        await until(lambda: not calls.abandoned)
        assert await calls.call(release.wait, limit=60) is True

    asyncio.run(scene())


def test_what_is_done_while_it_is_cancelled_counts() -> None:
    """A call that finishes what it was doing when its time is over has succeeded."""

    async def finish() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done"
        return "never"

    assert asyncio.run(Calls().call(finish, limit=0.01)) == "done"


class Stubborn:
    """Opens only after it was told to stop."""

    def __init__(self) -> None:
        self.is_closed = False

    async def __aenter__(self) -> Self:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.is_closed = True


def test_what_opens_too_late_is_closed() -> None:
    """A plugin that opens after its time is not used, and is left again."""

    async def scene() -> None:
        plugin = Stubborn()
        with pytest.raises(TimeoutError):
            async with Calls().opened(plugin, 0.01):
                pytest.fail("it was not open in time")
        assert plugin.is_closed

    asyncio.run(scene())


def test_cancelling_who_waits_ends_the_call() -> None:
    """When the lane is stopped, the plugin's coroutine is cancelled, and waited for."""

    async def scene(waits: Callable[[], Awaitable[object]]) -> None:
        ended = asyncio.Event()

        async def work() -> None:
            try:
                await waits()
            finally:
                ended.set()

        task = asyncio.create_task(Calls().call(work, limit=60))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

    asyncio.run(scene(asyncio.Event().wait))


def test_what_was_raised_is_the_cause() -> None:
    """The error tells the kind, and has what was raised behind it."""

    async def fail() -> None:
        raise SystemExit(3)

    with pytest.raises(PluginError, match="SystemExit") as caught:
        asyncio.run(Calls().call(fail, limit=1))
    assert isinstance(caught.value.__cause__, SystemExit)
