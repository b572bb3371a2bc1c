"""What the worker takes from readers, receiver, monitors and the in-process queue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from alarm_mw.engine.engine import Engine
from alarm_mw.model.measures import ExternalAlert
from alarm_mw.model.types import Firing, Record, Report
from alarm_mw.patterns.prefilter import Hit
from alarm_mw.transports.wire import Counts, MetricChange

if TYPE_CHECKING:  # few configurations have incidents
    from alarm_mw.engine.incidents.incidents import Incidents


@dataclass(frozen=True, slots=True)
class Item:
    """A record, and what is known of it already."""

    record: Record
    #: Fire this alarm past the rules; None: apply the rules to the record.
    alarm: str | None = None
    #: The rules that may match, by the prefilter; None: not known.
    candidates: tuple[int, ...] | None = None
    #: Those of them that do match.
    certain: tuple[int, ...] = ()
    #: What a monitor says of its incidents; the record is for the books. None: it is for the rules, or an alarm.
    report: Report | None = None
    #: What another program has posted; the record is its message.
    alert: ExternalAlert | None = None


class Lines(msgspec.Struct, frozen=True):
    """Lines of an output stream that some rule may match, in order."""

    #: ``stdout`` or ``stderr``.
    stream: str
    hits: Sequence[Hit]
    #: Makes the record of one of them: only where it is needed, for that takes longer than all the rest.
    record: Callable[[Hit], Record]
    #: Whose the numbers of the hits' rules are: those of another one say nothing to the engine. None: the engine's.
    rule_set: object = None


class Batch(msgspec.Struct, frozen=True):
    """Items in order, and counts for the ledger."""

    items: Sequence[Item] = ()
    counts: Counts = {}
    #: Called when every firing of this batch is in the outbox. May not block.
    done: Callable[[], object] | None = None
    #: What becomes of the application's metrics, in order.
    metrics: Sequence[MetricChange] = ()
    #: Come after the items.
    lines: Lines | None = None
    #: What somebody does to the silences, before the items, at a time in seconds of `time.monotonic`.
    silence: Callable[[Engine, float], object] | None = None
    #: What somebody asks of incidents, before the items; returns the messages that follow.
    order: Callable[[Incidents], Sequence[Firing]] | None = None
    #: A record may come of which its lines are the echoes: it is waited for (`worker.ECHO_WAIT`).
    may_be_echo: bool = False
    #: Called when the counts are in the outbox, with `Ledger.collections` one higher. May not block.
    written: Callable[[], object] | None = None
    #: Where followed logs stand behind this batch, by name; None for a log that is forgotten.
    positions: Mapping[str, bytes | None] = {}
    #: Called when all of it is evaluated, and nothing is written yet. May not block.
    evaluated: Callable[[], object] | None = None
