"""The runtime: outbox, engine, worker thread and event loop of one master, wired and run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from msgspec import structs

from alarm_mw import actions
from alarm_mw.config.build import engine_of, has_incidents
from alarm_mw.config.settings import Alarm, Settings, limits_of
from alarm_mw.delivery.dispatcher import Dispatcher, Route
from alarm_mw.delivery.last_deliveries import LastDeliveries
from alarm_mw.delivery.outbox.checkpointer import Checkpointer
from alarm_mw.delivery.outbox.journal import Journal
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.delivery.outbox.under_way import UnderWay
from alarm_mw.engine.engine import Engine
from alarm_mw.engine.flood_control.limits import read_duration, read_rate
from alarm_mw.engine.flood_control.silences import Silence
from alarm_mw.engine.ledger import Books
from alarm_mw.engine.memory import Memory
from alarm_mw.master.mules.subscribers import Subscribers
from alarm_mw.master.runtime.making import make_action, place_of
from alarm_mw.master.runtime.own_alarms import OwnAlarms
from alarm_mw.master.runtime.threads import CALL_TIMEOUT, LoopThread, start_thread
from alarm_mw.master.worker.batch import Batch, Item
from alarm_mw.master.worker.metrics import Metrics
from alarm_mw.master.worker.worker import Worker, read_memory
from alarm_mw.model.interfaces import Action, ActionContext, HandOver, no_hub
from alarm_mw.model.measures import ALERT, HEARTBEAT, ExternalAlert, ExternalAlerts, Heartbeat
from alarm_mw.model.types import NOWHERE, Firing, Reason, Rule
from alarm_mw.patterns.prefilter import Prefilter
from alarm_mw.system.forks import held_off
from alarm_mw.transports.records import RecordMaker, to_bytes

if TYPE_CHECKING:  # few configurations have incidents, or a fleet
    from alarm_mw.engine.incidents.incidents import Incidents
    from alarm_mw.engine.incidents.measures.heartbeat import Beat
    from alarm_mw.master.runtime.membership import Join, Member, Membership
    from alarm_mw.master.worker.incident_keeper import IncidentKeeper
    from alarm_mw.model.fleet import FleetHistory, FleetOverview, FleetRecord, FleetState, SharedOrder

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds for the actions to be created.
START_TIMEOUT = 60.0

#: Seconds beyond the time limit of `Runtime.stop` for actions, threads and files to be closed.
GRACE = 1.0

#: What the log says of firings without a lane: how many, and of which alarm.
ORPHANED = (
    "%d firings wait for the alarm %r, which is not configured any more; `alarm-mw dead retry --waiting --alarm %s "
    "--as OTHER` has another one deliver them"
)

FindAction = Callable[[str], type[Action]]

#: Alarms and how they are delivered, by name.
Routed = Mapping[str, tuple[Alarm, Route]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A configuration that is ready to take over."""

    settings: Settings
    engine: Engine
    alarms: Routed


class Runtime:
    """Runs a configuration. `start` and `stop` belong to its owner; `submit` may be called from anywhere."""

    def __init__(
        self,
        settings: Settings,
        *,
        outbox: Path | Literal[":memory:"] = ":memory:",
        write_log: Callable[[bytes], None],
        write_log_at_once: Callable[[bytes], bool] = lambda _: False,
        server_pid: Callable[[], int | None] = lambda: None,
        subscribers: Subscribers | None = None,
        metrics: Metrics | None = None,
        find_action: FindAction = actions.find,
        retired: Sequence[Alarm] = (),
        journal: Journal | None = None,
        under_way: UnderWay | None = None,
        name: str = "",
        assembles: bool = False,
        link_key: Callable[[], bytes] = bytes,
        wall: Callable[[], float] = time.time,
        join: Join | None = None,
        hand_over: HandOver = no_hub,
        last_lines: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        """`join` makes a member of a fleet; without it, `[fleet]` is ignored. `last_lines` are what it may be shown.

        `hand_over` leaves messages to the hub of a fleet that this master does not join.
        """
        self._wall = wall
        #: The place in a fleet; None as long as no settings have named one.
        self._membership: Membership | None = None
        self._join = join
        self._leave_to_hub = hand_over
        self._last_lines = last_lines
        self._link_key = link_key
        self._records = RecordMaker()
        #: Its lines of output come from readers with a `BlockAssembler`.
        self._assembles = assembles
        #: The server's name, as long as it runs.
        self.name = name or settings.name
        #: By `time.monotonic`.
        self.started = time.monotonic()
        self._find_action = find_action
        self._write_log = write_log
        self._write_log_at_once = write_log_at_once
        self._server_pid = server_pid
        self._subscribers = subscribers
        alarms, former = (self._routed(each, settings) for each in (settings.alarms, retired))
        self.outbox = Outbox(outbox, journal=journal)
        self.outbox.limit(settings.outbox)
        if under_way is not None:
            self.outbox.resume(under_way)
        #: Works for an outbox with a file.
        self.checkpointer = Checkpointer(Path(self.outbox.path))
        self._checkpointing: threading.Thread | None = None
        #: Writes incidents down; None as long as there are none.
        self._incidents: IncidentKeeper | None = None
        #: The configuration in force.
        self._current = Prepared(settings, self._engine(settings, read_memory(self.outbox)), alarms)
        self._current.engine.count_undelivered(self.outbox.count_waiting(), time.monotonic())
        #: Its methods belong on the event loop.
        self.dispatcher = Dispatcher(self.outbox, _routes(alarms), _routes(former))
        #: Alarms that have left the configuration, by name.
        self._former = {name: alarm for name, (alarm, _) in former.items()}
        self._thread = LoopThread(self._settle)
        self.loop = self._thread.loop
        #: Takes batches from any thread.
        self.worker = Worker(self._current.engine, self.outbox, self.dispatcher.offer, metrics, self._report_loss)
        self.worker.incidents = self._incidents
        #: Notifies people of what is wrong with the program itself.
        self.own_alarms = OwnAlarms(self.worker.submit, settings.own_alarms)
        #: When each alarm last delivered something, where `[drill]` asks for it.
        self.last_deliveries = LastDeliveries(self.outbox)
        self._watch_deliveries(settings)
        self.outbox.on_fault = self._report_fault
        self.outbox.on_arrival = self.dispatcher.wake
        self.outbox.has_lane = lambda alarm: alarm in self.dispatcher.names()
        self.outbox.on_cancel = lambda firing: self.worker.submit(
            Batch(order=lambda incidents: incidents.forget_notification(firing))
        )

    def _watch_deliveries(self, settings: Settings) -> None:
        try:
            self.last_deliveries.watch([alarm.name for alarm in settings.alarms], settings.drill.seconds)
        except sqlite3.Error as error:  # it is tried again when the configuration is read again
            log.error("when alarms last delivered something is not known: %s", error)

    def start(self) -> None:
        """Start the threads; deliver what waits in the outbox since earlier."""
        if self.outbox.has_file:
            self._checkpointing = start_thread("checkpointer", self.checkpointer.run)
            self.outbox.on_growth = self.checkpointer.request
            self.outbox.on_replacement = self.checkpointer.renew
        self._thread.start()
        self.call(self._start_lanes(), START_TIMEOUT)
        self.worker.start()
        if self.outbox.fault:
            self.own_alarms.fire(self.outbox.fault, "outbox")
        for name, n in self.outbox.count_waiting().items():
            if name not in self.dispatcher.names():
                log.warning(ORPHANED, n, name, name)

    @property
    def prefilter(self) -> Prefilter:
        """The prefilter of the rules in force."""
        return self._current.engine.prefilter

    @property
    def engine(self) -> Engine:
        """The engine in force. Other threads than the worker's may only ask it what says so."""
        return self._current.engine

    @property
    def retired(self) -> tuple[Alarm, ...]:
        """The alarms that have left the configuration, and still deliver what was fired before."""
        return tuple(self._former[name] for name in self.dispatcher.retired)

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._current.settings

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in force."""
        return self._current.settings.rules

    @property
    def alarm_names(self) -> tuple[str, ...]:
        """The alarms that are configured, with those that were left out."""
        settings = self._current.settings
        return (*(alarm.name for alarm in settings.alarms), *settings.left_out)

    def prepare(self, settings: Settings) -> Prepared:
        """Create what a new configuration needs, while the present one continues; takes seconds for thousands of rules.

        Alarms that have not changed keep their actions, with the connections that these hold. What was fired and held
        back so far is remembered. Raises `ConfigError` where an action cannot be made.
        """
        before = self._current.alarms if _surroundings(settings) == _surroundings(self._current.settings) else {}
        kept = {alarm.name: (alarm, before[alarm.name][1]) for alarm in settings.alarms if _is_same(alarm, before)}
        made = self._routed([alarm for alarm in settings.alarms if alarm.name not in kept], settings)
        return Prepared(settings, self._engine(settings, self._current.engine.memory), {**made, **kept})

    def _engine(self, settings: Settings, memory: Memory) -> Engine:
        """Return an engine with incidents, where its rules have some or an earlier engine's had."""
        is_shared = self._join is not None and settings.fleet is not None
        if self._incidents is None and (is_shared or has_incidents(settings) or self.outbox.has_incidents()):
            with held_off():
                from alarm_mw.master.worker.incident_keeper import IncidentKeeper  # noqa: PLC0415  # few have some
            self._incidents = IncidentKeeper(self.outbox)
            self._incidents.on_order = self.share_order
        if self._incidents is not None:
            self._incidents.history_days = settings.history.days
        clock = None if self._incidents is None else self._incidents.clock
        return engine_of(settings, memory, clock, assembles=self._assembles, wall=self._wall)

    def exchange(self, fresh: Prepared) -> None:
        """Replace the present configuration. Not on the event loop; waits for the present batch.

        Each record is evaluated by the old rules or by the new ones, and every firing has a lane. Alarms that leave the
        configuration deliver what they have. Raises `TimeoutError` where the event loop is blocked: then the
        present one stays.
        """
        self._former |= {name: alarm for name, (alarm, _) in {**self._current.alarms, **fresh.alarms}.items()}
        try:
            self.call(self.dispatcher.exchange(_routes(fresh.alarms)))
        except TimeoutError:
            self.spawn(self._keep_lanes(_routes(self._current.alarms)))  # in case it was exchanged at the last moment
            raise
        self._current = fresh
        self.worker.incidents = self._incidents
        self.worker.exchange(fresh.engine, CALL_TIMEOUT)
        self.outbox.limit(fresh.settings.outbox)
        self._watch_deliveries(fresh.settings)
        self.own_alarms.names = fresh.settings.own_alarms
        self.spawn(self._follow_fleet(fresh.settings))
        self.spawn(self.dispatcher.settle())

    async def _keep_lanes(self, routes: Mapping[str, Route]) -> None:
        await self.dispatcher.exchange(routes)
        await self.dispatcher.settle()

    def _report_fault(self, text: str, key: str) -> None:
        """Report a fault of the outbox, and have the worker try its file again."""
        self.own_alarms.fire(text, key)
        self.worker.submit(Batch())

    def _report_loss(self, n: int) -> None:
        self.own_alarms.fire(f"{n} firings were lost, since the outbox could not be written", "loss")

    @property
    def incident_clock(self) -> Callable[[], float] | None:
        """What incidents go by; None where there are none."""
        return None if self._incidents is None else self._incidents.clock

    @property
    def ack_expire(self) -> float:
        """Seconds for which an acknowledgement lasts where nothing else is said."""
        return read_duration(self._current.settings.ack.expire)

    def order(self, order: Callable[[Incidents], Sequence[Firing]]) -> bool:
        """Have something done to incidents; return whether that was done in time, and there can be any.

        From any thread but the loop's; waits for batches that came before, for at most `CALL_TIMEOUT` seconds.
        """
        if self._incidents is None:
            return False
        done = threading.Event()
        self.worker.submit(Batch(order=order, done=done.set))
        return done.wait(CALL_TIMEOUT)

    def advance(self, seconds: float) -> None:
        """Advance the clocks of incidents and of flood control by `seconds` at once, as in tests.

        In the worker's thread.
        """
        if self._incidents is not None:
            self._incidents.clock.advance(seconds)
        self._current.engine.memory.offset += seconds

    def heartbeat(self, beat: Beat) -> bool:
        """Take a heartbeat in; return whether a monitor expects one of its name.

        Raises `ValueError` with a sentence for people, and `TimeoutError`. From any thread but the loop's; waits until
        it is written down, for at most `CALL_TIMEOUT` seconds.
        """
        record = self._records.make(to_bytes(f"{beat.name}\n"), source=HEARTBEAT, fields=beat.fields())
        done = threading.Event()
        self.worker.submit(Batch([Item(record)], done=done.set))
        if not done.wait(CALL_TIMEOUT):
            raise TimeoutError("the rules were not through with earlier lines in time")
        measures = (rule.measure for rule in self._current.settings.incident_rules)
        return any(isinstance(measure, Heartbeat) and measure.takes(beat.name) for measure in measures)

    def receive(self, alerts: Sequence[ExternalAlert]) -> list[str]:
        """Take alerts of another program in; return the names of those that no monitor takes.

        Raises `TimeoutError`. From any thread but the loop's; waits until they are written down, for at most
        `CALL_TIMEOUT` seconds.
        """
        items = [
            Item(self._records.make(to_bytes(f"{alert.text}\n"), source=ALERT, fields=alert.annotations), alert=alert)
            for alert in alerts
        ]
        done = threading.Event()
        self.worker.submit(Batch(items, done=done.set))
        if not done.wait(CALL_TIMEOUT):
            raise TimeoutError("the rules were not through with earlier lines in time")
        rules = self._current.settings.incident_rules
        takers = {rule.name: rule.measure for rule in rules if isinstance(rule.measure, ExternalAlerts)}
        names = dict.fromkeys(alert.name for alert in alerts)
        return [name for name in names if name not in takers and not any(each.takes(name) for each in takers.values())]

    async def _obey(self, text: str, by: str, sent: float | None) -> str:
        """Carry out what somebody has written about incidents, and return what to answer; on the event loop."""
        return await asyncio.to_thread(self._carry_out, text, by, sent)

    def _carry_out(self, text: str, by: str, sent: float | None) -> str:
        from alarm_mw.engine.incidents.chat import Answer, Author, carry_out, parse  # noqa: PLC0415  # few write any

        order, answer = parse(text), Answer("there are no incidents here")
        if order is None:
            return ""

        def carry(incidents: Incidents) -> Sequence[Firing]:
            nonlocal answer
            answer = carry_out(incidents, order, Author(by, sent), self.ack_expire)
            return answer.firings

        if self._incidents is not None and not self.order(carry):
            raise TimeoutError("the rules were not through with earlier lines in time")
        if answer.matchers:
            ends = time.monotonic() + (order.seconds or 0.0)
            silence = Silence("", answer.matchers, -math.inf, ends, by, order.comment)
            try:
                self.silence(lambda engine, now: engine.put_silence(silence, now))
            except ValueError as error:
                return str(error)
        return answer.text

    def silence(self, change: Callable[[Engine, float], T]) -> T:
        """Change silences, and return or raise what `change` does; see `Engine.put_silence`.

        What was changed outlives the process. From any thread but the loop's; waits for batches that came before, for
        at most `CALL_TIMEOUT` seconds, and raises `TimeoutError` then.
        """
        result: Future[T] = Future()
        done = threading.Event()

        def changing(engine: Engine, now: float) -> None:
            before = engine.silences() if self._member is not None else []
            try:
                result.set_result(change(engine, now))
            except (ValueError, LookupError) as error:
                result.set_exception(error)
            self._share_silences(engine, before)

        self.worker.submit(Batch(silence=changing, done=done.set))
        if not done.wait(CALL_TIMEOUT):
            raise TimeoutError("the rules were not through with earlier lines in time")
        return result.result(0)

    def books(self) -> tuple[Books, dict[str, int]]:
        """Return the ledger, and how many firings of each alarm really wait in the outbox."""
        books = self.outbox.ledger.books()
        if self._incidents is not None:
            firing = self._incidents.count_firing()
            for name in books["rules"].keys() | firing.keys():
                books["rules"].setdefault(name, {"opened": 0, "resolved": {}, "open": 0})["open"] = firing.get(name, 0)
        return books, self.outbox.count_waiting()

    def stop(self, timeout: float, *, waits: bool = False) -> bool:
        """Process what was submitted, deliver what can be delivered, and end.

        Takes about `timeout` seconds at most, whatever actions do: what does not end by then is left behind, and the
        log says so. Returns whether everything was delivered; what was not stays in a durable outbox for the next
        start. With `waits`, the time is used for later attempts at what waits in a durable outbox as well.
        """
        deadline = time.monotonic() + timeout
        is_worked_off = self.worker.stop(timeout)
        delivered = self._deliver_rest(deadline, waits=waits) and is_worked_off
        end = max(deadline, time.monotonic()) + GRACE
        self._thread.end(end)
        self._stop_checkpointer(_left(end))
        self._close_outbox(end)
        return delivered

    def _deliver_rest(self, deadline: float, *, waits: bool) -> bool:
        if not self._thread.is_started:
            return False
        left = _left(deadline)
        drain = self.dispatcher.drain(left, wait_for_retries=waits or not self.outbox.is_durable)
        try:
            return self.call(drain, left + GRACE / 4)
        except TimeoutError:  # reported by what follows
            return False

    async def _start_lanes(self) -> None:
        if self._subscribers is not None:
            await self._subscribers.start()
        await self._follow_fleet(self._current.settings)
        self.dispatcher.start()

    # The fleet

    async def _follow_fleet(self, settings: Settings) -> None:
        """Join, leave, or go on as a member of a fleet, as the settings say."""
        if self._membership is None and self._join is not None and settings.fleet is not None:
            with held_off():
                from alarm_mw.master.runtime.fleet_state import FleetState  # noqa: PLC0415  # few have a fleet
                from alarm_mw.master.runtime.membership import Membership  # noqa: PLC0415  # as above
            state = FleetState(
                self.outbox,
                self.worker.submit,
                lambda: self.engine,
                self.incident_clock or time.time,
                lambda: self._current.settings,
                self._last_lines,
            )
            self._membership = Membership(state, self.dispatcher, self._join)
        if self._membership is not None:
            await self._membership.follow(settings)

    @property
    def _member(self) -> Member | None:
        return None if self._membership is None else self._membership.member

    async def _hand_over(self, firing: Firing) -> None:
        """Leave a message to the hub of the fleet. Raises `ActionError`."""
        await (self._leave_to_hub if self._membership is None else self._membership.hand_over)(firing)

    def share_order(self, order: SharedOrder) -> None:
        """Tell the other machines of the fleet what somebody has done. From any thread; does not block."""
        if (member := self._member) is not None:
            member.share_order(order)

    def _share_silences(self, engine: Engine, before: Sequence[Silence]) -> None:
        """Tell the fleet which silences differ from those before."""
        if (member := self._member) is not None:
            from alarm_mw.master.runtime.fleet_state import shared  # noqa: PLC0415  # few have a fleet

            for silence in set(engine.silences()) - set(before):
                member.share_silence(shared(silence))

    def fleet_state(self) -> FleetState | None:
        """Return whether this master shares with others now; None where it is in no fleet. From any thread."""
        member = self._member
        return None if member is None else member.state()

    async def fleet(self) -> FleetOverview | None:
        """Return what is known of the fleet; None where this master is in none. On the event loop."""
        member = self._member
        return None if member is None else await member.overview()

    async def fleet_history(self, since: float) -> FleetHistory | None:
        """Return the episodes of the fleet; None where this master is in none. On the event loop."""
        member = self._member
        return None if member is None else await member.history(since)

    async def fleet_incident(self, key: str) -> FleetRecord | None:
        """Return what the fleet knows of an incident; None where it cannot be asked. On the event loop."""
        member = self._member
        return None if member is None else await member.incident(key)

    def _routed(self, alarms: Sequence[Alarm], settings: Settings) -> Routed:
        return {alarm.name: (alarm, _route(self._action(alarm, settings), alarm)) for alarm in alarms}

    def _action(self, alarm: Alarm, settings: Settings) -> Action:
        context = ActionContext(
            alarm.name,
            self._write_log,
            self._server_pid,
            self._subscribers,
            self._write_log_at_once,
            settings.execution,
            place_of(alarm, settings, self.name, self._link_key() if settings.web.url else b""),
            alarm.texts,
            self._obey,
            self._hand_over,
        )
        return make_action(alarm, context, self._find_action)

    async def _settle(self, end: float) -> None:
        """Stop the lanes, and what else is ours on the loop."""
        await self.dispatcher.stop(_left(end) / 2)
        if self._membership is not None:
            await self._membership.leave(_left(end) / 2)
        if self._subscribers is not None:
            await self._subscribers.stop()

    def call(self, coroutine: Coroutine[None, None, T], timeout: float = CALL_TIMEOUT) -> T:
        """Run a coroutine on the loop and wait for its result; see `LoopThread.call`."""
        return self._thread.call(coroutine, timeout)

    def spawn(self, coroutine: Coroutine[None, None, object]) -> None:
        """Run a coroutine on the loop, and do not wait; see `LoopThread.spawn`."""
        self._thread.spawn(coroutine)

    def _stop_checkpointer(self, timeout: float) -> None:
        self.checkpointer.stop()
        if self._checkpointing is not None:
            self._checkpointing.join(timeout)
            if self._checkpointing.is_alive():
                log.warning("the disk blocks the outbox's checkpoint, which is left behind")

    def _close_outbox(self, deadline: float) -> None:
        try:
            with self.outbox.still(_left(deadline)):
                if self.outbox.has_file:
                    self._log_rest()
                else:
                    self._drop_rest()
                self.outbox.close()
        except TimeoutError as error:
            log.warning("the last counts are not written down: %s", error)

    def _log_rest(self) -> None:
        if not self.outbox.regain():
            return  # `close` says what is lost
        with contextlib.suppress(sqlite3.Error):  # reported by the failed write
            for alarm, n in self.outbox.count_waiting().items():
                wait = "1 firing waits" if n == 1 else f"{n} firings wait"
                log.warning("alarm %s: %s for the next start of this server", alarm, wait)

    def _drop_rest(self) -> None:
        for alarm, n in self.outbox.drop_waiting(Reason.SHUTDOWN).items():
            was = "1 firing was" if n == 1 else f"{n} firings were"
            log.warning("alarm %s: %s not delivered before the end", alarm, was)


def _surroundings(settings: Settings) -> tuple[object, ...]:
    """Return what actions get beside their alarm."""
    return settings.execution, settings.web.url, None if settings.fleet is None else settings.fleet.host


def _is_same(alarm: Alarm, before: Routed) -> bool:
    """Return whether the same alarm existed before, wherever it is defined."""
    return alarm.name in before and structs.replace(alarm, where=NOWHERE) == structs.replace(
        before[alarm.name][0], where=NOWHERE
    )


def _route(action: Action, alarm: Alarm) -> Route:
    rate = limits_of(alarm).rate
    return Route(
        action, alarm.delivery, alarm.fallback, alarm.fallback_after, None if rate is None else read_rate(rate)
    )


def _routes(alarms: Routed) -> dict[str, Route]:
    return {name: route for name, (_, route) in alarms.items()}


def _left(deadline: float) -> float:
    """Return the seconds that are left."""
    return max(deadline - time.monotonic(), 0.0)
