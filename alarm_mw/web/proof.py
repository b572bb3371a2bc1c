"""The proof that all is well: lines that were seen, the last match, and the last delivery of each alarm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import msgspec

from alarm_mw.delivery.outbox.limits import State
from alarm_mw.web.master import Master


class Delivered(msgspec.Struct, frozen=True):
    """An alarm, and when it last reached its receiver."""

    alarm: str
    #: Seconds since the epoch; 0: never, as far as is remembered.
    last: float
    is_failing: bool


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What a page of calm is believed by."""

    #: Lines that were seen since the start.
    lines: int
    matched: int
    #: When a rule has matched last, in seconds since the epoch; 0: never, as far as is remembered.
    last_match: float
    rules: int
    #: Of all alarms.
    delivered: int
    held_back: int
    waiting: int
    dead: int
    alarms: tuple[Delivered, ...]
    #: Sentences on what is wrong with the master itself.
    faults: tuple[str, ...]

    @property
    def is_well(self) -> bool:
        """Whether nothing fails, nothing is dead, and the ledger balances."""
        return not self.dead and not self.faults and not any(alarm.is_failing for alarm in self.alarms)


def proof_of(master: Master) -> Proof:
    """Return the proof as it stands. May block."""
    status, settings = master.status(), master.settings()
    sources: Mapping[str, Mapping[str, int]] = status["sources"]
    alarms: Mapping[str, Mapping[str, object]] = status["alarms"]
    with master.reading() as reader:
        done = reader.query(
            "SELECT alarm, MAX(done) FROM firings WHERE state = ? GROUP BY alarm", (str(State.DELIVERED),)
        )
        ((taken,),) = reader.query("SELECT MAX(taken) FROM firings")
    last = {cast("str", alarm): cast("float", time) for alarm, time in done}
    return Proof(
        lines=sum(row["lines"] for row in sources.values()),
        matched=sum(row["matched"] for row in sources.values()),
        last_match=cast("float", taken or 0.0),
        rules=sum(not rule.excludes and not rule.is_auxiliary for rule in settings.rules),
        delivered=sum(cast("int", row["delivered"]) for row in alarms.values()),
        held_back=sum(sum(cast("dict[str, int]", row["held_back"]).values()) for row in alarms.values()),
        waiting=sum(cast("int", row["waiting"]) for row in alarms.values()),
        dead=status["letters"],
        alarms=tuple(
            Delivered(alarm.name, last.get(alarm.name, 0.0), alarm.name in status["failing"])
            for alarm in settings.alarms
        ),
        faults=(*status["imbalances"], *status["findings"]),
    )
