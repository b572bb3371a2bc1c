"""The event loop of one master, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import TypeVar

from alarm_mw.master.threads import LateExecutor, run_loop, settle_loop, start_thread
from alarm_mw.model.origin import in_alarm_code

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds for the event loop to do what it is asked, where nothing else is said.
CALL_TIMEOUT = 10.0


class LoopThread:
    """Made and ended by its owner; `call` and `spawn` belong to any thread but its own.

    `settle(end)` runs on the loop before it is closed; `end` is when that is to be done, in `time.monotonic`'s seconds.
    """

    def __init__(self, settle: Callable[[float], Awaitable[None]]) -> None:
        self._settle = settle
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(LateExecutor())
        #: By when the thread has to end, in `time.monotonic`'s seconds; None while it is to go on.
        self._end: float | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_started(self) -> bool:
        """Whether there is a thread."""
        return self._thread is not None

    def start(self) -> None:
        """Start the thread."""
        self._thread = start_thread("loop", self._run)

    def call(self, coroutine: Coroutine[None, None, T], timeout: float = CALL_TIMEOUT) -> T:
        """Run a coroutine on the loop, marked as alarm code, and wait for its result.

        Raises `TimeoutError` when it took longer than `timeout` seconds, or the loop has ended.
        """
        context = contextvars.copy_context()
        context.run(in_alarm_code.set, True)  # a ContextVar's value
        try:
            future: Future[T] = context.run(asyncio.run_coroutine_threadsafe, coroutine, self.loop)
        except RuntimeError as error:  # it is closed
            coroutine.close()
            raise TimeoutError("the event loop of the alarms has ended") from error
        try:
            return future.result(timeout)
        except TimeoutError:
            if not self.loop.is_closed():
                future.cancel()
            raise

    def spawn(self, coroutine: Coroutine[None, None, object]) -> None:
        """Run a coroutine on the loop, marked as alarm code, and do not wait; a failure is logged."""
        context = contextvars.copy_context()
        context.run(in_alarm_code.set, True)  # a ContextVar's value
        context.run(asyncio.run_coroutine_threadsafe, _logged(coroutine), self.loop)

    def end(self, deadline: float) -> None:
        """Settle, and end the thread by `deadline`, in `time.monotonic`'s seconds; what blocks it is left behind."""
        self._end = deadline
        with contextlib.suppress(RuntimeError):  # it has ended already
            self.loop.call_soon_threadsafe(self.loop.stop)
        if self._thread is None:
            self.loop.close()
            return
        self._thread.join(max(deadline - time.monotonic(), 0.0))
        if self._thread.is_alive():
            log.warning("an action blocks the event loop of the alarms, which is left behind")

    def _run(self) -> None:
        with contextlib.closing(self.loop):
            try:
                while self._end is None:
                    run_loop(self.loop)
                self.loop.run_until_complete(self._finish(self._end))
            except Exception as error:  # such as descriptors that the application has closed
                log.error("the event loop of the alarms has failed, nothing more is delivered here: %r", error)
                raise

    async def _finish(self, end: float) -> None:
        """Settle what the owner knows of, then whatever else runs on the loop."""
        await self._settle(end)
        await settle_loop(max(end - time.monotonic(), 0.0) / 2)


async def _logged(coroutine: Coroutine[None, None, object]) -> None:
    try:
        await coroutine
    except Exception:  # nobody waits for it
        log.exception("what the master does beside its work has failed")
