"""What a master knows and does for its fleet: its incidents and silences, and what other machines have done."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime

from msgspec import structs

from alarm_mw.config.settings import FLEET, MACHINE, Settings
from alarm_mw.delivery.outbox import incident_rows
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.engine.engine import Engine
from alarm_mw.engine.flood_control.silences import Silence
from alarm_mw.engine.incidents.incident import thread_of
from alarm_mw.master.worker.batch import Batch, Item
from alarm_mw.model.fleet import OpenIncident, SharedOrder, SharedSilence, SilentMachine
from alarm_mw.model.printable import printable
from alarm_mw.model.types import Firing, Report
from alarm_mw.transports.records import RecordMaker, to_bytes

log = logging.getLogger(__name__)

#: Characters of an incident's first line that are shared.
TEXT = 500

#: The number of `logging.ERROR`.
_ERROR = 40


@dataclass(slots=True)
class FleetState:
    """Implements `alarm_mw.model.fleet.LocalState`; its methods belong on the event loop, but for `shared`."""

    outbox: Outbox
    #: Gives a batch to the worker's thread.
    submit: Callable[[Batch], None]
    #: Returns the engine that is in force.
    engine: Callable[[], Engine]
    #: Returns the time by which incidents go, in seconds.
    clock: Callable[[], float]
    #: Returns the settings that are in force.
    settings: Callable[[], Settings]
    #: Returns the last lines of output, as many as the settings allow.
    last_lines: Callable[[], tuple[str, ...]]
    _records: RecordMaker = field(default_factory=RecordMaker)
    #: The machines that were reported as silent; None before the first report.
    _silent: AbstractSet[str] | None = None

    async def open_incidents(self) -> Sequence[OpenIncident]:
        """Return the incidents of shared rules that are firing here."""
        return await asyncio.to_thread(self._open_incidents)

    def _open_incidents(self) -> Sequence[OpenIncident]:
        rules = self.settings().incident_rules
        local = {rule.name for rule in rules if rule.scope == MACHINE}
        offset = time.time() - self.clock()
        found = []
        for incident in incident_rows.each(self.outbox):
            if incident.rule in local:
                continue
            sent = incident_rows.sent(self.outbox, thread_of(incident))
            ack, first = incident.ack, incident.first
            found.append(
                OpenIncident(
                    incident.id,
                    incident.rule,
                    dict(incident.key),
                    incident.labels,
                    incident.fired + offset,
                    "" if first is None else printable(first.text.partition("\n")[0], TEXT),
                    incident.count,
                    {
                        alarm: told.time + offset
                        for alarm, told in incident.notified.items()
                        if told.episode == incident.episode and sent.get(alarm, True)
                    },
                    "" if ack is None else ack.by,
                    0.0 if ack is None else ack.time + offset,
                    0.0 if ack is None else ack.until + offset,
                )
            )
        return found

    async def silences(self) -> Sequence[SharedSilence]:
        """Return the silences of this master, with those that expired in the last days."""
        return [shared(silence) for silence in self.engine().silences()]

    def take_silence(self, silence: SharedSilence) -> None:
        """Put a silence in force, or end it, unless the one of this id was changed later here."""
        offset = time.time() - time.monotonic()
        other = Silence(
            silence.id,
            silence.matchers,
            silence.starts - offset,
            silence.ends - offset,
            silence.author,
            silence.comment,
            silence.updated - offset,
        )

        def take(engine: Engine, now: float) -> None:
            try:
                engine.take_silence(other, now)
            except ValueError as error:
                log.error("fleet: the silence %s of another machine cannot be taken over: %s", other.id, error)

        self.submit(Batch(silence=take))

    def take_order(self, order: SharedOrder) -> None:
        """Do what somebody has done elsewhere; nothing where it is done already."""
        self.submit(Batch(order=lambda incidents: incidents.follow(order)))

    def send(self, firing: Firing) -> None:
        """Deliver a message that no engine of this machine has made, where its alarm is configured."""
        if any(alarm.name == firing.alarm for alarm in self.settings().alarms):
            self.submit(Batch(order=lambda _: [firing]))

    async def take_over(self, firings: Sequence[Firing]) -> Collection[str]:
        """Put messages into the outbox that other machines have left to this hub, and return when they are there."""
        known = {alarm.name for alarm in self.settings().alarms}
        ours = [firing for firing in firings if firing.alarm in known]
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        self.submit(Batch(order=lambda _: ours, done=lambda: loop.call_soon_threadsafe(done.set)))
        await done.wait()
        return {firing.alarm for firing in firings}.difference(known)

    def report_silent(self, machines: Mapping[str, SilentMachine]) -> None:
        """Take in which machines are silent, all of them, by a name for each incident."""
        if machines.keys() == self._silent or self.settings().fleet_rule is None:
            return
        back = sorted((self._silent or set()) - machines.keys())
        over = {name: to_bytes(f"{name} is no longer silent") for name in back}
        wrong = {
            name: structs.replace(
                self._records.make(
                    to_bytes(f"{_silence_of(machine)}\n"),
                    source=FLEET,
                    level=_ERROR,
                    fields={MACHINE: name},
                    context=b"".join(to_bytes(f"{line}\n") for line in machine.last_lines),
                ),
                pid=0,  # no process of this machine has said it
            )
            for name, machine in machines.items()
        }
        text = b"; ".join(over.values()) or b"no machine is silent"
        record = next(iter(wrong.values()), None) or self._records.make(text + b"\n", source=FLEET)
        self._silent = set(machines)
        self.submit(Batch([Item(record, report=Report(FLEET, wrong, over))]))


def shared(silence: Silence) -> SharedSilence:
    """Return a silence of the engine as the fleet knows it."""
    offset = time.time() - time.monotonic()
    return SharedSilence(
        silence.id,
        silence.matchers,
        silence.starts + offset,
        silence.ends + offset,
        silence.author,
        silence.comment,
        silence.updated + offset,
    )


def _silence_of(machine: SilentMachine) -> str:
    since = datetime.fromtimestamp(machine.since, UTC)
    names, count = ", ".join(machine.machines[:20]), len(machine.machines)
    if count == 1:
        return f"machine {names} is silent: nothing was heard of its master since {since:%Y-%m-%d %H:%M:%S} UTC"
    more = ", …" if count > len(machine.machines[:20]) else ""
    return f"{count} machines are silent since {since:%Y-%m-%d %H:%M:%S} UTC: {names}{more}"
