"""Calls of an action that does what it should not, without a lane around them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any, Self

import pytest
from plain_action import PlainAction
from waiting import until

from alarm_mw.delivery.calls import MAX_ABANDONED, Calls
from alarm_mw.model.errors import ActionError
from alarm_mw.model.types import Firing, Record

FIRING = Firing("1", "a", b"x\n", Record(b"x\n", "stdout", 1.0, "k"), 1.0)


class Scripted(PlainAction):
    """An action that delivers by a function."""

    def __init__(self, deliver: Callable[[Firing], object]) -> None:
        self.deliver: Any = deliver  # a plugin's may be any function


def calls(function: Callable[[Firing], object], limit: float = 60.0) -> Calls:
    return Calls("a", Scripted(function), limit)


def test_too_many_abandoned_calls_are_the_last() -> None:
    """While this many calls have not come back, no further one is made; one that comes back makes room."""
    release = threading.Event()

    async def hang(hanging: Calls, begun: asyncio.Event) -> None:
        call = asyncio.create_task(hanging.deliver(FIRING))
        await begun.wait()
        begun.clear()
        call.cancel()
        await asyncio.wait({call})

    async def scene() -> None:
        loop, begun = asyncio.get_running_loop(), asyncio.Event()

        def wait(_: Firing) -> None:
            loop.call_soon_threadsafe(begun.set)
            release.wait()

        hanging = calls(wait)
        for number in range(MAX_ABANDONED):
            assert hanging.abandoned == number
            await hang(hanging, begun)
        with pytest.raises(ActionError, match="not tried: 4 earlier calls have not come back"):
            await hanging.deliver(FIRING)
        release.set()
        await until(lambda: not hanging.abandoned)
        await hanging.deliver(FIRING)

    asyncio.run(scene())


def test_what_is_done_while_it_is_cancelled_counts(caplog: pytest.LogCaptureFixture) -> None:
    """A call that finishes what it was doing when its time is over has succeeded."""

    async def finish(_: Firing) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done"
        return "never"

    asyncio.run(calls(finish, limit=0.01).deliver(FIRING))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "the action returned str, expected None" in caplog.text


class Stubborn(Scripted):
    """Opens only after it was cancelled."""

    def __init__(self) -> None:
        super().__init__(lambda _: None)
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
            async with Calls("a", plugin, 0.01).opened():
                pytest.fail("it was not open in time")
        assert plugin.is_closed

    asyncio.run(scene())


def test_cancelling_the_caller_ends_the_call() -> None:
    """When the lane is stopped, the plugin's coroutine is cancelled, and waited for."""

    async def scene() -> None:
        ended = asyncio.Event()

        async def work(_: Firing) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        task = asyncio.create_task(calls(work).deliver(FIRING))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

    asyncio.run(scene())


def test_what_was_raised_is_the_cause() -> None:
    """The error tells the kind, and has what was raised behind it."""

    async def fail(_: Firing) -> None:
        raise SystemExit(3)

    with pytest.raises(ActionError, match="the action raised SystemExit") as caught:
        asyncio.run(calls(fail, limit=1).deliver(FIRING))
    assert isinstance(caught.value.__cause__, SystemExit)
