"""Finds the incident of a match, moves incidents through their states, and keeps their deadlines.

`now` is in seconds since the epoch of a clock that never jumps and that goes on over restarts: clock steps move no
deadline. Every method that changes an incident returns a `Change`, which the caller writes down together with the
messages in one transaction.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from alarm_mw.engine.incidents.absence import NEVER, is_unknown, next_time
from alarm_mw.engine.incidents.incident import (
    OTHER,
    Acknowledgement,
    EndedBy,
    Incident,
    Key,
    Marks,
    State,
    Step,
    incident_id,
)
from alarm_mw.engine.incidents.reconcile import Outcome, reconcile
from alarm_mw.model.measures import ALL_LABELS
from alarm_mw.model.types import Absence, Flap, TimeInterval

#: How many void deadlines are kept at most, beside as many as there are others.
VOID = 1000


class IncidentRule(msgspec.Struct, frozen=True):
    """What a rule with a life says of its incidents."""

    name: str
    #: The alarms, with their escalation: one step each.
    steps: tuple[Step, ...]
    #: Fires at this many matches of one key …
    count: int = 1
    #: … within this many seconds.
    within: float = 0.0
    #: Seconds without a match after which it is resolved; 0: never.
    resolve_after: float = 0.0
    #: Seconds that it goes on firing after what resolves it, unless it matches again.
    keep_firing_for: float = 0.0
    labels: Mapping[str, str] = {}
    key: tuple[str, ...] = ()
    flap: Flap | None = None
    #: How many incidents it may have. The one that was quiet for the longest is evicted; where none is, matches of
    #: further keys count for one incident, `OTHER`.
    max_keys: int = 10_000
    #: When it sends no messages.
    mute: tuple[TimeInterval, ...] = ()
    #: An incident begins without a match, and a match ends it.
    absence: Absence | None = None


class Change(NamedTuple):
    """An incident that has changed, and the messages that follow."""

    incident: Incident
    outcome: Outcome
    #: The match counts for the incident "other", since its rule has too many keys.
    is_overflow: bool = False
    #: The incident that was evicted for it: it was over, or had not begun to fire.
    evicted: str = ""
    has_begun: bool = False
    has_ended: bool = False


#: Of a further match of an incident that is firing.
NOTHING = Outcome()


class Tracker:
    """The incidents of a configuration. Belongs to one thread; bounded by the rules' `max_keys`."""

    def __init__(
        self,
        rules: Iterable[IncidentRule],
        incidents: Iterable[Incident],
        marks: Callable[[Incident, float], Marks],
        wall: Callable[[float], float] = lambda now: now,
        blind: float = 0.0,
    ) -> None:
        """Go on with `incidents` of a former tracker; `marks` says what holds an incident's messages back.

        `wall` returns the time of day at a moment, by which schedules go. For `blind` seconds, all together, there was
        no process to see a match. Call `start` before anything else.
        """
        self._wall = wall
        self.blind = blind
        #: Those whose next match was set by `start` or `skip`.
        self.armed: list[Incident] = []
        self._rules = {rule.name: rule for rule in rules}
        self._marks = marks
        self._incidents = {incident.id: incident for incident in incidents}
        #: The same by rule and key: to make an id of them takes as long as all else that a further match needs.
        self._by_key = {(incident.rule, incident.key): incident for incident in self._incidents.values()}
        self._serial = max((incident.serial for incident in self._incidents.values()), default=0)
        #: How many incidents each rule has, and those that may be evicted, the one that was quiet for longest first.
        self._keys: dict[str, int] = {}
        self._evictable: dict[str, dict[str, None]] = {}
        #: When each incident is to be looked at next; what stands in the heap and not here is void.
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        for incident in self._incidents.values():
            self._keys[incident.rule] = self._keys.get(incident.rule, 0) + 1

    def start(self, now: float, gap: float = 0.0) -> list[Change]:
        """Resolve the incidents of rules that are gone or have another key, and do what is due of all others.

        For the last `gap` seconds, nobody could have seen a match.
        """
        for rule in self._rules.values():
            if rule.absence is not None:
                self._arm_all(rule, rule.absence, now, gap)
        return [
            self._end(incident, EndedBy.REMOVED, now)
            if incident.is_open and not self._has_rule(incident)
            else self._tick(incident, now)
            for incident in list(self._incidents.values())
        ]

    def _has_rule(self, incident: Incident) -> bool:
        rule = self._rules.get(incident.rule)
        if rule is None or incident.key == OTHER or rule.key == (ALL_LABELS,):
            return rule is not None
        return tuple(name for name, _ in incident.key) == rule.key

    def __iter__(self) -> Iterator[Incident]:
        return iter(list(self._incidents.values()))

    def get(self, incident: str) -> Incident | None:
        """Return the incident of this id."""
        return self._incidents.get(incident)

    def find(self, rule: str, key: Key) -> Incident | None:
        """Return the incident of a rule and a key."""
        return self._by_key.get((rule, key))

    def starting_with(self, digits: str) -> list[Incident]:
        """Return the open incidents whose ids begin with these digits."""
        return [each for each in self._incidents.values() if each.is_open and each.id.startswith(digits)]

    def open_of(self, rule: str) -> list[Incident]:
        """Return the open incidents of a rule."""
        return [each for each in self._incidents.values() if each.rule == rule and each.is_open]

    def match(self, rule: str, key: Key, now: float, line: str = "") -> Change:
        """Count a match of a rule for a key; open its incident, or the next episode, where that is enough.

        Of a rule on absence, `line` ends the incident.
        """
        incident, is_overflow, evicted = self._find(self._rules[rule], key, now)
        if (absence := self._rules[rule].absence) is not None:
            return self._see(incident, absence, now, line)._replace(is_overflow=is_overflow, evicted=evicted)
        if incident.state is State.FIRING and incident.ends is None:
            # Most matches of a flood: only its end moves away, which `tick` finds out.
            incident.count += 1
            incident.last, incident.blind = now, self.blind
            return Change(incident, NOTHING, is_overflow)
        incident.ends = None
        if incident.state is State.RESOLVED:
            incident.state, incident.count, incident.pending = State.PENDING, 0, []
        if not incident.count:
            incident.opened = now
        incident.count += 1
        incident.last, incident.blind = now, self.blind
        has_begun = incident.state is State.PENDING and self._reaches_count(incident, now)
        if has_begun:
            self._fire(incident, now)
        return self._look(incident, now)._replace(is_overflow=is_overflow, evicted=evicted, has_begun=has_begun)

    def resolve(self, rule: str, key: Key, now: float, line: str = "") -> Change | None:
        """End the incident of a key, where there is one, by a line that says that it is over.

        One that is pending starts counting again.
        """
        incident = self._incidents.get(incident_id(rule, key))
        if incident is None or incident.state is State.RESOLVED:
            return None
        if incident.state is State.PENDING:
            incident.count, incident.pending = 0, []
            return self._look(incident, now)
        incident.end = line
        keep = self._rules[rule].keep_firing_for
        if not keep:
            return self._end(incident, EndedBy.LINE, now)
        if incident.ends is None:
            incident.ends = now + keep
        return self._look(incident, now)

    def resolve_by_hand(self, incident: str, now: float, by: str = "") -> Change | None:
        """End an open incident, by the word of an operator."""
        found = self._incidents.get(incident)
        if found is None or not found.is_open:
            return None
        found.end = by
        if (absence := self._absence(found)) is not None:
            self._arm(found, absence, now)
        return self._end(found, EndedBy.OPERATOR, now)

    def acknowledge(self, incident: str, ack: Acknowledgement | None, now: float) -> Change | None:
        """Take on an open incident's episode, or, with None, give it back."""
        found = self._incidents.get(incident)
        if found is None or not found.is_open:
            return None
        found.ack = ack
        return self._look(found, now)

    def look(self, now: float, *, at: Iterable[Incident] | None = None) -> list[Change]:
        """Look at incidents whose marks may have changed: a silence begins or ends, another incident inhibits them."""
        return [self._look(incident, now) for incident in (self if at is None else at)]

    def look_at(self, incident: Incident, when: float) -> None:
        """Look at an incident at that time, if not before."""
        self._schedule(incident, min(when, self._due.get(incident.id, when)))

    def due(self) -> float | None:
        """Return when `tick` has something to do, None where it has not."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def tick(self, now: float) -> list[Change]:
        """Do what is due."""
        changes = []
        while (due := self.due()) is not None and due <= now:
            _, name = heapq.heappop(self._heap)
            del self._due[name]
            changes.append(self._tick(self._incidents[name], now))
        return changes

    def forget(self, before: float) -> list[str]:
        """Forget incidents that are over, and had their last match before that time; return their ids."""
        forgotten = []
        for names in self._evictable.values():
            for name in list(names):
                if self._incidents[name].last >= before:
                    break
                if self._absence(self._incidents[name]) is not None:
                    continue
                self._drop(name)
                forgotten.append(name)
        return forgotten

    def skip(self, now: float, gap: float) -> None:
        """Take note that nobody could see a match in the last `gap` seconds: that is no quiet time."""
        self.blind += gap
        for rule in self._rules.values():
            if rule.absence is not None:
                self._arm_all(rule, rule.absence, now, gap)

    # Absence

    def _arm_all(self, rule: IncidentRule, absence: Absence, now: float, gap: float) -> None:
        """Expect matches of a rule from now on, or go on to expect them."""
        if absence.from_start and not rule.key and (rule.name, ()) not in self._by_key:
            self._find(rule, (), now)
        wall = self._wall(now)
        for incident in self._incidents.values():
            if incident.rule != rule.name:
                continue
            if not incident.last:
                self._arm(incident, absence, now)
                self.armed.append(incident)
            elif absence.schedule and self._is_outdated(incident, absence, wall, gap):
                incident.expected = absence.schedule, next_time(absence, wall)
                self.armed.append(incident)

    @staticmethod
    def _is_outdated(incident: Incident, absence: Absence, wall: float, gap: float) -> bool:
        """Return whether the time for which a match is expected is that of another schedule, or was not observed."""
        schedule, expected = incident.expected or ("", 0.0)
        return schedule != absence.schedule or is_unknown(absence, expected, wall, gap)

    def _absence(self, incident: Incident) -> Absence | None:
        rule = self._rules.get(incident.rule)
        return None if rule is None else rule.absence

    def _arm(self, incident: Incident, absence: Absence, now: float) -> None:
        """Expect the next match."""
        incident.last, incident.blind = now, self.blind
        incident.expected = (absence.schedule, next_time(absence, self._wall(now))) if absence.schedule else None

    def _see(self, incident: Incident, absence: Absence, now: float, line: str) -> Change:
        """Take a match in that was expected."""
        self._arm(incident, absence, now)
        if incident.is_open:
            incident.end = line
            return self._end(incident, EndedBy.LINE, now)
        if incident.id not in self._due:
            return self._look(incident, now)
        self._note_use(incident)  # `tick` finds out that its deadline has moved away
        return Change(incident, NOTHING)

    def _missed_at(self, incident: Incident) -> float | None:
        """Return when an incident begins unless there is a match before; None where none is expected."""
        absence = self._absence(incident)
        if absence is None or incident.is_open or not incident.last:
            return None
        if not absence.schedule:
            return self._quiet_from(incident) + absence.after + absence.grace
        if incident.expected is None or incident.expected[1] == NEVER:
            return None
        return incident.expected[1] - self._wall(0.0) + absence.grace

    def _miss(self, incident: Incident, now: float) -> Change:
        """Begin an incident, since what was expected has not come."""
        incident.count, incident.opened = 0, now
        self._fire(incident, now)
        return self._look(incident, now)._replace(has_begun=True)

    # One incident

    def _find(self, rule: IncidentRule, key: Key, now: float) -> tuple[Incident, bool, str]:
        """Return the incident of a key, whether it is "other" in its place, and which one was evicted for it."""
        if (found := self._by_key.get((rule.name, key))) is not None:
            return found, False, ""
        name, evicted = incident_id(rule.name, key), ""
        if self._keys.get(rule.name, 0) >= rule.max_keys:
            evicted = self._evict(rule.name)
            if not evicted:
                key = OTHER
                name = incident_id(rule.name, key)
                if (found := self._incidents.get(name)) is not None:
                    return found, True, evicted
        self._serial = max(self._serial + 1, int(now * 1e6))
        labels = {**rule.labels, **{name: value for name, value in key if value}}
        self._incidents[name] = self._by_key[rule.name, key] = Incident(name, self._serial, rule.name, key, labels)
        self._keys[rule.name] = self._keys.get(rule.name, 0) + 1
        return self._incidents[name], key is OTHER, evicted

    def _evict(self, rule: str) -> str:
        """Forget the incident that was quiet for the longest, and return its id; empty where all are open."""
        name = next(iter(self._evictable.get(rule, ())), "")
        if name:
            self._drop(name)
        return name

    def _drop(self, name: str) -> None:
        incident = self._incidents.pop(name)
        rule = incident.rule
        del self._by_key[rule, incident.key]
        del self._evictable[rule][name]
        self._due.pop(name, None)
        self._keys[rule] -= 1

    def _note_use(self, incident: Incident) -> None:
        """Put an incident that may be evicted behind the others, and keep one that is open."""
        evictable = self._evictable.setdefault(incident.rule, {})
        evictable.pop(incident.id, None)
        if not incident.is_open and not any(last.is_open for last in incident.notified.values()):
            evictable[incident.id] = None

    def _reaches_count(self, incident: Incident, now: float) -> bool:
        rule = self._rules[incident.rule]
        if rule.count <= 1:
            return True
        recent = [time for time in incident.pending if now - time <= rule.within]
        incident.pending = [*recent, now][-rule.count :]
        return len(incident.pending) >= rule.count

    def _fire(self, incident: Incident, now: float) -> None:
        rule = self._rules[incident.rule]
        incident.state = State.FIRING
        incident.episode += 1
        incident.fired = now
        incident.ended = incident.ended_by = incident.ack = None
        incident.end = ""
        incident.owed = _owed(incident, rule.steps) if incident.notified else ()
        incident.steps, incident.pending = rule.steps, []
        self._note_transition(incident, now)

    def _end(self, incident: Incident, by: EndedBy, now: float) -> Change:
        incident.state = State.RESOLVED
        incident.ends, incident.ended, incident.ended_by = None, now, by
        self._note_transition(incident, now)
        return self._look(incident, now)._replace(has_ended=True)

    def _note_transition(self, incident: Incident, now: float) -> None:
        rule = self._rules.get(incident.rule)
        if rule is None or rule.flap is None:
            incident.transitions = []
            return
        recent = [time for time in incident.transitions if now - time < rule.flap.within]
        incident.transitions = [*recent, now][-rule.flap.count :]
        if len(incident.transitions) >= rule.flap.count and incident.flapping_since is None:
            incident.flapping_since = now

    def _tick(self, incident: Incident, now: float) -> Change:
        if incident.ends is not None and incident.ends <= now:
            return self._end(incident, EndedBy.LINE, now)
        timeout = self._timeout(incident)
        if timeout is not None and timeout <= now:
            return self._end(incident, EndedBy.TIMEOUT, now)
        missed = self._missed_at(incident)
        return self._look(incident, now) if missed is None or missed > now else self._miss(incident, now)

    def _timeout(self, incident: Incident) -> float | None:
        rule = self._rules.get(incident.rule)
        if rule is None or not rule.resolve_after or not incident.is_open:
            return None
        return self._quiet_from(incident) + rule.resolve_after

    def _quiet_from(self, incident: Incident) -> float:
        """Return since when an incident is quiet, as if the downtime behind its last match had been before it."""
        return incident.last + self.blind - incident.blind

    def _flapping_until(self, incident: Incident) -> float | None:
        """Return when an incident that flaps is quiet, unless it changes before."""
        rule = self._rules.get(incident.rule)
        if incident.flapping_since is None or rule is None or rule.flap is None or not incident.transitions:
            return None
        return incident.transitions[-1] + rule.flap.within

    def _look(self, incident: Incident, now: float) -> Change:
        """Find out what follows from the incident's state, and when to look again."""
        quiet = self._flapping_until(incident)
        if quiet is None or quiet <= now:
            incident.flapping_since = quiet = None
        marks = msgspec.structs.replace(
            self._marks(incident, now),
            flapping=quiet is not None,
            acknowledged_until=incident.ack.until if incident.ack is not None else 0.0,
        )
        outcome = reconcile(incident, marks, now)
        self._note_use(incident)
        times = (outcome.due, quiet, self._timeout(incident), incident.ends, self._missed_at(incident))
        self._schedule(incident, min((time for time in times if time is not None), default=None))
        return Change(incident, outcome)

    def _schedule(self, incident: Incident, due: float | None) -> None:
        if due is None:
            self._due.pop(incident.id, None)
        elif self._due.get(incident.id) != due:
            self._due[incident.id] = due
            heapq.heappush(self._heap, (due, incident.id))
            if len(self._heap) > 2 * len(self._due) + VOID:
                self._heap = [(when, name) for name, when in self._due.items()]
                heapq.heapify(self._heap)


def _owed(incident: Incident, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Return former steps that are not among the present ones, and whose alarms believe that the incident is firing."""
    present = {step.alarm for step in steps}
    known = incident.notified
    former = (step for step in (*incident.steps, *incident.owed) if step.alarm not in present)
    return tuple(step for step in former if step.alarm in known and known[step.alarm].is_open)
