"""Compares an incident with what each alarm was last notified of, and returns what must be sent now. Pure.

It runs at every event and at every deadline. Silences that end, restarts and repeated resolve lines need no code of
their own: whatever the reason for looking again, the answer follows from the state and the last notifications.
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from alarm_mw.engine.incidents.incident import Incident, Mark, Marks, Notified, State, Status, Step


class Notification(NamedTuple):
    """A message about an incident, to be sent to one alarm now."""

    #: Identifies the message: the same when it is made again after a crash.
    id: str
    alarm: str
    status: Status
    #: What the alarm was notified of before.
    before: Notified | None = None


class Held(NamedTuple):
    """A message that a mark holds back."""

    alarm: str
    mark: Mark


class Outcome(NamedTuple):
    """What follows from an incident's state."""

    notifications: tuple[Notification, ...] = ()
    #: Messages that a mark holds back, each reported once.
    held: tuple[Held, ...] = ()
    #: When something changes without another event; None where nothing does.
    due: float | None = None


class _Decision(NamedTuple):
    """What follows for one alarm."""

    status: Status | None = None
    mark: Mark | None = None
    due: float | None = None


_NOTHING = _Decision()


def reconcile(incident: Incident, marks: Marks, now: float) -> Outcome:
    """Return what each alarm must be notified of now, and note it in `incident`.

    The caller writes the incident and the messages in one transaction, or neither.
    """
    notifications: list[Notification] = []
    held: list[Held] = []
    due: list[float] = []
    for step in incident.steps if incident.is_open or not incident.owed else (*incident.steps, *incident.owed):
        decision = _decide(incident, step, marks, now)
        if decision.due is not None:
            due.append(decision.due)
        if decision.mark is None:
            incident.held.pop(step.alarm, None)
        elif incident.held.get(step.alarm) is not decision.mark:
            incident.held[step.alarm] = decision.mark
            held.append(Held(step.alarm, decision.mark))
        if decision.status is not None:
            incident.sequence += 1
            before = incident.notified.get(step.alarm)
            n = before.messages if before is not None and before.is_open else 0
            incident.notified[step.alarm] = Notified(decision.status, incident.episode, now, n + 1)
            if step.repeat_interval and incident.is_open:
                due.append(now + step.repeat_interval)
            if incident.is_open and (repetition := step.next_repetition(incident.fired, now)) is not None:
                due.append(repetition)
            name = f"{incident.id}-{incident.serial:x}-{incident.episode}-{incident.sequence}"
            notifications.append(Notification(name, step.alarm, decision.status, before))
    return Outcome(tuple(notifications), tuple(held), min(due, default=None))


def refresh(incident: Incident, alarms: Container[str]) -> Outcome:
    """Return reminders of an open incident for those of `alarms` that were notified of it, whatever the marks are."""
    notifications = []
    for alarm, last in incident.notified.items():
        if alarm in alarms and last.is_open and last.episode == incident.episode:
            incident.sequence += 1
            name = f"{incident.id}-{incident.serial:x}-{incident.episode}-{incident.sequence}"
            notifications.append(Notification(name, alarm, Status.REMINDER, last))
    return Outcome(tuple(notifications))


def _decide(incident: Incident, step: Step, marks: Marks, now: float) -> _Decision:
    last = incident.notified.get(step.alarm)
    if incident.state is not State.FIRING:  # one that is pending again may still owe the end of its last episode
        return _end(step, last, marks, now)
    if marks.flapping:
        return _flapping(step, last, marks, now)
    if last is None or not last.is_open or last.episode != incident.episode:
        return _begin(incident, step, marks, now)
    if step.send_acknowledged and marks.acknowledged_until > now and last.status is not Status.ACKNOWLEDGED:
        return _Decision(Status.ACKNOWLEDGED)
    reminder = last.time + step.repeat_interval if step.repeat_interval else None
    repetition = step.next_repetition(incident.fired, last.time)
    if repetition is not None and (reminder is None or repetition <= reminder):
        return _unless_marked(Status.ESCALATED, repetition, step, marks, now)
    return _NOTHING if reminder is None else _unless_marked(Status.REMINDER, reminder, step, marks, now)


def _begin(incident: Incident, step: Step, marks: Marks, now: float) -> _Decision:
    status = Status.ESCALATED if step.after else Status.FIRING
    return _unless_marked(status, incident.fired + step.after, step, marks, now)


def _unless_marked(status: Status, when: float, step: Step, marks: Marks, now: float) -> _Decision:
    """Send a message at `when`, unless a mark holds it back then."""
    if now < when:
        return _Decision(due=when)
    found = marks.of(step.alarm, now)
    return _Decision(status) if found is None else _Decision(mark=found[0], due=found[1])


def _flapping(step: Step, last: Notified | None, marks: Marks, now: float) -> _Decision:
    """Say once that it flaps, to the alarms that would be notified of each episode."""
    if last is not None and last.status is Status.FLAPPING:
        return _Decision(mark=Mark.FLAPPING)
    if step.after and (last is None or not last.is_open):
        return _NOTHING
    found = marks.of(step.alarm, now)
    return _Decision(Status.FLAPPING) if found is None else _Decision(mark=found[0], due=found[1])


def _end(step: Step, last: Notified | None, marks: Marks, now: float) -> _Decision:
    """Notify the alarms of the end that were notified of the beginning.

    Neither silence nor inhibition nor acknowledgement holds the end back: people who were woken learn that it is over.
    It waits for the end of a mute interval, and of the flapping.
    """
    if last is None or not last.is_open:
        return _NOTHING
    if marks.flapping:
        return _Decision(mark=Mark.FLAPPING)
    if marks.muted_until > now:
        return _Decision(mark=Mark.MUTED, due=marks.muted_until)
    return _Decision(Status.RESOLVED) if step.send_resolved else _NOTHING
