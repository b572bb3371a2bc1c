"""Runs the monitors of a configuration on the runtime's event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet

from msgspec import structs

from alarm_mw import monitors
from alarm_mw.config.settings import Watch, asks_for_deaths
from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.master.worker.batch import Batch, Item
from alarm_mw.master.worker.metrics import ledger_metrics
from alarm_mw.model.errors import AlarmError
from alarm_mw.model.interfaces import Monitor, MonitorContext, WatchDeaths, no_deaths
from alarm_mw.model.types import NOWHERE, Record, Report
from alarm_mw.transports.records import RecordMaker
from alarm_mw.transports.wire import MetricChange

log = logging.getLogger(__name__)

#: Seconds until a monitor that failed is run again: at first, and doubling, at most.
PAUSE_FIRST = 1.0
PAUSE_MAX = 60.0

#: Seconds for canceled monitors to end.
STOP_TIMEOUT = 2.0

FindMonitor = Callable[[str], type[Monitor]]


def no_server() -> None:
    """Return None: there is no server but this process."""


class Monitors:
    """Starts and stops them all. Between the runtime's start and its stop."""

    def __init__(
        self,
        watches: Sequence[Watch],
        runtime: Runtime,
        *,
        write_log: Callable[[bytes], None],
        server_pid: Callable[[], int | None] = no_server,
        deaths: WatchDeaths = no_deaths,
        find_monitor: FindMonitor = monitors.find,
        pause: float = PAUSE_FIRST,
    ) -> None:
        self._watches = [*watches]
        self._runtime = runtime
        self._write_log = write_log
        self._server_pid = server_pid
        self._deaths = deaths
        self._find_monitor = find_monitor
        self._pause = pause
        self._records = RecordMaker()
        self._tasks: list[tuple[Watch, asyncio.Task[None]]] = []

    def start(self) -> None:
        """Start a task for each."""
        self._runtime.call(self._start())

    def stop(self) -> None:
        """Cancel the tasks and wait for their ends, for a short time."""
        if self._tasks:
            self._runtime.call(self._stop())

    def exchange(self, watches: Sequence[Watch]) -> None:
        """Run these from now on: those that run already go on, the others are stopped or started."""
        self._runtime.call(self._exchange(watches))

    async def _start(self) -> None:
        self._tasks = [(watch, self._task(watch)) for watch in self._watches]

    async def _stop(self) -> None:
        await _end([task for _, task in self._tasks])

    async def _exchange(self, watches: Sequence[Watch]) -> None:
        running, kept = [*self._tasks], []
        fresh: list[Watch] = []
        for watch in watches:
            same = next((entry for entry in running if _facts(entry[0]) == _facts(watch)), None)
            if same is None:
                fresh.append(watch)
            else:
                running.remove(same)
                kept.append(same)
        await _end([task for _, task in running])
        self._tasks = [*kept, *((watch, self._task(watch)) for watch in fresh)]

    def _task(self, watch: Watch) -> asyncio.Task[None]:
        return asyncio.create_task(self._keep(watch), name=f"alarm-mw-monitor-{watch.monitor}")

    def _monitor(self, watch: Watch) -> Monitor:
        def fire_once(message: bytes, key: str) -> None:
            record = self._record(watch, message)
            record = structs.replace(record, key=key) if key else record
            if watch.incident is None:
                self._runtime.worker.submit(Batch([Item(record, alarm) for alarm in watch.alarms]))
            else:
                self._runtime.worker.submit(Batch([Item(record, report=Report(watch.name, {"": record}))]))

        def fire(message: bytes) -> None:
            fire_once(message, "")

        context = MonitorContext(
            monitor=watch.monitor,
            fire=fire,
            server_pid=self._server_pid,
            write_log=self._write_log,
            metrics=self._metrics,
            add_to_metric=self._add_to_metric,
            fire_once=fire_once,
            deaths=self._deaths,
            report=None if watch.incident is None else _Reporter(watch, self._record, self._runtime.worker.submit),
        )
        return self._find_monitor(watch.monitor)(watch.options, context)

    def _record(self, watch: Watch, message: bytes, value: str = "") -> Record:
        key = watch.options.incident_key
        fields = {"monitor": watch.monitor, **({key: value} if key and value else {})}
        return self._records.make(message, source="monitor", fields=fields)

    async def _keep(self, watch: Watch) -> None:
        """Make a monitor and run it; after an exception do so again, after pauses that grow while it keeps failing."""
        monitor: Monitor | None = None
        pause = self._pause
        while True:
            began = self._runtime.loop.time()
            try:
                monitor = self._monitor(watch) if monitor is None else monitor
                await monitor.run()
            except Exception as error:  # noqa: BLE001  # a monitor is anybody's code, and the others must not notice
                if self._runtime.loop.time() - began > pause:
                    pause = self._pause
                _log_error(watch, error, pause)
            else:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE_MAX)

    def _metrics(self) -> Mapping[str, int]:
        return {**self._runtime.worker.metrics.values(), **ledger_metrics(self._runtime.outbox.ledger.books())}

    def _add_to_metric(self, name: str, value: int) -> None:
        self._runtime.worker.metrics.change([MetricChange(name, value)])


class _Reporter:
    """Reports to the worker what is wrong, at first and on changes: an incident of a former process may be over."""

    def __init__(
        self, watch: Watch, make: Callable[[Watch, bytes, str], Record], submit: Callable[[Batch], None]
    ) -> None:
        self._watch = watch
        self._make = make
        self._submit = submit
        self._told: AbstractSet[str] | None = None

    def __call__(self, wrong: Mapping[str, bytes], over: Mapping[str, bytes]) -> None:
        if wrong.keys() == self._told:
            return
        records = {value: self._make(self._watch, message, value) for value, message in wrong.items()}
        texts = b"; ".join(over[value] for value in sorted((self._told or set()) - wrong.keys()) if value in over)
        record = next(iter(records.values()), None) or self._make(self._watch, texts, "")
        self._told = set(wrong)
        self._submit(Batch([Item(record, report=Report(self._watch.name, records, dict(over)))]))


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=STOP_TIMEOUT)


def _facts(watch: Watch) -> Watch:
    """Return the watch without its place in a file."""
    return structs.replace(watch, where=NOWHERE)


def _log_error(watch: Watch, error: Exception, pause: float) -> None:
    is_expected = isinstance(error, OSError | EOFError | AlarmError)
    text = "%s: the monitor %s failed and is run again in %g s: %s"
    log.warning(text, watch.where, watch.monitor, pause, error, exc_info=None if is_expected else error)


def watchable(watches: Sequence[Watch], available: Collection[int], *, hears_deaths: bool) -> tuple[Watch, ...]:
    """Return the watches without those that this master cannot do; each of these is named in the log.

    `available` are the descriptors that are open here, `hears_deaths` says whether crashes are looked for.
    """
    return tuple(watch for watch in watches if _can_be_watched(watch, available, hears_deaths=hears_deaths))


def _can_be_watched(watch: Watch, available: Collection[int], *, hears_deaths: bool) -> bool:
    missing = sorted(watch.descriptors.difference(available))
    for number in missing:
        log.warning("%s: descriptor %d was not open at the start and is not watched", watch.where, number)
    if not hears_deaths and asks_for_deaths([watch]):
        log.warning("%s: crashes were not asked for at the start and are not watched", watch.where)
        return False
    return not missing
