"""What each alarm is told of an incident, from its state and from what it was told before."""

from __future__ import annotations

import pytest

from alarm_mw.engine.incidents.incident import Incident, Mark, Marks, Notified, State, Status, Step
from alarm_mw.engine.incidents.reconcile import Outcome, reconcile, refresh

NOW = 1000.0


def incident(*steps: Step, state: State = State.FIRING, told: tuple[str, ...] = ()) -> Incident:
    """Return an incident in its first episode, of whose beginning these alarms were told."""
    notified = {alarm: Notified(Status.FIRING, 1, NOW) for alarm in told}
    return Incident("id", 1, "db", (), {}, steps, state, episode=1, fired=NOW, notified=notified)


def told(outcome: Outcome) -> list[tuple[str, Status]]:
    return [(each.alarm, each.status) for each in outcome.notifications]


@pytest.mark.parametrize(
    ("marks", "mark", "until"),
    [
        (Marks(silenced_until={"": NOW + 9}), Mark.SILENCED, NOW + 9),
        (Marks(inhibited=True), Mark.INHIBITED, None),
        (Marks(acknowledged_until=NOW + 9), Mark.ACKNOWLEDGED, NOW + 9),
        (Marks(muted_until=NOW + 9), Mark.MUTED, NOW + 9),
        (Marks(admit=lambda _: (Mark.RATE, None)), Mark.RATE, None),
    ],
)
def test_each_mark_holds_a_beginning_back_until_it_ends(marks: Marks, mark: Mark, until: float | None) -> None:
    """The reason is reported once, and the alarm is told when the mark is gone."""
    begun = incident(Step("a"))
    outcome = reconcile(begun, marks, NOW)
    assert (told(outcome), [held.mark for held in outcome.held], outcome.due) == ([], [mark], until)
    assert reconcile(begun, marks, NOW).held == ()
    assert told(reconcile(begun, Marks(), NOW)) == [("a", Status.FIRING)]


def test_flapping_is_told_to_those_who_are_told_of_each_episode() -> None:
    """An alarm of a later step that has not been reached learns nothing of it; one that was told learns of it."""
    flapping = incident(Step("a"), Step("b", after=60.0), Step("c", after=60.0), told=("c",))
    assert told(reconcile(flapping, Marks(flapping=True), NOW)) == [("a", Status.FLAPPING), ("c", Status.FLAPPING)]


def test_an_end_waits_for_the_end_of_a_mute_interval() -> None:
    """Whoever was told of the beginning is told of the end when the interval is over."""
    ended = incident(Step("a"), state=State.RESOLVED, told=("a",))
    outcome = reconcile(ended, Marks(muted_until=NOW + 9), NOW)
    assert (told(outcome), [held.mark for held in outcome.held], outcome.due) == ([], [Mark.MUTED], NOW + 9)
    assert told(reconcile(ended, Marks(muted_until=NOW + 9), NOW + 9)) == [("a", Status.RESOLVED)]


def test_an_escalation_is_repeated() -> None:
    """Each step as often as it says, at its times; a mark delays it, and what was held back comes once."""
    step = Step("a", after=10.0, repeat=2, period=100.0)
    incident = Incident("i", 1, "r", (), {}, (step,), State.FIRING, 1, fired=NOW)
    told = []
    for seconds in range(0, 500, 5):
        silenced = {"": NOW + 160.0} if 105 <= seconds < 160 else {}
        outcome = reconcile(incident, Marks(silenced_until=silenced), NOW + seconds)
        told += [(seconds, str(each.status)) for each in outcome.notifications]
    assert told == [(10, "escalated"), (160, "escalated"), (210, "escalated")]
    assert reconcile(incident, Marks(), NOW + 900.0).due is None


def test_reminders_and_repetitions_go_on_beside_each_other() -> None:
    """Whichever is due first; the next one counts from it."""
    step = Step("a", repeat_interval=30.0, repeat=1, period=50.0)
    incident = Incident("i", 1, "r", (), {}, (step,), State.FIRING, 1, fired=NOW)
    told = []
    for seconds in range(0, 120, 5):
        outcome = reconcile(incident, Marks(), NOW + seconds)
        told += [(seconds, str(each.status)) for each in outcome.notifications]
        assert outcome.due is None or outcome.due > NOW + seconds
    assert told == [(0, "firing"), (30, "reminder"), (50, "escalated"), (80, "reminder"), (110, "reminder")]


def test_an_acknowledgement_is_told_once_to_alarms_that_want_it() -> None:
    """A service that keeps an alert of its own learns that somebody is on it; reminders stay held back."""
    begun = incident(Step("a", repeat_interval=10.0, send_acknowledged=True), Step("b"), told=("a", "b"))
    marks = Marks(acknowledged_until=NOW + 60)
    assert told(reconcile(begun, marks, NOW)) == [("a", Status.ACKNOWLEDGED)]
    assert told(reconcile(begun, marks, NOW + 20)) == []
    assert told(reconcile(begun, Marks(), NOW + 60)) == [("a", Status.REMINDER)]
    assert told(reconcile(incident(Step("a", send_acknowledged=True)), marks, NOW)) == []


def test_receivers_that_forget_are_reminded_of_what_is_open() -> None:
    """Whatever marks there are, an alarm is told again that was told of this episode."""
    begun = incident(Step("a"), Step("b"), Step("c"), told=("a", "b"))
    begun.notified["c"] = Notified(Status.RESOLVED, 1, NOW)
    outcome = refresh(begun, {"a", "c"})
    assert told(outcome) == [("a", Status.REMINDER)]
    assert outcome.notifications[0].id != refresh(begun, {"a"}).notifications[0].id
    begun.episode = 2
    assert told(refresh(begun, {"a"})) == []
