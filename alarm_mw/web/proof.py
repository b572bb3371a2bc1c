"""The proof that all is well: lines that were seen, the last match, the last delivery of each alarm; or what is not."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import cast

import msgspec

from alarm_mw.delivery.outbox.incident_rows import Reader
from alarm_mw.delivery.outbox.limits import State
from alarm_mw.model.printable import printable
from alarm_mw.web.incidents import count_unreached
from alarm_mw.web.master import Master


class Delivered(msgspec.Struct, frozen=True):
    """An alarm, and when it last reached its receiver."""

    alarm: str
    #: Seconds since the epoch; 0: never, as far as is remembered.
    last: float
    is_failing: bool


class Trouble(msgspec.Struct, frozen=True):
    """Something about the alarms themselves that needs a look."""

    text: str
    #: The page that shows it, and what that is called.
    path: str
    page: str
    #: ``bad`` or ``warn``.
    tone: str = "warn"


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
    #: What else needs a look: alarms that fail, and dead letters.
    troubles: tuple[Trouble, ...] = ()

    @property
    def is_well(self) -> bool:
        """Whether nothing fails, nothing is dead, and the ledger balances."""
        return not self.dead and not self.faults and not self.troubles


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
        troubles = (*_failing(reader, status["failing"]), *_dead(reader))
    last = {cast("str", alarm): cast("float", time) for alarm, time in done}
    return Proof(
        lines=sum(row["lines"] for row in sources.values()),
        matched=sum(row["matched"] for row in sources.values()),
        last_match=cast("float", taken or 0.0),
        rules=sum(not rule.is_auxiliary for rule in settings.rules),
        delivered=sum(cast("int", row["delivered"]) for row in alarms.values()),
        held_back=sum(sum(cast("dict[str, int]", row["held_back"]).values()) for row in alarms.values()),
        waiting=sum(cast("int", row["waiting"]) for row in alarms.values()),
        dead=status["letters"],
        alarms=tuple(
            Delivered(alarm.name, last.get(alarm.name, 0.0), alarm.name in status["failing"])
            for alarm in settings.alarms
        ),
        faults=(*status["imbalances"], *status["findings"]),
        troubles=troubles,
    )


def failing_alarm(alarm: str, since: float, unreached: int, path: str, whose: str = "") -> Trouble:
    """Return that an alarm fails, and how many incidents have reached nobody for that."""
    nobody = f", {_number(unreached, 'incident')} {'has' if unreached == 1 else 'have'} reached nobody"
    text = f"{printable(alarm, 60)}{whose} has failed since {clock_of(since)}{nobody if unreached else ''}"
    return Trouble(text, path, "Delivery", "bad")


def _failing(reader: Reader, failing: Mapping[str, Mapping[str, float]]) -> Iterator[Trouble]:
    """Yield the alarms that fail, with how many incidents have reached nobody for that."""
    for alarm, how in failing.items():
        yield failing_alarm(alarm, how["since"], count_unreached(reader, alarm), "/delivery")


def _dead(reader: Reader) -> Iterator[Trouble]:
    """Yield the alarms with dead letters."""
    rows = reader.query(
        "SELECT alarm, COUNT(*) FROM firings WHERE state = ? GROUP BY alarm ORDER BY alarm", (str(State.DEAD),)
    )
    for alarm, n in cast("list[tuple[str, int]]", rows):
        path = f"/delivery?alarm={urllib.parse.quote(alarm, safe='')}#letters"
        yield Trouble(f"{_number(n, 'dead letter')} of {printable(alarm, 60)}", path, "Dead letters")


def _number(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def clock_of(seconds: float) -> str:
    """Return a time since the epoch as people read it at night: without the day where that is today's."""
    at = datetime.fromtimestamp(seconds, UTC).astimezone()
    return f"{at:%H:%M:%S}" if at.date() == datetime.now(UTC).astimezone().date() else f"{at:%a %d %b %H:%M:%S}"
