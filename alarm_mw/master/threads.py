"""Threads that work until the very end of the interpreter."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from alarm_mw.model.origin import in_alarm_code

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

#: How many blocking calls may be under way at once.
MAX_BLOCKING = 32


def start_thread(name: str, target: Callable[[], object]) -> threading.Thread:
    """Start a daemon thread that is marked as alarm code, and return it.

    Daemon, since `threading` joins the others before ``atexit`` runs, where the last alarms are still delivered.
    """
    context = contextvars.Context()
    context.run(in_alarm_code.set, True)  # a ContextVar's value
    thread = threading.Thread(target=context.run, args=(target,), name=f"alarm-mw-{name}", daemon=True)
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
