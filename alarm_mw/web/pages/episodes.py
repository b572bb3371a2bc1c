"""The episodes of the history: those of this machine, and those of the other machines of its fleet, in one list."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from alarm_mw.delivery.outbox import incident_rows
from alarm_mw.engine.incidents.episodes import Episode, episodes_of
from alarm_mw.engine.incidents.stored import Event
from alarm_mw.model.fleet import FleetHistory, FleetIncident
from alarm_mw.web.incidents import names_of
from alarm_mw.web.master import Master

#: How many machines of an episode are named in the list.
NAMED = 5

#: Seconds by which the times of the fleet and of this machine may differ for what happened at once.
_UNSURE = 1.0


class ShownEpisode(Episode, kw_only=True):
    """An episode, with the machines that had it."""

    labels: Mapping[str, str] = {}
    #: The first ones, and how many there are; none without a fleet.
    machines: tuple[str, ...] = ()
    machine_count: int = 0
    #: Whether this machine had it as well: then it has a page by the incident's id alone.
    is_here: bool = True

    @property
    def machine_names(self) -> str:
        """The machines: ``web-1, web-2, …``."""
        return names_of(self.machines[:NAMED], self.machine_count)

    @property
    def path(self) -> str:
        """The path of its page."""
        is_open_elsewhere = not self.is_here and self.ended is None
        return f"/i/{self.incident}{'' if self.is_here or is_open_elsewhere else f'?episode={self.number}'}"

    def matches(self, text: str) -> bool:
        """Return whether all words of a filter are found in it, its labels, or the names of its machines."""
        facts = {**self.labels, **self.key}
        words = [self.incident, self.rule, self.line, self.acknowledged_by, *self.machines]
        everything = " ".join([*words, *(f"{name}={value}" for name, value in facts.items())]).lower()
        return all(word in everything for word in text.lower().split())


class History(NamedTuple):
    """What is known of the past."""

    episodes: Sequence[ShownEpisode]
    #: Why those of other machines are not among them, for people; empty where they are, and without a fleet.
    fault: str


def episodes_since(master: Master, since: float) -> list[Episode]:
    """Return this machine's episodes that have had events since a time, in the order of their beginnings. May block."""
    with master.reading() as reader:
        return episodes_of(incident_rows.events(reader, since))


def history_since(master: Master, since: float) -> History:
    """Return the episodes of this machine and of its fleet that were open or ended since a time. May block."""
    ours = episodes_since(master, since)
    theirs = master.fleet_history(since)
    return History(in_one_list(ours, theirs or FleetHistory()), "" if theirs is None else theirs.error)


def elsewhere_since(master: Master, since: float) -> list[tuple[Event, str]]:
    """Return what has happened since a time in episodes that only other machines had, the oldest first. May block.

    Each event has the machine that has sent its message; empty where it is about none. Raises `TimeoutError` where the
    fleet cannot be asked.
    """
    theirs = master.fleet_history(since)
    if theirs is None:
        return []
    if theirs.error:
        raise TimeoutError(f"the history of the fleet is not available: {theirs.error}")
    shown = in_one_list(episodes_since(master, since), theirs)
    wanted = {(each.incident, each.number) for each in shown if not each.is_here}
    found = (event for each in theirs.incidents if (each.id, each.episode) in wanted for event in events_of(each))
    return sorted((each for each in found if each[0].time >= since), key=lambda each: each[0].time)


def events_of(incident: FleetIncident) -> Iterator[tuple[Event, str]]:
    """Yield what has happened in an episode of the fleet, each with the machine that has sent the message."""
    facts = incident.id, incident.rule, incident.key, incident.episode
    yield Event(incident.started, *facts, "opened", incident.text), ""
    if incident.acknowledged_at is not None:
        yield Event(incident.acknowledged_at, *facts, "acknowledged", incident.acknowledged_by), ""
    for alarm, told in incident.alarms.items():
        if told.first_at is not None:
            yield Event(told.first_at, *facts, "firing", alarm), told.first_by
        if told.told_at is not None and told.told_at != told.first_at:
            yield Event(told.told_at, *facts, "reminder", alarm), told.told_by
        if told.over_at is not None:
            yield Event(told.over_at, *facts, "resolved", alarm), told.over_by
    if incident.ended is not None:
        yield Event(incident.ended, *facts, "resolved", f"{incident.ended_by} {incident.resolved_by}".strip()), ""


def in_one_list(ours: Iterable[Episode], theirs: FleetHistory) -> list[ShownEpisode]:
    """Return each episode once: what this machine had of an episode of the fleet is a part of that one."""
    by_incident: dict[str, list[FleetIncident]] = {}
    for other in theirs.incidents:
        by_incident.setdefault(other.id, []).append(other)
    parts: dict[tuple[str, int], list[Episode]] = {}
    found = []
    for own in ours:
        known = max(by_incident.get(own.incident, ()), key=lambda other: _overlap(own, other), default=None)
        if known is None or _overlap(own, known) < -_UNSURE:
            found.append(ShownEpisode(**msgspec.structs.asdict(own)))
        else:
            parts.setdefault((known.id, known.episode), []).append(own)
    found += [_joined(each, parts.get((each.id, each.episode), []), theirs.machine) for each in theirs.incidents]
    return found


def _overlap(own: Episode, other: FleetIncident) -> float:
    """Return for how many seconds both were open; less than zero where one began after the end of the other."""
    ends = (math.inf if each.ended is None else each.ended for each in (own, other))
    return min(ends) - max(own.began, other.started)


def _joined(fleet: FleetIncident, ours: Sequence[Episode], machine: str) -> ShownEpisode:
    """Return an episode of the fleet, with what this machine knows of it."""
    begins, ends = [own.began for own in ours], [own.ended for own in ours]
    if not ours or fleet.machines != (machine,):  # what happened here alone is known better here
        begins.append(fleet.started)
        ends.append(fleet.ended)
    by, after = fleet.acknowledged_by, None
    if fleet.acknowledged_at is not None:
        after = max(fleet.acknowledged_at - fleet.started, 0.0)
    for own in ours:
        if own.acknowledged_by:
            by, after = own.acknowledged_by, own.acknowledged_after
            break
    over = [end for end in ends if end is not None]
    is_over = len(over) == len(ends)
    causes = [fleet.ended_by, *(own.ended_by for own in ours)]
    return ShownEpisode(
        incident=fleet.id,
        number=ours[0].number if ours else fleet.episode,
        rule=fleet.rule,
        key=ours[0].key if ours else fleet.key,
        began=min(begins),
        line=next((own.line for own in ours if own.line), fleet.text),
        ended=max(over) if is_over else None,
        ended_by=next(filter(None, causes), "") if is_over else "",
        acknowledged_by=by,
        acknowledged_after=after,
        messages=sum(own.messages for own in ours) or sum(told.messages for told in fleet.alarms.values()),
        is_flapping=any(own.is_flapping for own in ours),
        labels=fleet.labels,
        machines=fleet.machines,
        machine_count=fleet.machine_count,
        is_here=bool(ours),
    )
