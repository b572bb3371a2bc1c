"""Calls the code of a plugin, so that whatever it does stays with the one who called.

A plugin may raise anything, `SystemExit` and `CancelledError` too, return nonsense, or never come back. Each call runs
in a task of its own, which hands what was raised over as a value: nothing of it reaches the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TypeVar

#: How many calls of one plugin may go on beyond their time limit before no further one is made.
MAX_ABANDONED = 4

#: Seconds for a call to end that was told to; no more than its time limit was.
GRACE = 3.0

T = TypeVar("T")


class PluginError(Exception):
    """The plugin's code failed; its cause is what it raised."""


class AbandonedError(Exception):
    """No call is made, since too many earlier ones have not come back."""


@dataclass(slots=True)
class Call:
    """One call, which goes on until its task is done, and the thread that it may have."""

    task: asyncio.Task[object] = field(init=False)
    #: Done when the task is about to be, or when it has taken too long.
    is_over: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    is_in_thread: bool = False
    #: What was raised, whatever it was.
    error: BaseException | None = None

    @classmethod
    def start(cls, function: Callable[..., object], arguments: tuple[object, ...]) -> Call:
        """Call a coroutine function on the running loop, or a plain one, which may block, in a thread."""
        call = cls()
        call.task = asyncio.create_task(call._run(function, arguments))
        return call

    def has_ended(self) -> bool:
        """Return whether nothing of it goes on."""
        return self.task.done() and not self.is_in_thread

    async def _run(self, function: Callable[..., object], arguments: tuple[object, ...]) -> object:
        try:
            if not inspect.iscoroutinefunction(function):
                function, arguments = await self._in_thread(function, arguments), ()
            return await _awaited(function(*arguments))
        except BaseException as error:  # noqa: BLE001  # it belongs to who waits for the call
            self.error = error
            return None
        finally:
            self.stop_waiting()

    def stop_waiting(self) -> None:
        """Let nobody wait any longer."""
        if not self.is_over.done():
            self.is_over.set_result(None)

    async def _in_thread(self, function: Callable[..., object], arguments: tuple[object, ...]) -> Callable[[], object]:
        """Run a function that may block in a thread; return a function that gives its result or raises its error."""
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, context.run, self._block, function, arguments)

    def _block(self, function: Callable[..., object], arguments: tuple[object, ...]) -> Callable[[], object]:
        self.is_in_thread = True
        try:
            result = function(*arguments)
        except BaseException as error:  # noqa: BLE001  # some cannot pass through a future, some would end the loop
            return _Raises(error)
        else:
            return lambda: result
        finally:
            self.is_in_thread = False


@dataclass(frozen=True, slots=True)
class _Raises:
    error: BaseException

    def __call__(self) -> object:
        raise self.error


async def _awaited(result: object) -> object:
    """Return the result; a plain function may return something to wait for."""
    return await result if inspect.isawaitable(result) else result


class Calls:
    """The calls of one plugin. Lives on the event loop."""

    def __init__(self) -> None:
        self._abandoned: list[Call] = []

    @property
    def abandoned(self) -> int:
        """How many calls go on that nobody waits for any more."""
        self._abandoned = [call for call in self._abandoned if not call.has_ended()]
        return len(self._abandoned)

    async def call(self, function: Callable[..., object], *arguments: object, limit: float) -> object:
        """Return what `function` returned: a coroutine function, or a plain one, which runs in a thread and may block.

        Raises `PluginError` from what it raised; `TimeoutError` after `limit` seconds, where the call is
        cancelled and, should it go on for `GRACE` seconds more, abandoned; `AbandonedError` when too many are.
        """
        call = self._start(function, *arguments)
        timer = None if math.isinf(limit) else asyncio.get_running_loop().call_later(limit, call.stop_waiting)
        try:
            await call.is_over  # `asyncio.wait` would take longer than a small call
        finally:
            if timer is not None:
                timer.cancel()
            if is_late := not call.task.done():
                await self._end(call, limit)
        return _result(call, is_late=is_late)

    @contextlib.asynccontextmanager
    async def opened(self, plugin: AbstractAsyncContextManager[T], limit: float) -> AsyncIterator[None]:
        """Keep a plugin open: enter it within `limit` seconds, leave it at the end, both in one task of its own.

        Raises as `call` does when it cannot be entered.
        """
        over = asyncio.Event()
        call = await self._enter(plugin, over, limit)
        try:
            yield
        finally:
            over.set()
            await asyncio.wait({call.task}, timeout=GRACE)
            await self._end(call, GRACE)

    async def _enter(self, plugin: AbstractAsyncContextManager[T], over: asyncio.Event, limit: float) -> Call:
        """Return the call that keeps the plugin open until `over`."""
        is_open: asyncio.Future[object] = asyncio.get_running_loop().create_future()

        async def live() -> None:
            async with plugin:
                is_open.set_result(None)
                await over.wait()

        call = self._start(live)
        try:
            await asyncio.wait({call.task, is_open}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        finally:
            is_late = not is_open.done()
            if is_late:
                over.set()
                await self._end(call, limit)
        if is_late:
            _result(call, is_late=True)
            raise TimeoutError
        return call

    def _start(self, function: Callable[..., object], *arguments: object) -> Call:
        if self.abandoned >= MAX_ABANDONED:
            raise AbandonedError(f"{MAX_ABANDONED} earlier calls have not come back")
        return Call.start(function, arguments)

    async def _end(self, call: Call, limit: float) -> None:
        """Cancel a call, wait for its end, and take note of it where that does not come."""
        if not call.task.done():
            call.task.cancel()
            await asyncio.wait({call.task}, timeout=min(limit, GRACE))
        if not call.has_ended():
            self._abandoned.append(call)


def _result(call: Call, *, is_late: bool) -> object:
    if not call.task.done() or (is_late and isinstance(call.error, asyncio.CancelledError)):
        raise TimeoutError
    if call.error is not None:
        raise PluginError(type(call.error).__name__) from call.error
    return call.task.result()
