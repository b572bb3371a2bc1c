"""Makes a week of a shop up, and writes it into a state directory, as if a master had seen it.

It uses the program's own modules, so that pages show what they would show of a real week.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from alarm_mw.delivery.outbox import incident_rows
from alarm_mw.delivery.outbox.clock import LastingClock
from alarm_mw.delivery.outbox.entries import encode
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.engine.incidents.incident import (
    Acknowledgement,
    EndedBy,
    Incident,
    Key,
    Notified,
    State,
    Status,
    Step,
    incident_id,
    thread_of,
)
from alarm_mw.engine.incidents.stored import Changes, Event
from alarm_mw.model.types import Firing, IncidentNotice, Reason, Record, Trigger
from alarm_mw.web.store import Store

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
FRIDAY = 4

_INSERT = (
    "INSERT INTO firings (id, alarm, state, firing, attempts, error, reason, taken, age, done)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?)"
)


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """An incident that is to be made up; times are in seconds before now."""

    rule: str
    key: Key
    severity: str
    line: str
    ago: float
    #: 0: it is still open.
    lasted: float = 0.0
    count: int = 1
    alarms: tuple[str, ...] = ("mail",)
    by: str = ""
    comment: str = ""
    end: str = ""
    before: str = ""
    after: str = ""
    #: Matches of each of the last minutes, the newest last.
    trend: tuple[int, ...] = ()


PAYMENTS = Plot(
    rule="payments",
    key=(("processor", "adyen"),),
    severity="critical",
    line="payment 4187 failed: adyen unreachable after 6 s, retry 3 of 3",
    ago=11 * MINUTE,
    count=197,
    alarms=("chat", "mail"),
    before="03:12:05 INFO  order 4187: charging 99.50 EUR\n03:12:06 WARN  adyen answered after 5.1 s\n",
    after="03:12:13 INFO  order 4187 is kept as unpaid\n03:12:13 INFO  queue of unpaid orders: 14\n",
    trend=(1, 4, 9, 17, 22, 30, 28, 25, 24, 19, 18),
)

OPEN = (
    PAYMENTS,
    Plot(
        rule="replica",
        key=(("db", "eu-2"),),
        severity="warning",
        line="lost replica eu-2: connection reset by peer, 3 attempts",
        ago=2.1 * HOUR,
        count=3,
        by="kim",
        comment="provider maintenance until 5",
        trend=(0, 0, 1),
    ),
    Plot(
        rule="disk",
        key=(("disk", "/var/lib/images"),),
        severity="warning",
        line="disk /var/lib/images is 91 % full, 4.2 GB left",
        ago=47 * MINUTE,
        count=12,
        trend=tuple(int(n % 4 == 0) for n in range(46)),
    ),
    Plot(
        rule="logins",
        key=(("address", "203.0.113.9"),),
        severity="notice",
        line="212 failed logins from 203.0.113.9",
        ago=6 * MINUTE,
        count=9,
        alarms=("chat",),
        trend=(1, 0, 2, 2, 3, 1),
    ),
)


#: About how many matches each rule has in half an hour of the day.
WEIGHTS = {
    "payments": 0.6,
    "replica": 0.2,
    "disk": 0.4,
    "slow-search": 5.0,
    "logins": 3.0,
    "crash": 0.3,
    "timeouts": 8.0,
}


def past(chance: random.Random) -> Iterator[Plot]:
    """Yield what is over by now."""
    for day in range(7):
        base = day * DAY
        for _ in range(chance.randint(4, 9)):
            ago = base + chance.uniform(0.2, 0.95) * DAY
            yield Plot(
                rule="slow-search",
                key=(),
                severity="info",
                line=f"search took {chance.randint(1200, 4800)} ms: q=lamp",
                ago=ago,
                lasted=chance.uniform(8, 55),
                count=chance.randint(1, 4),
                alarms=("chat",),
            )
        for _ in range(chance.randint(1, 3)):
            address = f"198.51.100.{chance.randint(2, 250)}"
            yield Plot(
                rule="logins",
                key=(("address", address),),
                severity="notice",
                line=f"{chance.randint(40, 400)} failed logins from {address}",
                ago=base + chance.uniform(0.1, 0.9) * DAY,
                lasted=chance.uniform(11, 50) * MINUTE,
                count=chance.randint(2, 30),
                alarms=("chat",),
            )
        if day in (1, 3, 6):
            processor = chance.choice(("adyen", "stripe"))
            yield Plot(
                rule="payments",
                key=(("processor", processor),),
                severity="critical",
                line=f"payment {4000 - day * 31} failed: {processor} timed out after 6 s",
                ago=base + chance.uniform(0.3, 0.8) * DAY,
                lasted=chance.uniform(4, 26) * MINUTE,
                count=chance.randint(30, 260),
                alarms=("chat", "mail"),
                by=chance.choice(("kim", "sam")),
                comment=chance.choice(("on it", "called them", "")),
                end=f"processor {processor} is back",
            )
        if day in (2, 4):
            yield Plot(
                rule="replica",
                key=(("db", f"eu-{day // 2}"),),
                severity="warning",
                line=f"lost replica eu-{day // 2}: connection reset by peer",
                ago=base + 0.4 * DAY,
                lasted=chance.uniform(20, 90) * MINUTE,
                count=3,
                by="sam",
                end=f"replica eu-{day // 2} caught up",
            )


class Week:
    """Writes plots down."""

    def __init__(self, folder: Path, now: float) -> None:
        self._now = now
        self._outbox = Outbox(folder / "outbox.db")
        self._store = Store(folder / "web.db")
        self._incidents: dict[str, Incident] = {}
        self._events: list[Event] = []
        self._counts: list[tuple[str, str]] = []

    def write(self) -> None:
        """Write the week down."""
        chance = random.Random(7)  # so that each demo looks the same
        for plot in sorted(past(chance), key=lambda plot: -plot.ago):
            self._tell(plot)
        for plot in OPEN:
            self._tell(plot)
        self._dead_letters()
        self._lines(chance)
        changes = Changes(
            incidents=tuple(self._incidents.values()),
            forgotten=(),
            events=tuple(sorted(self._events, key=lambda event: event.time)),
            seen=(),
            places={},
            counts=tuple(self._counts),
            measured=(),
        )
        with self._outbox.transaction():
            incident_rows.write(self._outbox, changes, LastingClock().read())
        for rule, column in self._counts:
            self._outbox.ledger.rule(rule, column)
        self._outbox.flush()
        self._outbox.close()
        self._samples(chance)
        self._store.close()

    def _tell(self, plot: Plot) -> None:
        """Note the incident of a plot, what happened to it and whom it reached."""
        began = self._now - plot.ago
        name = incident_id(plot.rule, plot.key)
        former = self._incidents.get(name)
        record = Record(
            f"{plot.line}\n".encode(),
            "stdout",
            began,
            f"week.{name}.{began:.0f}",
            pid=812,
            before=plot.before.encode(),
            after=plot.after.encode(),
        )
        incident = Incident(
            name,
            int(began * 1e6) if former is None else former.serial,
            plot.rule,
            plot.key,
            {"severity": plot.severity, **dict(plot.key)},
            tuple(Step(alarm) for alarm in plot.alarms),
            State.RESOLVED if plot.lasted else State.FIRING,
            1 if former is None else former.episode + 1,
            len(plot.alarms),
            plot.count,
            began,
            began,
            began + plot.lasted * 0.9 if plot.lasted else self._now - 4,
            first=record,
        )
        self._incidents[name] = incident
        self._counts.append((plot.rule, "opened"))
        self._event(incident, began, "opened", plot.line)
        for place, alarm in enumerate(plot.alarms):
            self._message(incident, record, alarm, "firing", began + 0.2 + place * 0.3, place + 1)
        if plot.by:
            at = began + min(plot.lasted or 130.0, 130.0)
            incident.ack = Acknowledgement(plot.by, at, at + DAY, plot.comment)
            self._event(incident, at, "acknowledged", f"{plot.by}: {plot.comment}" if plot.comment else plot.by)
        status = Status.RESOLVED if plot.lasted else Status.FIRING
        if plot.lasted:
            self._end(incident, record, plot, began + plot.lasted)
        incident.notified = {alarm: Notified(status, incident.episode, began) for alarm in plot.alarms}

    def _end(self, incident: Incident, record: Record, plot: Plot, ended: float) -> None:
        incident.ended, incident.end = ended, plot.end
        incident.ended_by = EndedBy.LINE if plot.end else EndedBy.TIMEOUT
        self._counts.append((plot.rule, f"resolved:{incident.ended_by}"))
        self._event(incident, ended, "resolved", f"{incident.ended_by} {plot.end}".rstrip())
        for place, alarm in enumerate(plot.alarms):
            number = len(plot.alarms) + place + 1
            self._message(incident, record, alarm, "resolved", ended + 0.2 + place * 0.3, number)

    def _event(self, incident: Incident, time: float, kind: str, text: str) -> None:
        self._events.append(Event(time, incident.id, incident.rule, dict(incident.key), incident.episode, kind, text))

    def _message(  # noqa: PLR0917  # all of a message
        self, incident: Incident, record: Record, alarm: str, status: str, at: float, number: int
    ) -> None:
        if status != "resolved":
            self._event(incident, at, status, alarm)
        thread = thread_of(incident)
        column = "matched" if status == "firing" else "resolved"
        notice = IncidentNotice(
            incident.id,
            status,
            incident.episode,
            thread,
            incident.opened,
            dict(incident.key),
            incident.count,
            column=column,
        )
        trigger = Trigger(incident.rule, incident.labels, incident=notice)
        firing = Firing(f"{thread}-{number}", alarm, record.message, record, at, trigger=trigger)
        self._outbox.change(
            _INSERT, (firing.id, alarm, "delivered", encode(firing), 1, "", "", at, at + 0.1 + (number % 7) / 10)
        )
        for name in (column, "fired", "delivered"):
            self._outbox.ledger.alarm(alarm, name)
        held = incident.count - 1 if status == "firing" else 0
        self._outbox.ledger.alarm(alarm, "matched", held)
        self._outbox.ledger.alarm(alarm, "held_back", held, reason=Reason.ONGOING)

    def _dead_letters(self) -> None:
        """Note what the gateway of short messages did not take."""
        for number, ago in enumerate((26 * HOUR, 3 * HOUR)):
            at = self._now - ago
            record = Record(b"payment 4011 failed: adyen timed out after 6 s\n", "stdout", at, f"dead.{number}")
            firing = Firing(f"dead.{number}.sms", "sms", record.message, record, at, rule="payments")
            error = "gateway: 402 Payment Required, the account is overdrawn"
            self._outbox.change(_INSERT, (firing.id, "sms", "dead", encode(firing), 4, error, "gave_up", at, at + 600))
            for column in ("matched", "fired"):
                self._outbox.ledger.alarm("sms", column)
            self._outbox.ledger.alarm("sms", "dead", reason=Reason.GAVE_UP)

    def _lines(self, chance: random.Random) -> None:
        lines, matched = 23_411_904 + chance.randint(0, 1000), 6_412
        for column, n in (("lines", lines), ("screened_out", lines - matched), ("matched", matched)):
            self._outbox.ledger.source("stdout", column, n)

    def _samples(self, chance: random.Random) -> None:
        """Note how often each rule has matched, more by day than by night, and the trends of what is open."""
        now = int(self._now // MINUTE)
        for minute in range(now - 14 * 24 * 60, now - 12 * 60, 30):
            local = time.localtime(minute * MINUTE)
            day = 0.15 + max(math.sin((local.tm_hour + local.tm_min / 60 - 6) / 24 * 2 * math.pi), 0.0)
            weekend = 0.5 if local.tm_wday > FRIDAY else 1.0
            counts = {
                ("rule", rule): int(chance.expovariate(1 / (weight * day * weekend)))
                for rule, weight in WEIGHTS.items()
            }
            self._store.add_samples(minute, counts)
        for minute in range(now - 12 * 60, now, 10):
            self._store.add_samples(
                minute, {("rule", rule): int(chance.expovariate(1 / weight)) for rule, weight in WEIGHTS.items()}
            )
        for plot in OPEN:
            name = incident_id(plot.rule, plot.key)
            for place, n in enumerate(reversed(plot.trend)):
                self._store.add_samples(now - place, {("incident", name): n, ("rule", plot.rule): n})


def write(folder: Path) -> None:
    """Write a week that ends now into a state directory."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    Week(folder, time.time()).write()
