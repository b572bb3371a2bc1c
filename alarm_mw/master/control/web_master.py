"""What a master offers to its page: reads, and the few things that people do there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from alarm_mw.config.settings import Settings
from alarm_mw.delivery.dead_letters import Answer, Order
from alarm_mw.master.control import incidents
from alarm_mw.master.control.incidents import IncidentOrder
from alarm_mw.master.control.status import Status, carry_out
from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.master.worker.batch import Batch, Item
from alarm_mw.transports.records import RecordMaker, to_bytes
from alarm_mw.web.master import Master


def web_master(
    runtime: Runtime, state_dir: Path, status: Callable[[], Status], settings: Callable[[], Settings]
) -> Master:
    """Return what the page asks of a master."""
    records = RecordMaker()

    def offset() -> float:
        clock = runtime.incident_clock
        return 0.0 if clock is None else time.time() - clock()

    def order(verb: str, ids: Sequence[str], by: str, seconds: float | None, comment: str) -> list[str]:
        return incidents.carry_out(runtime, IncidentOrder(verb, tuple(ids), by, seconds, comment))["done"]

    def dead(order: Order) -> Answer:
        return msgspec.json.decode(carry_out(runtime, msgspec.json.encode(order)), type=Answer)

    def test(alarm: str, by: str) -> bool:
        record = records.make(to_bytes(f"test alarm, sent from the page by {by}\n"), source="alarm_mw")
        runtime.worker.submit(Batch([Item(record, alarm)]))
        return alarm in runtime.alarm_names

    return Master(
        state_dir=state_dir,
        name=runtime.name,
        settings=settings,
        status=status,
        outbox_path=str(runtime.outbox.path),
        is_durable=lambda: runtime.outbox.is_durable,
        outbox=runtime.outbox,
        offset=offset,
        order=order,
        dead=dead,
        test=test,
    )
