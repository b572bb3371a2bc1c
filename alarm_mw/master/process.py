"""One master process: everything it runs, started and stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import math
import os
import sqlite3
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from alarm_mw.config.settings import Loaded, Settings, Watch
from alarm_mw.delivery.outbox.journal import Journal
from alarm_mw.delivery.outbox.under_way import UnderWay
from alarm_mw.master.control import fleet, incidents
from alarm_mw.master.control.prometheus import exposition
from alarm_mw.master.control.self_check import SelfCheck, keep_looking
from alarm_mw.master.control.servers import ControlServer, MetricsPort
from alarm_mw.master.control.status import (
    Answers,
    Status,
    figures,
    in_force,
    sight,
    status,
)
from alarm_mw.master.control.web_port import LISTENER, WebPort
from alarm_mw.master.link import FILE, Inheritance, StreamFds, environ_of_start
from alarm_mw.master.monitors import Monitors, watchable
from alarm_mw.master.mules.processes import Mules
from alarm_mw.master.mules.subscribers import Subscribers
from alarm_mw.master.places import Places
from alarm_mw.master.records.publisher import Publisher
from alarm_mw.master.records.receiver import Receiver
from alarm_mw.master.records.regions import Regions
from alarm_mw.master.reload import Reloader, needs_restart
from alarm_mw.master.runtime.leftovers import Leftovers
from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.master.runtime.threads import start_thread
from alarm_mw.master.streams.intake import StreamIntake
from alarm_mw.master.streams.late import LateChunks
from alarm_mw.master.streams.lines import longest_line
from alarm_mw.master.streams.log_writer import LogWriter
from alarm_mw.master.streams.reader import StreamReader
from alarm_mw.master.streams.state import StreamState, state_size
from alarm_mw.master.worker.batch import Batch
from alarm_mw.master.worker.metrics import Metrics, MetricsFile
from alarm_mw.model.interfaces import no_deaths
from alarm_mw.model.types import Reason
from alarm_mw.patterns.prefilter import Prefilter
from alarm_mw.supervisor.plan import STACKS, Plan
from alarm_mw.system.descriptors import write_all
from alarm_mw.transports.places import control_path, subscribers_path
from alarm_mw.transports.shared import token_of

if TYPE_CHECKING:
    from alarm_mw.master.crashes.desk import CrashDesk
    from alarm_mw.master.crashes.tap import CrashTap
    from alarm_mw.master.follow.following import Followed, Following
    from alarm_mw.master.runtime.membership import Member
    from alarm_mw.master.streams.blocks import BlockAssembler
    from alarm_mw.model.fleet import FleetPlan, LocalState
    from alarm_mw.web.master import Master

log = logging.getLogger(__name__)

#: What the names of memory files begin with that have the late chunks of a stream.
LATE = "late-"

#: The descriptor of the standard error, which is the log.
STDERR = 2

#: Seconds for a thread to end after it was asked to.
JOIN_TIMEOUT = 2.0

#: Seconds between looks at whether the master is to look at itself, while it is not.
OFF = 10.0


class MasterProcess:
    """Runs a plan with what the supervisor left. The plan's settings were checked before."""

    def __init__(self, plan: Plan, inheritance: Inheritance) -> None:
        self._plan = plan
        self._link = inheritance.link
        self._replaced = inheritance.replaced
        if inheritance.last_end:
            log.warning("the master before this one: %s; this one takes its place", inheritance.last_end)
        self._streams = inheritance.streams
        names = {name for name in inheritance.files if name.startswith(LATE)}  # a stream may have ended since
        self._late = {
            name.removeprefix(LATE): LateChunks(inheritance.files.get(name), functools.partial(self._link.leave, name))
            for name in sorted(names | {LATE + stream.name for stream in self._streams})
        }
        self._files = dict(inheritance.files)
        self._state_dir = Path(str(plan.settings["state_dir"]))
        for descriptor in plan.master_fds:
            os.set_inheritable(descriptor, False)
        self._server_pid: int | None = None
        self._desk: CrashDesk | None = None
        self._obey(self._link.hear())
        self._places = Places(plan, self._link)
        listener = self._places.restored(inheritance.listener)
        loaded = Loaded.from_json(plan.settings)
        settings = loaded.settings
        self._mules = Mules(settings.mules, {**os.environ, **plan.server_env}, settings.execution)
        self._log_writer = LogWriter(STDERR)
        self._runtime = Runtime(
            settings,
            outbox=self._state_dir / "outbox.db",
            write_log=self._log_writer.write,
            write_log_at_once=self._log_writer.write_at_once,
            metrics=Metrics(MetricsFile(self._state_dir / "metrics.json", plan.run_id)),
            server_pid=lambda: self._server_pid,
            retired=loaded.retired,
            journal=Journal(inheritance.files.get("outbox"), functools.partial(self._link.leave, "outbox")),
            under_way=UnderWay(inheritance.files.get("under-way"), functools.partial(self._link.leave, "under-way")),
            name=str(plan.settings.get("name", "")),
            assembles=True,
            link_key=self._link_key,
            join=_join,
            last_lines=self._last_lines,
            subscribers=Subscribers(
                Path(subscribers_path(plan.socket)), lambda: self._server_pid, self._mules.number_of
            ),
        )
        self._desk = self._crash_desk()
        self._reloader = Reloader(loaded, environ_of_start(os.environ), self._take_over)
        regions = Regions(self._link, lambda: self._runtime.outbox.ledger.collections, inheritance.regions)
        self._receiver = Receiver(
            listener,
            self._runtime.worker.submit,
            self._link,
            inheritance.connections,
            regions,
            token=token_of(plan.server_env),
        )
        self._runtime.worker.expects_records = self._receiver.has_sources
        self._publisher = Publisher(plan.socket)
        self._check = SelfCheck()
        path = Path(control_path(plan.socket))
        answers = Answers(
            self._status,
            self._figures,
            self._reloader.reload,
            functools.partial(incidents.shown_as_json, self._runtime),
            self._runtime.heartbeat,
            self._runtime.last_deliveries.note_drill,
            lambda: msgspec.json.encode(fleet.overview(self._runtime)),
            self._offer_login,
        )
        self._control = ControlServer(path, answers, self._web_master)
        self._metrics_port = MetricsPort(self._figures)
        self._web_port = WebPort(
            self._web_master, self._state_dir, self._leave_listener, inheritance.files.get(LISTENER)
        )
        self._monitors = Monitors(
            self._watchable(settings),
            self._runtime,
            write_log=write_stderr,
            server_pid=lambda: self._server_pid,
            deaths=self._desk.subscribed if self._desk is not None else no_deaths,
        )
        self._readers: list[tuple[StreamReader, CrashTap | None]] = []
        self._leftovers = Leftovers(self._state_dir, environ_of_start(os.environ))
        #: Reads existing logs; None as long as none is configured.
        self._following: Following | None = None
        self._threads: list[threading.Thread] = []
        #: Stops what was started.
        self._steps = contextlib.ExitStack()
        self._deadline = math.inf

    def run(self) -> None:
        """Work until the supervisor says stop, or has gone and the server's output is at its end."""
        self._start()
        # What has been loaded stays: a collection that looks at all of it takes 5 ms, for which each thread waits.
        gc.freeze()
        self._link.send("ready")
        while words := self._link.hear():
            if words == ["stop"]:
                return
            self._obey(words)
        for thread in self._threads:
            thread.join()
        Path(self._plan.socket).unlink(missing_ok=True)

    def close(self) -> None:
        """Stop everything, in the reverse order; deliver what is there, within the plan's time limit.

        A step that fails keeps no other from being taken; its exception is raised at the end.
        """
        self._deadline = time.monotonic() + self._plan.shutdown_timeout
        self._steps.close()

    def _left(self) -> float:
        """Return the seconds that are left until the plan's time limit."""
        return max(0.0, self._deadline - time.monotonic())

    def _call(self, coroutine: Coroutine[None, None, object]) -> None:
        """Run a coroutine on the loop, within the time that is left and a little more."""
        self._runtime.call(coroutine, self._left() + 1.0)

    def _obey(self, words: list[str]) -> None:
        """Take in the supervisor's news: the server's process may hand over to another, as long as it lives."""
        match words:
            case ["server", pid] if pid.isdecimal():
                self._server_pid = int(pid)
            case ["exited", _]:
                self._server_pid = None
            case ["ping"]:
                self._link.send("pong")
            case ["reload"]:
                self._runtime.spawn(self._reloader.reload())
            case ["unjudged", stream, lines] if lines.isdecimal():
                counts = {"lines": int(lines), f"skipped:{Reason.UNJUDGED}": int(lines)}
                counted = functools.partial(self._link.send, "counted", stream, lines)
                self._runtime.worker.submit(Batch(counts={stream: counts}, done=counted))
        if self._desk is not None:
            self._desk.hear_supervisor(words)

    def _start(self) -> None:
        """Start everything. The readers are stopped first: what they still bring is worked off by the others."""
        prefilter = self._runtime.prefilter
        self._steps.callback(self._link.close)
        self._steps.callback(self._mules.stop)
        self._runtime.start()
        self._steps.callback(self._stop_runtime)
        if self._places.report:
            self._runtime.own_alarms.fire(self._places.report, "places")
        self._steps.callback(lambda: self._web_port.stop(self._left()))
        self._web_port.serve(self._reloader.loaded.settings.web)
        self._runtime.call(self._control.start())
        self._steps.callback(lambda: self._call(self._metrics_port.stop()))
        self._runtime.call(self._metrics_port.listen_at(self._reloader.loaded.settings.metrics.listen))
        self._steps.callback(lambda: self._call(self._control.stop(self._left())))
        self._steps.callback(self._monitors.stop)
        self._runtime.spawn(self._reloader.watch())
        self._runtime.spawn(self._places.watch(self._make_way))
        self._runtime.spawn(
            keep_looking(self._check, lambda: sight(self._runtime), self._runtime.own_alarms.fire, self._until_check)
        )
        self._receiver.start()
        self._steps.callback(lambda: self._receiver.stop(self._left()))
        self._start_desk()
        self._steps.callback(self._stop_readers)
        self._start_readers(prefilter)
        self._follow(settings=self._reloader.loaded.settings, prefilter=prefilter)
        self._steps.callback(self._stop_following)
        self._steps.callback(self._publisher.withdraw)
        self._publisher.publish_rules(self._runtime.rules, prefilter.records.rules)
        self._mules.start()
        self._monitors.start()
        self._steps.callback(lambda: self._leftovers.stop(self._left()))
        self._leftovers.start()

    def _make_way(self) -> None:
        """End at once for another master, as a kill would end this one, when all that is known is written down."""
        with contextlib.suppress(sqlite3.Error):  # it is left to the next one in memory
            self._runtime.outbox.flush()
        os._exit(os.EX_TEMPFAIL)

    def _crash_desk(self) -> CrashDesk | None:
        """Return a desk if some monitor asked for deaths at the start, else None: then crashes cost nothing at all."""
        if STACKS not in self._plan.server_env:
            return None
        from alarm_mw.master.crashes.desk import CrashDesk  # noqa: PLC0415  # few configurations ask for it

        return CrashDesk(self._plan.run_id, self._plan.command, self._state_dir, self._runtime.loop)

    def _start_desk(self) -> None:
        """Look out for crashes, where a monitor asks for them; those in the last lines are still fired."""
        if self._desk is not None:
            desk = self._desk
            self._runtime.call(desk.start(self._server_pid))
            self._steps.callback(lambda: self._call(desk.stop()))

    def _start_readers(self, prefilter: Prefilter) -> None:
        runtime = self._runtime
        intake = StreamIntake(
            self._plan.run_id,
            runtime.worker,
            late=self._late,
        )
        intake.resume(prefilter)
        for stream in self._streams:
            reader, tap = self._reader(stream, prefilter, intake)
            self._readers.append((reader, tap))
            self._log_writer.watch(reader, stream.sink)
            self._keep_last_lines(runtime.settings)
            self._threads.append(start_thread(f"reader-{stream.name}", reader.run))

    def _keep_last_lines(self, settings: Settings) -> None:
        """Keep the last lines of output, where the fleet is to be shown some."""
        is_wanted = settings.fleet is not None and settings.fleet.last_lines > 0
        for reader, _ in self._readers:
            if is_wanted and reader.last_lines is None:
                from alarm_mw.master.streams.last_lines import LastLines  # noqa: PLC0415  # few want them

                reader.last_lines = LastLines()
            elif not is_wanted:
                reader.last_lines = None

    def _last_lines(self) -> tuple[str, ...]:
        """Return the last lines of output, as many as the fleet may be shown."""
        fleet = self._runtime.settings.fleet
        count = 0 if fleet is None else fleet.last_lines
        streams = (reader.last_lines for reader, _ in self._readers)
        return tuple(line for lines in streams if lines is not None for line in lines.last(count))[-count or None :]

    def _stop_runtime(self) -> None:
        if self._runtime.stop(self._left(), waits=self._plan.waits):
            self._link.send("delivered")

    def _follow(self, settings: Settings, prefilter: Prefilter) -> None:
        """Follow the logs that a configuration names."""
        if self._following is None and not settings.follow:
            return
        with self._runtime.outbox.still():
            saved = self._runtime.outbox.positions().all()
        from alarm_mw.master.follow.following import Following  # noqa: PLC0415
        from alarm_mw.master.follow.intake import Assembly  # noqa: PLC0415  # few configurations need it

        assembly = Assembly(settings.records.of("file"), _keeps_lines(settings))
        if self._following is not None:
            self._following.change(settings.follow, prefilter, saved, assembly)
            return

        sinks = [os.fstat(stream.sink) for stream in self._streams]
        self._following = Following(
            settings.follow,
            prefilter,
            self._runtime.worker,
            saved,
            longest=longest_line(settings.alarm_msg_size),
            own=frozenset((sink.st_dev, sink.st_ino) for sink in sinks),
            assembly=assembly,
        )

    def _stop_following(self) -> None:
        if self._following is not None:
            self._following.stop(self._left() / 2)

    def _stop_readers(self) -> None:
        for reader, _ in self._readers:
            reader.stop()
        for thread in self._threads:
            thread.join(min(JOIN_TIMEOUT, self._left()))

    def _reader(
        self, stream: StreamFds, prefilter: Prefilter, intake: StreamIntake
    ) -> tuple[StreamReader, CrashTap | None]:
        longest = longest_line(self._reloader.loaded.settings.alarm_msg_size)
        # Empty where no master was before; what an earlier one has left there stays.
        os.truncate(stream.state, max(os.fstat(stream.state).st_size, state_size(longest)))
        tap = None if self._desk is None else self._desk.tap(prefilter, intake)
        reader = StreamReader(
            stream.name,
            stream.source,
            stream.sink,
            prefilter=tap or prefilter,
            hand_over=tap or intake,
            state=StreamState.from_fd(stream.state),
            transit=stream.transit,
            longest=longest,
            blocks=self._blocks(stream.name, self._reloader.loaded.settings),
            on_end=lambda name: self._link.send("eof", name),
            on_broken=lambda name, _: self._link.send("broken", name),
            on_exit=functools.partial(_close, stream),
        )
        return reader, tap

    def _blocks(self, stream: str, settings: Settings) -> BlockAssembler | None:
        """Return what makes records of a stream's lines; None where each line is one."""
        options, keeps_lines = settings.records.of(stream), _keeps_lines(settings)
        if options is None and not keeps_lines:
            return None
        from alarm_mw.master.streams.blocks import MEMORY_SIZE, BlockAssembler, BlockMemory  # noqa: PLC0415

        name = f"blocks-{stream}"
        if name not in self._files:
            self._files[name] = os.memfd_create(name)
            os.truncate(self._files[name], MEMORY_SIZE)
            self._link.leave(name, self._files[name])
        return BlockAssembler(options, BlockMemory.from_fd(self._files[name]), keeps_lines=keeps_lines)

    def _take_over(self, loaded: Loaded) -> list[str]:
        """Put a configuration in force (`Reloader`): here, at the server's processes, and for the next masters."""
        settings = loaded.settings
        prepared = self._runtime.prepare(settings)
        self._runtime.exchange(prepared)
        self._hand_on(loaded)
        for reader, tap in self._readers:
            fresh = prepared.engine.prefilter
            # Before the prefilter: it finds the beginnings of blocks only where something takes them.
            if reader.blocks is None:
                reader.blocks = self._blocks(reader.name, settings)
            else:
                reader.blocks.change(settings.records.of(reader.name), keeps_lines=_keeps_lines(settings))
            reader.prefilter = fresh if tap is None else tap.with_prefilter(fresh)
        self._keep_last_lines(settings)
        self._follow(settings, prepared.engine.prefilter)
        self._publisher.publish_rules(settings.rules, prepared.engine.prefilter.records.rules)
        try:
            self._monitors.exchange(self._watchable(settings))
            self._runtime.call(self._metrics_port.listen_at(settings.metrics.listen))
        except TimeoutError:  # the rest is in force already
            log.error(
                "an action blocks the event loop of the alarms: monitors and the address for metrics stay as they were "
                "until the configuration is read again"
            )
        self._web_port.serve(settings.web)
        mules = self._mules.exchange(settings.mules, settings.execution)
        notes = [f"mules that were ended or started: {mules}"] if mules else []
        return [*notes, *needs_restart(settings, self._plan)]

    def _hand_on(self, loaded: Loaded) -> None:
        """Let the next master begin with this configuration."""
        values = structs.replace(loaded, retired=self._runtime.retired).to_json()
        plan = self._plan._replace(settings={**self._plan.settings, **values})
        descriptor = plan.write()
        try:
            self._link.plan(descriptor)
        finally:
            os.close(descriptor)

    def _watchable(self, settings: Settings) -> tuple[Watch, ...]:
        return watchable(settings.monitors, self._plan.master_fds, hears_deaths=self._desk is not None)

    def _link_key(self) -> bytes:
        """Return what signs links in messages."""
        from alarm_mw.texts.links import LINK_KEY, read_key  # noqa: PLC0415  # for those who have the page

        return read_key(self._state_dir / LINK_KEY)

    def _leave_listener(self, descriptor: int | None) -> None:
        """Let the supervisor hold the page's listening socket, or none."""
        if descriptor is None:
            self._link.drop(FILE + LISTENER)
        else:
            self._link.leave(LISTENER, descriptor)

    def _offer_login(self, user: str, role: str) -> str:
        return self._web_port.offer_login(user, role)

    def _web_master(self) -> Master:
        from alarm_mw.master.control.web_master import web_master  # noqa: PLC0415  # for those who want the page

        return web_master(
            self._runtime,
            self._state_dir,
            self._status,
            lambda: self._reloader.loaded.settings,
            self._figures,
            samples=lambda: self._web_port.store,
        )

    def _status(self) -> Status:
        configuration = in_force(self._reloader.loaded, self._reloader.refused)
        return status(
            self._runtime,
            str(self._state_dir),
            self._server_pid,
            configuration,
            self._check.findings,
            masters_replaced=self._replaced,
            followed=self._followed(),
            page=self._web_port.url,
        )

    def _figures(self) -> bytes:
        return exposition(figures(self._runtime, self._reloader.loaded, self._check.findings, self._followed()))

    def _followed(self) -> Followed | None:
        return None if self._following is None else self._following.status()

    async def _until_check(self) -> bool:
        """Wait until it is time to look at ourselves; return False where that is turned off."""
        await asyncio.sleep(self._reloader.loaded.settings.upkeep.self_check or OFF)
        return self._reloader.loaded.settings.upkeep.self_check > 0


def _join(plan: FleetPlan, local: LocalState) -> Member:
    """Return a member of a fleet, which has not joined yet."""
    from alarm_mw.fleet import member  # noqa: PLC0415  # for those who have one

    return member.Member(plan, local)


def _keeps_lines(settings: Settings) -> bool:
    """Return whether some rule wants the lines around its matches."""
    return any(rule.context is not None for rule in settings.rules)


def _close(stream: StreamFds) -> None:
    """Leave nothing of a stream open here: a broken pipe must reach the server."""
    for descriptor in (stream.source, stream.sink, *(stream.transit or ())):
        os.close(descriptor)


def write_stderr(data: bytes) -> None:
    """Write all of it to the standard error, past Python's buffers; a log that has gone does not matter."""
    write_all(STDERR, data)
