"""Finds what holds messages about an incident back: other incidents, the time of day, what an alarm does not admit."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping

from alarm_mw.engine.incidents.incident import Incident, Mark, Marks
from alarm_mw.engine.incidents.inhibition import Inhibitions
from alarm_mw.engine.incidents.tracker import IncidentRule
from alarm_mw.model.types import InhibitRule, Reason
from alarm_mw.system.forks import held_off

#: Counts a message to an alarm about an incident of a rule, with labels, or returns what holds it back and for how many
#: seconds.
Admit = Callable[[str, str, Mapping[str, str]], tuple[Reason, float | None] | None]


class Marking:
    """Belongs to the incidents of one engine. `time` is the time of day."""

    def __init__(
        self,
        rules: Iterable[IncidentRule],
        inhibit_rules: Iterable[InhibitRule],
        alarms: Collection[str],
        admit: Admit,
        time: Callable[[], float],
    ) -> None:
        self._mutes = {rule.name: rule.mute for rule in rules if rule.mute}
        self._inhibitions = Inhibitions(inhibit_rules)
        #: The ids of incidents that were inhibited when they were last looked at.
        self._inhibited: set[str] = set()
        self._alarms = frozenset(alarms)
        self._admit = admit
        self._time = time

    @property
    def has_inhibitions(self) -> bool:
        """Whether some incident is firing that may inhibit messages."""
        return bool(self._inhibitions)

    @property
    def has_mutes(self) -> bool:
        """Whether the time of day may hold messages back."""
        return bool(self._mutes)

    def note(self, incident: Incident) -> None:
        """Note that an incident has begun or ended: it may inhibit others."""
        self._inhibitions.note(incident)

    def inhibits(self, rule: str, labels: Mapping[str, str]) -> bool:
        """Return whether messages about a rule with these labels are inhibited."""
        return self._inhibitions.inhibits(rule, labels)

    def take_inhibited(self) -> list[str]:
        """Return the ids of the incidents that were inhibited when they were last looked at, and forget them."""
        inhibited = [*self._inhibited]
        self._inhibited.clear()
        return inhibited

    def marks(self, incident: Incident, now: float) -> Marks:
        """Return what holds messages about an incident back, at a time of the incidents' clock."""
        is_inhibited = bool(self._inhibitions) and self._inhibitions.inhibits(incident.rule, incident.labels)
        if is_inhibited:
            self._inhibited.add(incident.id)
        muted_until = self._muted_until(incident.rule, now) if self._mutes else 0.0
        admit = functools.partial(self._admitted, incident, now)
        return Marks(inhibited=is_inhibited, muted_until=muted_until, admit=admit)

    def _muted_until(self, rule: str, now: float) -> float:
        intervals = self._mutes.get(rule)
        if intervals is None:
            return 0.0
        with held_off():  # few configurations have intervals
            from alarm_mw.engine.incidents.time_intervals import covered_until  # noqa: PLC0415
        wall = self._time()
        until = covered_until(intervals, wall)
        return 0.0 if until is None else now + until - wall

    def _admitted(self, incident: Incident, now: float, alarm: str) -> tuple[Mark, float | None] | None:
        if alarm not in self._alarms:
            return Mark.UNAVAILABLE, None
        why = self._admit(alarm, incident.rule, incident.labels)
        if why is None:
            return None
        reason, seconds = why
        return Mark(reason.value), None if seconds is None else now + seconds
