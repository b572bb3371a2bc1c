"""Calls an action so that only `ActionError` leaves the call, whatever the plugin does.

A plugin may raise anything, `SystemExit` and `CancelledError` too, return something unexpected, or never return. Each
call runs in a task of its own, which passes on what was raised as a value: nothing of it reaches the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import inspect
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from alarm_mw.model.errors import ActionError
from alarm_mw.model.interfaces import Action
from alarm_mw.model.types import Firing

log = logging.getLogger(__name__)

#: How many calls of one plugin may continue beyond their time limit before no further call is made.
MAX_ABANDONED = 4

#: Seconds for a cancelled call to end, at most its time limit.
GRACE = 3.0

#: Seconds for an action to open, where attempts have no time limit.
OPENING = 30.0

#: Errors of a system that is short of a resource: retrying helps, and the plugin is not at fault.
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOBUFS, errno.ENOSPC})


class PluginError(Exception):
    """The plugin's code failed; the cause is the error that it raised."""


@dataclass(slots=True)
class Call:
    """One call, which continues until its task is done, and so does its thread, if it has one."""

    task: asyncio.Task[object] = field(init=False)
    #: Done when the task is about to be done, or has taken too long.
    is_over: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    is_in_thread: bool = False
    #: The error that was raised, of any kind.
    error: BaseException | None = None

    @classmethod
    def start(cls, function: Callable[..., object], arguments: tuple[object, ...]) -> Call:
        """Call a coroutine function on the running loop, or a plain function, which may block, in a thread."""
        call = cls()
        call.task = asyncio.create_task(call._run(function, arguments))
        return call

    def has_ended(self) -> bool:
        """Return whether neither the task nor the thread is running."""
        return self.task.done() and not self.is_in_thread

    async def _run(self, function: Callable[..., object], arguments: tuple[object, ...]) -> object:
        try:
            if not inspect.iscoroutinefunction(function):
                function, arguments = await self._in_thread(function, arguments), ()
            result = function(*arguments)
            return await result if inspect.isawaitable(result) else result
        except BaseException as error:  # noqa: BLE001  # it belongs to the caller
            self.error = error
            return None
        finally:
            self.stop_waiting()

    def stop_waiting(self) -> None:
        """Wake the caller."""
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

    def has_timed_out(self, *, is_late: bool) -> bool:
        """Return whether it had to be cancelled, and did not finish all the same."""
        return not self.task.done() or (is_late and isinstance(self.error, asyncio.CancelledError))


@dataclass(frozen=True, slots=True)
class _Raises:
    error: BaseException

    def __call__(self) -> object:
        raise self.error


class Calls:
    """The calls of one alarm's action. Lives on the event loop. `limit` is in seconds; 0 is no limit."""

    def __init__(self, alarm: str, action: Action, limit: float) -> None:
        self._alarm = alarm
        self._action = action
        self._limit = limit or math.inf
        #: When those under way were started, in seconds since the epoch.
        self._begun: list[float] = []
        self._abandoned: list[Call] = []
        self._is_result_reported = False

    @property
    def since(self) -> float | None:
        """When the oldest attempt under way was started, in seconds since the epoch; None where there is none."""
        return min(self._begun, default=None)

    @property
    def abandoned(self) -> int:
        """The number of abandoned calls that still continue."""
        self._abandoned = [call for call in self._abandoned if not call.has_ended()]
        return len(self._abandoned)

    async def deliver(self, firing: Firing) -> None:
        """Deliver within the time limit, or raise `ActionError`.

        A call that does not return in time is cancelled; one that continues for `GRACE` seconds more is abandoned.
        """
        is_late, now = False, time.time()
        call = self._start(self._action.deliver, firing)
        timer = self._timer(call)
        self._begun.append(now)
        try:
            await call.is_over  # `asyncio.wait` would take longer than a small call
        finally:
            if timer is not None:
                timer.cancel()
            if is_late := not call.task.done():
                await self._end(call, self._limit)
            self._begun.remove(now)
        self._check(call, is_late=is_late)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Keep the action open while the context lasts: enter and leave it in one task of its own.

        Raises `PluginError` from the error that entering it raised, `TimeoutError` where that takes too long, or
        `ActionError` where too many calls are abandoned.
        """
        over = asyncio.Event()
        call = await self._enter(over, min(self._limit, OPENING))
        try:
            yield
        finally:
            over.set()
            await asyncio.wait({call.task}, timeout=GRACE)
            await self._end(call, GRACE)

    async def _enter(self, over: asyncio.Event, limit: float) -> Call:
        """Return the call that keeps the action open until `over`."""
        is_open: asyncio.Future[object] = asyncio.get_running_loop().create_future()

        async def live() -> None:
            async with self._action:
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
            if call.error is not None and not call.has_timed_out(is_late=True):
                raise PluginError(type(call.error).__name__) from call.error
            raise TimeoutError
        return call

    def _timer(self, call: Call) -> asyncio.TimerHandle | None:
        return (
            None if math.isinf(self._limit) else asyncio.get_running_loop().call_later(self._limit, call.stop_waiting)
        )

    def _start(self, function: Callable[..., object], *arguments: object) -> Call:
        if self.abandoned >= MAX_ABANDONED:
            raise ActionError(f"not tried: {MAX_ABANDONED} earlier calls have not come back", retry=True)
        return Call.start(function, arguments)

    async def _end(self, call: Call, limit: float) -> None:
        """Cancel a call and wait for its end; abandon it where it does not end."""
        if not call.task.done():
            call.task.cancel()
            await asyncio.wait({call.task}, timeout=min(limit, GRACE))
        if not call.has_ended():
            self._abandoned.append(call)

    def _check(self, call: Call, *, is_late: bool) -> None:
        """Raise `ActionError` where the call has failed."""
        if call.has_timed_out(is_late=is_late):
            if n := self.abandoned:
                text = "alarm %s: a call continues beyond its time limit and is abandoned (%d of at most %d)"
                log.error(text, self._alarm, n, MAX_ABANDONED)
            raise ActionError(f"not done within {self._limit:g} seconds (attempt_timeout)", retry=True)
        if isinstance(call.error, ActionError):
            raise call.error
        if call.error is not None:
            raise self._explained(call.error) from call.error
        if (result := call.task.result()) is not None and not self._is_result_reported:
            self._is_result_reported = True
            text = "alarm %s: the action returned %s, expected None; it counts as delivered, ActionError would not"
            log.warning(text, self._alarm, type(result).__name__)

    def _explained(self, error: BaseException) -> ActionError:
        """Return an `ActionError` for an error that an action should not raise."""
        text = f"the action raised {type(error).__name__}"
        if isinstance(error, TimeoutError):
            return ActionError(text, retry=True)
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _SHORTAGES):
            return ActionError(f"{text}: {error}", retry=True)
        # A plugin's mistake affects only its own lane.
        log.error("alarm %s: unexpected exception in action", self._alarm, exc_info=error)
        return ActionError(text, retry=False)
