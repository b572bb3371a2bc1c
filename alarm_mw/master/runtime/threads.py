"""The threads of a master, and the event loop that runs in one of them."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from alarm_mw.model.origin import in_alarm_code

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds for a thread to start.
START_LIMIT = 5.0

#: How many blocking calls may be under way at once.
MAX_BLOCKING = 32


class _Started(threading.Event):
    """What `threading.Thread.start` waits for without a limit, with one."""

    def wait(self, timeout: float | None = None) -> bool:
        if not super().wait(START_LIMIT if timeout is None else timeout):
            raise RuntimeError(f"a thread has not started within {START_LIMIT:g} s; there may be no memory for it")
        return True


class _Thread(threading.Thread):
    """A thread whose `start` raises an exception, rather than hangs, if the thread ends before its first statement.

    Without memory for the frame of a function, it does (https://github.com/python/cpython/issues/140746).
    """

    def __init__(self, name: str, target: Callable[[Callable[[], object]], object], call: Callable[[], object]) -> None:
        super().__init__(target=target, args=(call,), name=name, daemon=True)
        self._started = _Started()


def start_thread(name: str, target: Callable[[], object]) -> threading.Thread:
    """Start a daemon thread that is marked as alarm code, and return it.

    Daemon, since `threading` joins the others before ``atexit`` runs, where the last alarms are still delivered.
    Raises `RuntimeError` where the thread cannot be started, at the latest after `START_LIMIT` seconds.
    """
    context = contextvars.Context()
    context.run(in_alarm_code.set, True)  # a ContextVar's value
    thread = _Thread(f"alarm-mw-{name}", context.run, target)
    thread.start()
    return thread


def run_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Run `loop` in this thread until it is stopped, even where anybody's code on it raises what would end it."""
    asyncio.set_event_loop(loop)
    while True:
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            log.exception("something tried to end the event loop of %s, which goes on", threading.current_thread().name)
        else:
            return


async def settle_loop(timeout: float) -> None:
    """Cancel what runs on the loop besides this, and let it finish, for at most `timeout` seconds."""
    if others := [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]:
        for task in others:
            task.cancel()
        await asyncio.wait(others, timeout=timeout)
    await asyncio.get_running_loop().shutdown_asyncgens()


class LateExecutor(ThreadPoolExecutor):
    """An executor that still takes work while the interpreter exits, as the standard one refuses to.

    asyncio resolves host names in it, and blocking actions run in it: both must go on for the last alarms. Each call
    has a thread of its own, at most `MAX_BLOCKING` at once.
    """

    def __init__(self) -> None:
        super().__init__(max_workers=1)
        self._places = threading.BoundedSemaphore(MAX_BLOCKING)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn` in a thread."""
        future: Future[T] = Future()
        start_thread("blocking", lambda: self._run(future, lambda: fn(*args, **kwargs)))
        return future

    def _run(self, future: Future[T], call: Callable[[], T]) -> None:
        with self._places:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001  # it belongs to who waits for the future
                future.set_exception(error)
            else:
                future.set_result(result)


#: Seconds for the event loop to do what it is asked, where nothing else is said.
CALL_TIMEOUT = 10.0


class LoopThread:
    """Made and ended by its owner; `call` and `spawn` belong to any thread but its own.

    `settle(end)` runs on the loop before it is closed; `end` is when that is to be done, in `time.monotonic`'s seconds.
    """

    def __init__(self, settle: Callable[[float], Awaitable[None]], name: str = "loop") -> None:
        self._settle = settle
        self._name = name
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
        self._thread = start_thread(self._name, self._run)

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
