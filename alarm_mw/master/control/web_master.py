"""What a master offers to its page: reads, and the few things that people do there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from alarm_mw.config.settings import Settings
from alarm_mw.delivery.dead_letters import Answer, Order
from alarm_mw.delivery.outbox import incident_rows
from alarm_mw.master.control import fleet, incidents, silences
from alarm_mw.master.control.incidents import IncidentOrder
from alarm_mw.master.control.silences import ShownSilence, SilenceOrder
from alarm_mw.master.control.status import Status, carry_out
from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.master.worker.batch import Batch, Item
from alarm_mw.model.types import Rule
from alarm_mw.texts.links import LINK_KEY, read_key
from alarm_mw.transports.records import RecordMaker, to_bytes
from alarm_mw.web.master import Master, WantedSilence
from alarm_mw.web.samples import rule_id
from alarm_mw.web.store import Store

#: How many incidents have samples of their own.
MAX_SAMPLED = 1000


def web_master(
    runtime: Runtime,
    state_dir: Path,
    status: Callable[[], Status],
    settings: Callable[[], Settings],
    metrics: Callable[[], bytes],
    *,
    samples: Callable[[], Store | None] = lambda: None,
) -> Master:
    """Return what the page asks of a master."""
    own = _Own(runtime)
    return Master(
        state_dir=state_dir,
        name=runtime.name,
        settings=settings,
        status=status,
        failing=runtime.dispatcher.failing,
        started=time.time() - time.monotonic() + runtime.started,
        metrics=metrics,
        receive=runtime.receive,
        heartbeat=runtime.heartbeat,
        outbox_path=str(runtime.outbox.path),
        is_durable=lambda: runtime.outbox.is_durable,
        outbox=runtime.outbox,
        offset=own.offset,
        order=own.order,
        link_key=lambda: read_key(state_dir / LINK_KEY),
        dead=own.dead,
        retry_now=own.retry_now,
        test=own.test,
        silences=own.silences,
        put_silence=own.put_silence,
        expire_silences=own.expire_silences,
        count=own.count,
        matches=own.matches,
        switched_off=own.switched_off,
        fleet=lambda: fleet.overview(runtime),
        fleet_history=lambda since: fleet.history(runtime, since),
        fleet_incident=lambda key: fleet.incident(runtime, key),
        samples=samples,
    )


@dataclass(frozen=True, slots=True)
class _Own:
    runtime: Runtime
    records: RecordMaker = field(default_factory=RecordMaker)

    def offset(self) -> float:
        clock = self.runtime.incident_clock
        return 0.0 if clock is None else time.time() - clock()

    def order(self, verb: str, ids: Sequence[str], by: str, seconds: float | None, comment: str) -> list[str]:
        return incidents.carry_out(self.runtime, IncidentOrder(verb, tuple(ids), by, seconds, comment))

    def dead(self, order: Order) -> Answer:
        return msgspec.json.decode(carry_out(self.runtime, msgspec.json.encode(order)), type=Answer)

    def retry_now(self, alarm: str) -> None:
        self.runtime.dispatcher.retry_now({alarm})

    def test(self, alarm: str, by: str) -> bool:
        if alarm not in self.runtime.alarm_names:
            return False
        record = self.records.make(to_bytes(f"test alarm, sent from the page by {by}\n"), source="alarm_mw")
        self.runtime.worker.submit(Batch([Item(record, alarm)]))
        return True

    def silences(self, is_all: bool) -> list[ShownSilence]:  # noqa: FBT001  # as the page asks
        return silences.shown(self.runtime, is_all=is_all)

    def put_silence(self, wanted: WantedSilence) -> str:
        order = SilenceOrder(
            tuple(wanted.matchers), wanted.ends, wanted.starts, wanted.author, wanted.comment, wanted.id
        )
        return silences.put(self.runtime, order)["id"]

    def expire_silences(self, targets: Sequence[str]) -> list[ShownSilence]:
        return silences.expire(self.runtime, targets)

    def matches(self) -> list[tuple[Rule, int]]:
        return self.runtime.engine.matches()

    def switched_off(self) -> list[Rule]:
        return self.runtime.engine.switched_off()

    def count(self) -> Mapping[tuple[str, str], int]:
        books = self.runtime.outbox.ledger.books()
        counts = {
            ("lines", ""): sum(row["lines"] for row in books["sources"].values()),
            ("matched", ""): sum(row["matched"] for row in books["sources"].values()),
        }
        for alarm, row in books["alarms"].items():
            counts["fired", alarm] = row["fired"]
            counts["delivered", alarm] = row["delivered"]
            counts["held", alarm] = sum(row["held_back"].values())
        for rule, n in self.runtime.engine.matches():
            counts["rule", rule_id(rule)] = counts.get(("rule", rule_id(rule)), 0) + n
        if self.runtime.incident_clock is not None:
            for incident in incident_rows.incidents(self.runtime.outbox)[-MAX_SAMPLED:]:
                counts["incident", incident.id] = incident.count
        return counts
