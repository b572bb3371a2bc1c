"""Open incidents as alerts of Alertmanager, and which of them a client asks for."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from starlette.datastructures import QueryParams

from alarm_mw.delivery.outbox import incident_rows
from alarm_mw.engine.flood_control.silences import labels_of
from alarm_mw.engine.incidents.incident import Incident
from alarm_mw.engine.incidents.inhibition import Inhibitions
from alarm_mw.engine.matchers import Matcher, parse_matchers
from alarm_mw.model.measures import ALERTNAME, ExternalAlert
from alarm_mw.texts.facts import rfc3339
from alarm_mw.web.api.alertmanager.schema import AlertGroup, AlertStatus, GettableAlert, PostableAlert, Receiver
from alarm_mw.web.incidents import facts_of_incident, row_of
from alarm_mw.web.master import Master

#: Seconds after which an alert is said to end unless it is seen again, as Alertmanager's `resolve_timeout`.
RESOLVE_TIMEOUT = 300.0


class Selection(NamedTuple):
    """Which alerts a client asks for."""

    matchers: tuple[Matcher, ...]
    receiver: re.Pattern[str] | None
    active: bool
    silenced: bool
    inhibited: bool
    muted: bool

    @classmethod
    def of(cls, asked: QueryParams) -> Selection:
        """Return what a query string says; raise `ValueError` with a sentence for people."""
        try:
            receiver = re.compile(asked["receiver"]) if "receiver" in asked else None
        except re.error as error:
            raise ValueError(f"receiver: the regexp {asked['receiver']!r} is wrong: {error}") from None
        names = ("active", "silenced", "inhibited", "muted")
        return cls(parse_matchers(asked.getlist("filter")), receiver, *(flag(asked, name) for name in names))

    def takes(self, alert: GettableAlert) -> bool:
        """Return whether an alert is asked for."""
        status = alert.status
        if not self.active and status.state == "active":
            return False
        if (status.silenced_by and not self.silenced) or (status.inhibited_by and not self.inhibited):
            return False
        if self.receiver is not None and not any(self.receiver.fullmatch(each.name) for each in alert.receivers):
            return False
        return all(matcher.matches(alert.labels) for matcher in self.matchers)


def flag(asked: QueryParams, name: str, *, default: bool = True) -> bool:
    """Return a boolean of a query string; raise `ValueError` with a sentence for people."""
    text = asked.get(name, "true" if default else "false").lower()
    if text not in {"true", "false", "1", "0"}:
        raise ValueError(f"{name}: expected true or false, got {text!r}")
    return text in {"true", "1"}


def alerts(master: Master, selection: Selection) -> list[GettableAlert]:
    """Return the open incidents that a client asks for, the oldest first. May block."""
    offset, now = master.offset(), time.time()
    with master.reading() as reader:
        found = sorted(incident_rows.incidents(reader), key=lambda each: each.opened)
    url = master.settings().web.url
    holders = _Holders.of(master, found)
    every = (_alert(incident, offset, now, url, holders) for incident in found)
    return [alert for alert in every if selection.takes(alert)]


#: Labels of an alert, and characters of a name.
MOST_LABELS = 64
LENGTH = 200


def external(alert: PostableAlert, now: float) -> ExternalAlert:
    """Return an alert that was posted at `now` (seconds since the epoch); raise `ValueError` for one that is wrong."""
    labels = {name: value for name, value in alert.labels.items() if value}
    if not labels.get(ALERTNAME):
        raise ValueError(f"an alert needs the label {ALERTNAME!r}, got {dict(alert.labels)!r}")
    if len(labels) > MOST_LABELS or any(not name or len(name) > LENGTH for name in labels):
        raise ValueError(f"an alert has at most {MOST_LABELS} labels, whose names have at most {LENGTH} characters")
    ends = 0.0 if alert.ends_at is None or alert.ends_at.year == 1 else alert.ends_at.timestamp()
    said = [alert.annotations.get(name, "") for name in ("summary", "description", "message")]
    return ExternalAlert(
        labels,
        next(filter(None, said), labels[ALERTNAME]),
        max(ends - now, 0.0) if ends else RESOLVE_TIMEOUT,
        {**alert.annotations, **({"generatorURL": alert.generator_url} if alert.generator_url else {})},
    )


class _Holders(NamedTuple):
    """What may hold messages back at present."""

    silences: Sequence[tuple[str, tuple[Matcher, ...]]]
    inhibitions: Inhibitions

    @classmethod
    def of(cls, master: Master, incidents: Iterable[Incident]) -> _Holders:
        inhibitions = Inhibitions(master.settings().inhibit_rules)
        for incident in incidents:
            inhibitions.note(incident)
        active = [silence for silence in master.silences(False) if silence["state"] == "active"]
        return cls([(silence["id"], parse_matchers(silence["matchers"])) for silence in active], inhibitions)

    def silencing(self, alarm: str, incident: Incident) -> list[str]:
        labels = labels_of(alarm, incident.rule, incident.labels)
        return [name for name, matchers in self.silences if all(matcher.matches(labels) for matcher in matchers)]


def _alert(incident: Incident, offset: float, now: float, url: str, holders: _Holders) -> GettableAlert:
    row = row_of(incident, offset)
    facts = facts_of_incident(incident)
    about = {"summary": row.message, "incident": row.id, "acknowledged_by": row.acknowledged_by, "comment": row.comment}
    return GettableAlert(
        labels={"alertname": incident.rule, **({"severity": row.severity} if row.severity else {}), **incident.labels},
        annotations={name: value for name, value in {**facts.fields, **about}.items() if value},
        receivers=tuple(Receiver(step.alarm) for step in incident.steps),
        fingerprint=incident.id,
        starts_at=rfc3339(row.started),
        updated_at=rfc3339(row.last),
        ends_at=rfc3339(now + RESOLVE_TIMEOUT),
        status=_status(incident, holders),
        generator_url=f"{url}/i/{incident.id}" if url else "",
    )


def _status(incident: Incident, holders: _Holders) -> AlertStatus:
    by_alarm = [holders.silencing(step.alarm, incident) for step in incident.steps]
    silenced = tuple(dict.fromkeys(name for names in by_alarm for name in names)) if all(by_alarm) else ()
    inhibited = tuple(holders.inhibitions.sources(incident.rule, incident.labels))
    return AlertStatus("suppressed" if silenced or inhibited else "active", silenced, inhibited)


def groups(found: Iterable[GettableAlert], selection: Selection) -> list[AlertGroup]:
    """Return alerts by their names and receivers."""
    by_group: dict[tuple[str, str], list[GettableAlert]] = {}
    for alert in found:
        for receiver in alert.receivers:
            if selection.receiver is None or selection.receiver.fullmatch(receiver.name):
                by_group.setdefault((receiver.name, alert.labels["alertname"]), []).append(alert)
    made = [
        AlertGroup(labels={"alertname": name}, route_labels={}, receiver=Receiver(receiver), alerts=tuple(alerts))
        for (receiver, name), alerts in sorted(by_group.items(), key=lambda item: item[0])
    ]
    return [group for group in made if selection.muted or any(alert.status.state == "active" for alert in group.alerts)]
