"""Runs actions of other packages apart from our own, so that they cannot block other lanes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable
from concurrent.futures import Future
from typing import Self

from alarm_mw.delivery.calls import Call
from alarm_mw.master.runtime.threads import LateExecutor, run_loop, settle_loop, start_thread
from alarm_mw.model.interfaces import Action
from alarm_mw.model.types import Firing

#: Seconds for what is left on the loop to end.
SETTLE_TIMEOUT = 2.0

#: Seconds between checks of a thread that outlives its call.
LOOK = 0.05


class ForeignAction:
    """Runs an action on an event loop in a thread of its own: if it blocks there, only its own lane waits."""

    def __init__(self, action: Action, alarm: str) -> None:
        self.concurrency = action.concurrency
        self._action = action
        self._name = f"plugin-{alarm}"

    async def __aenter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(LateExecutor())
        start_thread(self._name, functools.partial(_work, self._loop))
        try:
            await self._call(self._action.__aenter__)
        except BaseException:
            self._end()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            await self._call(self._action.__aexit__, *exc)
        finally:
            self._end()

    def _end(self) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended: this action was left behind
            self._loop.call_soon_threadsafe(self._loop.stop)

    async def deliver(self, firing: Firing) -> object:
        """Deliver by the action."""
        return await self._call(self._action.deliver, firing)

    async def _call(self, function: Callable[..., object], *arguments: object) -> object:
        """Call on the other loop; cancelling cancels there, and waits until the call has ended."""
        started: Future[Call] = Future()
        ended: Future[Call] = Future()
        self._loop.call_soon_threadsafe(_begin, function, arguments, started, ended)
        outcome = asyncio.wrap_future(ended)
        try:
            call = await asyncio.shield(outcome)
        except asyncio.CancelledError:
            started.add_done_callback(lambda _: self._loop.call_soon_threadsafe(started.result().task.cancel))
            await outcome
            raise
        if call.error is not None:
            raise call.error
        return call.task.result()


def _work(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop until it is stopped; then end what is left on it."""
    run_loop(loop)
    with contextlib.closing(loop):
        loop.run_until_complete(settle_loop(SETTLE_TIMEOUT))


def _begin(
    function: Callable[..., object], arguments: tuple[object, ...], started: Future[Call], ended: Future[Call]
) -> None:
    call = Call.start(function, arguments)
    call.task.add_done_callback(lambda _: _finish(call, ended))
    started.set_result(call)


def _finish(call: Call, ended: Future[Call]) -> None:
    """Set `ended` once the call has ended: a thread may continue after its task."""
    if call.has_ended():
        with contextlib.suppress(Exception):  # it is not awaited any more
            ended.set_result(call)
    else:
        asyncio.get_running_loop().call_later(LOOK, _finish, call, ended)
