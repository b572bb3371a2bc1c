"""The incidents of an engine: takes matches and deadlines; returns firings, and what must be stored."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from msgspec import structs

from alarm_mw.engine.incidents.incident import (
    Acknowledgement,
    Incident,
    Key,
    Notified,
    State,
    Status,
    incident_id,
    key_of,
    thread_of,
)
from alarm_mw.engine.incidents.marking import Admit, Marking
from alarm_mw.engine.incidents.measures.judgement import Judgement, Sample
from alarm_mw.engine.incidents.measures.measures import MeasuredRule, Measures
from alarm_mw.engine.incidents.notices import (
    AROUND,
    BEGINNINGS,
    MESSAGE,
    VALUE,
    Notices,
    badness,
    numbers_of,
    shortened,
    with_figures,
)
from alarm_mw.engine.incidents.reconcile import refresh
from alarm_mw.engine.incidents.stored import Changes, Event, Saved, SeenRecords
from alarm_mw.engine.incidents.tracker import NOTHING, Change, IncidentRule, Tracker
from alarm_mw.engine.rules import CompiledRule
from alarm_mw.model.fleet import SharedOrder
from alarm_mw.model.measures import HEARTBEAT, ExternalAlert, New
from alarm_mw.model.printable import printable
from alarm_mw.model.types import (
    Firing,
    Held,
    InhibitRule,
    Reason,
    Record,
    Report,
)

#: Seconds after which a message is made again that could not be taken.
AGAIN_AFTER = 60.0


class Matched(NamedTuple):
    """What follows from a match."""

    firings: list[Firing]
    held: list[Held]
    #: The rule fires, without incidents: the value is new.
    is_news: bool = False


class Incidents:
    """Belongs to one engine, and to its thread."""

    def __init__(
        self,
        rules: Mapping[str, CompiledRule],
        tracked: Iterable[IncidentRule],
        *,
        alarms: Collection[str],
        alarm_msg_size: int,
        admit: Admit,
        clock: Callable[[], float],
        time: Callable[[], float],
        inhibit_rules: Iterable[InhibitRule] = (),
        measured: Mapping[str, MeasuredRule] = MappingProxyType({}),
        refreshed: Collection[str] = (),
    ) -> None:
        """Call `start` before anything else.

        `rules` are those with incidents, by their names. `admit` counts a message to an alarm about an incident of a
        rule, with labels, or returns what holds it back and for how many seconds. `clock` never jumps and goes on over
        restarts; `time` is the time of day. `refreshed` are alarms whose actions must know all open incidents.
        """
        self._rules = rules
        self._tracked = tuple(tracked)
        self.marking = Marking(self._tracked, inhibit_rules, alarms, admit, time)
        self._refreshed = frozenset(refreshed)
        self._clock = clock
        self._time = time
        self._seen = SeenRecords()
        self._notices = Notices(rules, alarm_msg_size, self.wall, time)
        self.tracker = Tracker(self._tracked, (), self.marking.marks)
        self.measures = Measures(measured)
        #: Of each rule that has matched, what says how bad a match is.
        self._numbers: dict[str, tuple[tuple[str, int], ...]] = {}
        self._changed: dict[str, Incident] = {}
        self._forgotten: list[str] = []
        self._events: list[Event] = []
        self._counts: list[tuple[str, str]] = []
        #: Messages that may still be refused, and what their alarms were notified of before.
        self._new: dict[str, Notified | None] = {}
        #: What people have done here, for the other machines of a fleet.
        self.orders: list[SharedOrder] = []
        #: Episodes whose waiting reminders and later steps are to be dropped.
        self.canceled: list[str] = []
        #: Whether something has changed that must be written down before its records are acknowledged.
        self.is_urgent = False

    def start(self, saved: Saved, gap: float = 0.0, blind: float = 0.0) -> list[Firing]:
        """Go on with what a former process has written down; return the messages that follow.

        For `gap` seconds in between, nobody could have seen a match: that is no quiet time. `blind` is the sum of all
        such gaps so far.
        """
        self._seen = SeenRecords(saved.seen, saved.places)
        self.tracker = Tracker(self._tracked, saved.incidents, self.marking.marks, self.wall, blind)
        self._note_inhibitions()
        changes = self.tracker.start(self._clock(), gap)
        self._note_armed()
        self.measures.start(saved.measured, self._clock(), gap, self._is_open)
        # Most need no notification, nor to be written down again.
        firings = self._all(change for change in changes if change.outcome.notifications or change.has_ended)
        return [*firings, *self._refresh()]

    def go_on(self, former: Incidents) -> list[Firing]:
        """Take the place of `former` in this process; return the messages that follow from other rules."""
        self._seen = former._seen  # of its own class
        self._clock = former._clock  # as above
        self.tracker = Tracker(self._tracked, former.tracker, self.marking.marks, self.wall, former.tracker.blind)
        self._note_inhibitions()
        changes = self.tracker.start(self._clock())
        self._note_armed()
        firings = self._all(changes)
        self.measures.go_on(former.measures, self._clock(), self._is_open)
        return [*firings, *self._refresh()]

    def _refresh(self) -> list[Firing]:
        """Return messages about open incidents for alarms that send them again and again: their actions may be new."""
        known = [incident for incident in self.tracker if incident.is_open] if self._refreshed else []
        return self._all(Change(incident, refresh(incident, self._refreshed)) for incident in known)

    def _note_armed(self) -> None:
        """Have written down which matches are expected from now on: no restart resets that."""
        self._changed |= {incident.id: incident for incident in self.tracker.armed}
        self.is_urgent |= bool(self.tracker.armed)
        self.tracker.armed.clear()

    def _note_inhibitions(self) -> None:
        for incident in self.tracker:
            if incident.is_open:
                self.marking.note(incident)

    # What a record leads to

    def match(self, compiled: CompiledRule, lines: Iterable[bytes], record: Record) -> Matched:
        """Count a match of a rule, and return the firings that it makes, and why other alarms are not notified."""
        rule = compiled.rule
        assert rule.incident is not None
        return self._match(compiled, self._key(compiled, rule.incident.key, lines, record), record)

    def _match(self, compiled: CompiledRule, key: Key, record: Record) -> Matched:
        rule = compiled.rule
        is_expected = rule.incident is not None and rule.incident.absence is not None
        text = printable(record.text, MESSAGE) if is_expected else ""
        change = self.tracker.match(rule.name, key, self._clock(), text)
        if is_expected:
            self._changed[change.incident.id] = change.incident
            return Matched([] if change.outcome is NOTHING else self._note(change), [])
        if change.has_begun:
            change.incident.first, change.incident.worst = shortened(record), None
        elif change.incident.is_open:
            self._note_worst(change.incident, compiled, record)
        if change.outcome is NOTHING:
            self._changed[change.incident.id] = change.incident
            return Matched([], [self._held(change, alarm) for alarm in rule.alarms])
        firings = self._note(change, record)
        notified = {each.alarm for each in change.outcome.notifications if each.status in BEGINNINGS}
        return Matched(firings, [self._held(change, alarm) for alarm in rule.alarms if alarm not in notified])

    def _note_worst(self, incident: Incident, compiled: CompiledRule, record: Record) -> None:
        """Keep a match that is worse than all before."""
        numbers = self._numbers.get(incident.rule)
        if numbers is None:
            numbers = self._numbers[incident.rule] = numbers_of(compiled.rule)
        before = incident.worst or incident.first
        if before is not None and (record.level or numbers) and badness(record, numbers) > badness(before, numbers):
            surrounded = {"before": record.before[-AROUND:], "after": record.after[:AROUND]}
            incident.worst = structs.replace(shortened(record), **surrounded)

    def resolve(self, compiled: CompiledRule, lines: Iterable[bytes], record: Record) -> list[Firing]:
        """End the incident that a resolve line means, where there is one."""
        name = compiled.rule.resolves
        options = self._rules[name].rule.incident
        assert options is not None
        key = self._key(compiled, options.key, lines, record)
        change = self.tracker.resolve(name, key, self._clock(), printable(record.text, MESSAGE))
        return [] if change is None else self._note(change)

    def report(self, report: Report) -> Matched | None:
        """Take in what a monitor says is wrong, and what is over; None where the monitor is not known."""
        compiled = self._rules.get(report.rule)
        if compiled is None or compiled.rule.incident is None:
            return None
        names = compiled.rule.incident.key
        found = [self.match(compiled, (), record) for record in report.wrong.values() if self.is_new(record)]
        firings, held, _ = _together(found)
        for incident in self._over(report, names):
            end = (report.over or {}).get(_value(incident.key), b"").decode("utf-8", "surrogateescape")
            change = self.tracker.resolve(report.rule, incident.key, self._clock(), end[:MESSAGE])
            firings += [] if change is None else self._note(change)
        return Matched(firings, held)

    def _over(self, report: Report, names: tuple[str, ...]) -> list[Incident]:
        """Return the incidents of a monitor that are over by what it says."""
        if report.over is None:
            return []
        wrong = {tuple((name, value[:VALUE]) for name in names) for value in report.wrong}
        return [each for each in self.tracker.open_of(report.rule) if each.key not in wrong]

    def is_new(self, record: Record) -> bool:
        """Return whether a record was not judged before, by a former process perhaps."""
        return self._seen.is_new(record)

    def _key(self, compiled: CompiledRule, names: Collection[str], lines: Iterable[bytes], record: Record) -> Key:
        return _cut(key_of(names, _facts(compiled, names, lines, record))) if names else ()

    def _held(self, change: Change, alarm: str) -> Held:
        """Return why an alarm is not notified of a match."""
        incident = change.incident
        if change.is_overflow:
            return Held(alarm, Reason.KEY_OVERFLOW)
        if incident.state is State.PENDING:
            return Held(alarm, Reason.BELOW_THRESHOLD)
        mark = incident.held.get(alarm)
        return Held(alarm, Reason.ONGOING if mark is None else Reason(mark.value))

    # What is measured

    def beat(self, record: Record) -> Matched | None:
        """Take a heartbeat; return None where no monitor expects one of this name."""
        name = record.fields.get(HEARTBEAT, "")
        rules, key = self.measures.heartbeat_rules(name), ((HEARTBEAT, name),)
        if not rules:
            return None
        self.is_urgent = True  # or it would be missing after a kill
        sample = Sample("failed" in record.fields, record.fields)
        found = [self._measure(self._rules[rule], key, sample, record) for rule in rules]
        if "last" in record.fields:
            for rule in rules:
                self.measures.forget(rule, key)
        return _together(found)

    def measure(self, compiled: CompiledRule, lines: Iterable[bytes], record: Record) -> Matched:
        """Take in a match of a rule that measures something, or of the rule that counts for it."""
        if isinstance(compiled.rule.measure, New) and compiled.rule.incident is None:
            return self._news(compiled, compiled.rule.measure, lines, record)
        name = compiled.rule.counts_for
        owner = self._rules[name] if name else compiled
        assert owner.rule.incident is not None
        names, field = owner.rule.incident.key, getattr(owner.rule.measure, "field", "")
        facts = _facts(compiled, {*names, field}, lines, record)
        return self._measure(owner, _cut(key_of(names, facts)), Sample(not name, facts), record)

    def _news(self, compiled: CompiledRule, measure: New, lines: Iterable[bytes], record: Record) -> Matched:
        """Return whether a match of a rule without incidents has a value that is new, and remember the value."""
        rule, key = compiled.rule, self._key(compiled, measure.key, lines, record)
        judgement = self.measures.add(rule.name, key, Sample(), self._clock(), self._is_open)
        assert judgement is not None, "no incident is open, so there is always room"
        if not judgement.begins:
            return Matched([], [Held(alarm, judgement.otherwise) for alarm in rule.alarms])
        self.is_urgent = True
        return Matched([], [], is_news=True)

    def alert(self, alert: ExternalAlert, record: Record) -> Matched | None:
        """Take an alert of another program; return None where no monitor takes one of this name."""
        rules = self.measures.alert_rules(alert.name)
        if not rules:
            return None
        self.is_urgent = True
        key = tuple(sorted((name, value[:VALUE]) for name, value in alert.labels.items() if value))
        sample = Sample(alert.ends_in > 0, {"text": alert.text[:MESSAGE], "ends_in": str(alert.ends_in)})
        return _together([self._measure(self._rules[rule], key, sample, record) for rule in rules])

    def _measure(self, compiled: CompiledRule, key: Key, sample: Sample, record: Record) -> Matched:
        """Take a sample in, and return what follows for the incident of its key."""
        rule = compiled.rule
        judgement = self.measures.add(rule.name, key, sample, self._clock(), self._is_open)
        if judgement is None:
            return Matched([], [Held(alarm, Reason.KEY_OVERFLOW) for alarm in rule.alarms if sample.is_match])
        found = self._judged(compiled, key, judgement, record, is_match=sample.is_match)
        self.measures.settle(rule.name, key, self._clock(), self._is_open)
        return found

    def _judged(
        self, compiled: CompiledRule, key: Key, judgement: Judgement, record: Record, *, is_match: bool
    ) -> Matched:
        """Let the incident of a key begin, go on, or end."""
        rule = compiled.rule
        incident = self.tracker.find(rule.name, key)
        is_open = incident is not None and incident.is_open
        is_ending = incident is not None and incident.ends is not None
        if judgement.begins and (is_match or not is_open):
            return self._match(compiled, key, with_figures(record, rule, judgement.text, is_match=is_match))
        if is_open and judgement.ends and not is_ending:
            change = self.tracker.resolve(rule.name, key, self._clock(), judgement.text)
            return Matched([] if change is None else self._note(change), [])
        if is_open and is_match and not is_ending:
            return self._match(compiled, key, record)
        return Matched([], [Held(alarm, judgement.otherwise) for alarm in rule.alarms if is_match])

    def _tick_measures(self) -> Iterator[Firing]:
        """Yield the messages that follow from the time that has passed."""
        now = self._clock()
        for rule, key, judgement in self.measures.tick(now, self._is_open):
            record = Record(b"", "incident", self._time(), f"{incident_id(rule, key)}-{now:.6f}", fields=dict(key))
            found = self._judged(self._rules[rule], key, judgement, record, is_match=False)
            self.measures.settle(rule, key, now, self._is_open)
            yield from found.firings

    def _is_open(self, rule: str, key: Key) -> bool:
        incident = self.tracker.find(rule, key)
        return incident is not None and incident.is_open

    # Deadlines and people

    def due(self) -> float | None:
        """Return in how many seconds `tick` has something to do, None where it has not."""
        due = min((due for due in (self.tracker.due(), self.measures.due()) if due is not None), default=None)
        return None if due is None else max(due - self._clock(), 0.0)

    def write_due(self) -> float | None:
        """Return in how many seconds what was measured must be stored; None where that is done."""
        due = self.measures.write_due()
        return None if due is None else max(due - self._clock(), 0.0)

    def tick(self) -> list[Firing]:
        """Return the messages that are due."""
        return [*self._tick_measures(), *self._all(self.tracker.tick(self._clock()))]

    def skip(self, gap: float) -> None:
        """Take note that the machine was suspended for the last `gap` seconds: that is no quiet time."""
        self.tracker.skip(self._clock(), gap)
        self._note_armed()
        self.measures.skip(self._clock(), gap, self._is_open)

    def look_at_held(self) -> list[Firing]:
        """Return the messages that were held back by what may have ended, such as a silence."""
        return self._all(self.tracker.look(self._clock(), at=[each for each in self.tracker if each.held]))

    def acknowledge(
        self, incident: str, by: str, seconds: float, comment: str, *, is_own: bool = True
    ) -> list[Firing] | None:
        """Acknowledge an open incident for `seconds`; return None where there is none of this id.

        Of this and of the following two methods, `is_own` is False for what somebody has done on another machine.
        """
        now = self._clock()
        change = self.tracker.acknowledge(incident, Acknowledgement(by, now, now + seconds, comment), now)
        if change is None:
            return None
        self.canceled.append(thread_of(change.incident))
        self._add_event(change.incident, "acknowledged", f"{by}: {comment}" if comment else by)
        if is_own:
            until = self.wall(now + seconds)
            self.orders.append(SharedOrder("acknowledged", incident, by, comment, self._time(), until))
        return self._note(change)

    def forget_notification(self, firing: Firing) -> list[Firing]:
        """Note that a reminder or a later step of an escalation was dropped: its alarm was not notified of it.

        Returns the messages that follow: none, for now.
        """
        incident, alarm = self._about(firing), firing.via[0] if firing.via else firing.alarm
        last = None if incident is None else incident.notified.get(alarm)
        if incident is not None and last is not None:
            if last.messages > 1:
                # When it was notified before is not known: the next message is due as soon as nothing holds it back.
                incident.notified[alarm] = structs.replace(last, messages=last.messages - 1, time=incident.fired)
            else:
                del incident.notified[alarm]
            self._look_later(incident, 0.0)
        return []

    def refuse(self, firing: Firing) -> None:
        """Note that a new message could not be taken: its alarm was not notified, and will be later."""
        incident = self._about(firing)
        if incident is None or firing.id not in self._new:
            return
        before = self._new.pop(firing.id)
        if before is None:
            incident.notified.pop(firing.alarm, None)
        else:
            incident.notified[firing.alarm] = before
        self._look_later(incident, AGAIN_AFTER)

    def accept(self) -> None:
        """Note that nothing of what was made so far will be refused any more."""
        self._new.clear()

    def _about(self, firing: Firing) -> Incident | None:
        notice = None if firing.trigger is None else firing.trigger.incident
        incident = None if notice is None else self.tracker.get(notice.id)
        return (
            incident if incident is not None and notice is not None and thread_of(incident) == notice.thread else None
        )

    def _look_later(self, incident: Incident, seconds: float) -> None:
        self._changed[incident.id] = incident
        self.tracker.look_at(incident, self._clock() + seconds)

    def unacknowledge(self, incident: str, by: str, *, is_own: bool = True) -> list[Firing] | None:
        """Give an incident back; None where there is no open one of this id."""
        change = self.tracker.acknowledge(incident, None, self._clock())
        if change is None:
            return None
        self._add_event(change.incident, "unacknowledged", by)
        if is_own:
            self.orders.append(SharedOrder("unacknowledged", incident, by, time=self._time()))
        return self._note(change)

    def resolve_by_hand(self, incident: str, by: str, *, is_own: bool = True) -> list[Firing] | None:
        """End an incident; None where there is no open one of this id."""
        change = self.tracker.resolve_by_hand(incident, self._clock(), by)
        if change is None:
            return None
        self.measures.forget(change.incident.rule, change.incident.key)
        if is_own:
            self.orders.append(SharedOrder("resolved", incident, by, time=self._time()))
        return self._note(change)

    def follow(self, order: SharedOrder) -> list[Firing]:
        """Do what somebody has done on another machine, unless something was done here later."""
        incident = self.tracker.get(order.incident)
        if incident is None or not incident.is_open or self.wall(incident.fired) > order.time:
            return []
        acknowledged = None if incident.ack is None else self.wall(incident.ack.time)
        firings: list[Firing] | None = None
        match order.kind:
            case "resolved":
                firings = self.resolve_by_hand(order.incident, order.by, is_own=False)
            case "acknowledged" if acknowledged is None or acknowledged < order.time:
                seconds = order.until - self._time()
                if seconds > 0:
                    firings = self.acknowledge(order.incident, order.by, seconds, order.comment, is_own=False)
            case "unacknowledged" if acknowledged is not None and acknowledged <= order.time:
                firings = self.unacknowledge(order.incident, order.by, is_own=False)
        return firings or []

    def forget(self, seconds: float) -> None:
        """Forget incidents that are over and have been quiet for `seconds`."""
        self._forgotten += self.tracker.forget(self._clock() - seconds)

    def wall(self, moment: float) -> float:
        """Return a moment of the incidents' clock in seconds since the epoch."""
        return self._time() - (self._clock() - moment)

    # What must be stored

    def take_changes(self) -> Changes:
        """Return what has changed since the last call."""
        changes = Changes(
            tuple(self._changed.values()),
            tuple(self._forgotten),
            tuple(self._events),
            tuple(self._seen.fresh),
            dict(self._seen.places),
            tuple(self._counts),
            self.measures.take_changes(self._clock(), is_urgent=self.is_urgent),
        )
        self._changed, self._forgotten, self._events, self._counts, self._seen.fresh = {}, [], [], [], []
        self.is_urgent = False
        return changes

    def note_all(self) -> None:
        """Have all of them written down with the next changes: what was written is lost."""
        self._changed = {incident.id: incident for incident in self.tracker}
        self.measures.note_all()

    def open_by_rule(self) -> dict[str, int]:
        """Return how many incidents of each rule are firing."""
        counts: dict[str, int] = {}
        for incident in self.tracker:
            if incident.is_open:
                counts[incident.rule] = counts.get(incident.rule, 0) + 1
        return counts

    def _all(self, changes: Iterable[Change]) -> list[Firing]:
        return [firing for change in changes for firing in self._note(change)]

    def _note(self, change: Change, record: Record | None = None) -> list[Firing]:
        """Note what a change means, and return its messages; `record` is that of the match."""
        incident = change.incident
        self._changed[incident.id] = incident
        self.is_urgent = True
        if change.evicted:
            self._forgotten.append(change.evicted)
            self._changed.pop(change.evicted, None)
        if change.has_begun:
            if record is None:
                incident.first = self._notices.absence(incident)
            self._counts.append((incident.rule, "opened"))
            self._add_event(incident, "opened", "" if incident.first is None else printable(incident.first.text, VALUE))
        if change.has_begun or change.has_ended:
            self.marking.note(incident)
        if change.has_ended:
            self._counts.append((incident.rule, f"resolved:{incident.ended_by}"))
            self._add_event(incident, "resolved", f"{incident.ended_by} {incident.end[:VALUE]}".rstrip())
        return [*self._firings(change, record), *(self._look_at_inhibited() if change.has_ended else ())]

    def _look_at_inhibited(self) -> list[Firing]:
        """Return the messages that another incident has held back, which is over now."""
        names = self.marking.take_inhibited()
        inhibited = [found for name in names if (found := self.tracker.get(name)) is not None]
        return self._all(self.tracker.look(self._clock(), at=inhibited)) if inhibited else []

    def _firings(self, change: Change, record: Record | None) -> list[Firing]:
        incident = change.incident
        if not change.outcome.notifications:
            return []
        now = {each.alarm for each in change.outcome.notifications}
        known = incident.notified.items()
        before = tuple(name for name, last in known if last.episode == incident.episode and name not in now)
        for each in change.outcome.notifications:
            if each.status is not Status.ACKNOWLEDGED:  # the history has who did it
                self._add_event(incident, str(each.status), each.alarm)
        is_match = record is not None
        shown = record if change.has_begun else None
        firings = []
        for each in change.outcome.notifications:
            firings.append(self._notices.firing(incident, each, shown, before, is_match=is_match))
            self._new[firings[-1].id] = each.before
        return firings

    def _add_event(self, incident: Incident, kind: str, text: str) -> None:
        key = dict(incident.key)
        self._events.append(Event(self._time(), incident.id, incident.rule, key, incident.episode, kind, text))


def _value(key: Key) -> str:
    """Return the value of a key that has one or none."""
    return key[0][1] if key else ""


def _facts(compiled: CompiledRule, names: Collection[str], lines: Iterable[bytes], record: Record) -> Mapping[str, str]:
    """Return the fields of a record, with the groups of the regexp where one is among these names."""
    return {**record.fields, **compiled.groups(lines)} if compiled.group_names.intersection(names) else record.fields


def _cut(key: Key) -> Key:
    """Return a key with values of a bounded length; bytes that are not UTF-8 could not be written down."""
    # Lists, since a flood makes one for each line: this is a tenth of what the line costs.
    return tuple([(name, value[:VALUE] if value.isascii() else _writable(value[:VALUE])) for name, value in key])


def _writable(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode()


def _together(found: Sequence[Matched]) -> Matched:
    """Return all firings, and all that was held back."""
    return Matched(
        [firing for matched in found for firing in matched.firings],
        [held for matched in found for held in matched.held],
    )
