"""The runtime: outbox, engine, worker thread and event loop of one master, wired and run."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Literal, TypeVar

from alarm_mw.actions import registry
from alarm_mw.config.build import engine_of
from alarm_mw.config.settings import Alarm, Settings
from alarm_mw.delivery.dispatcher import Dispatcher, Route
from alarm_mw.delivery.outbox import Outbox
from alarm_mw.engine.ledger import Books
from alarm_mw.interfaces import Action, ActionContext
from alarm_mw.master.batch import Batch
from alarm_mw.master.threads import LateExecutor, start_thread
from alarm_mw.master.worker import Worker
from alarm_mw.transports.origin import in_alarm_code
from alarm_mw.types import Reason

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds to wait for a thread that has nothing left to do.
JOIN_TIMEOUT = 5.0

FindAction = Callable[[str], type[Action]]


class Runtime:
    """Runs a configuration. `start` and `stop` belong to its owner; `submit` may be called from anywhere."""

    def __init__(
        self,
        settings: Settings,
        *,
        outbox: Path | Literal[":memory:"] = ":memory:",
        write_log: Callable[[bytes], None],
        server_pid: int | None = None,
        find_action: FindAction = registry.find,
    ) -> None:
        self._settings = settings
        self._write_log = write_log
        self._server_pid = server_pid
        self._find_action = find_action
        self._is_durable = outbox != ":memory:"
        self.outbox = Outbox(outbox)
        engine = engine_of(settings)
        #: Tells which rules may match a line.
        self.screen = engine.screen
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(LateExecutor())
        self._loop_thread: threading.Thread | None = None
        self._dispatcher: Dispatcher | None = None
        self._worker = Worker(engine, self.outbox, self._wake)

    def start(self) -> None:
        """Start the threads; deliver what waits in the outbox since earlier."""
        self._loop_thread = start_thread("loop", self._run_loop)
        self.call(self._start_dispatcher())
        self._worker.start()

    def submit(self, batch: Batch) -> None:
        """Give a batch to the worker; returns at once."""
        self._worker.submit(batch)

    def backlog(self) -> int:
        """Return about how many batches wait for the worker."""
        return self._worker.backlog()

    def books(self) -> tuple[Books, dict[str, int]]:
        """Return the ledger, and how many firings of each alarm really wait in the outbox."""
        return self.outbox.ledger.books(), self.outbox.count_waiting()

    def stop(self, timeout: float) -> bool:
        """Work off what was submitted, deliver what can be delivered, and end.

        Takes about `timeout` seconds at most. Returns whether everything was delivered; what was not stays in a
        durable outbox for the next start.
        """
        worked_off = self._worker.stop(timeout)
        delivered = self.call(self._drain(timeout)) if worked_off else False
        self.call(self._stop_dispatcher())
        self._end_loop()
        if not self._is_durable:
            for alarm, n in self.outbox.drop_waiting(Reason.SHUTDOWN).items():
                log.warning("alarm %s: %d firings were not delivered before the end", alarm, n)
        self.outbox.close()
        return delivered

    async def _start_dispatcher(self) -> None:
        routes = {alarm.name: Route(self._action(alarm), alarm.delivery) for alarm in self._settings.alarms}
        self._dispatcher = Dispatcher(self.outbox, routes)
        self._dispatcher.start()

    def _action(self, alarm: Alarm) -> Action:
        context = ActionContext(alarm.name, self._write_log, self._server_pid)
        return self._find_action(alarm.plugin)(alarm.options, context)

    def _wake(self, alarms: Iterable[str]) -> None:
        if self._dispatcher is not None:
            self._dispatcher.submit(alarms)

    async def _drain(self, timeout: float) -> bool:
        assert self._dispatcher is not None
        return await self._dispatcher.drain(timeout, wait_for_retries=not self._is_durable)

    async def _stop_dispatcher(self) -> None:
        assert self._dispatcher is not None
        await self._dispatcher.stop()

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def call(self, coroutine: Coroutine[None, None, T]) -> T:
        """Run a coroutine on the loop, marked as alarm code, and wait for its result."""
        context = contextvars.copy_context()
        context.run(in_alarm_code.set, True)  # a ContextVar's value
        future: Future[T] = context.run(asyncio.run_coroutine_threadsafe, coroutine, self.loop)
        return future.result()

    def _end_loop(self) -> None:
        self.call(_settle_loop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        if self._loop_thread is not None:
            self._loop_thread.join(JOIN_TIMEOUT)
        with contextlib.suppress(RuntimeError):  # still running: a blocking call in it does not end
            self.loop.close()


async def _settle_loop() -> None:
    """Cancel what runs on the loop besides this, and let it finish."""
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
