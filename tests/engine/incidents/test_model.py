"""Incidents against a naive model: nobody is told that it is over who was not told that it began, and the reverse."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from alarm_mw.engine.incidents.incident import Acknowledgement, Incident, Key, Marks, Status, Step, incident_id
from alarm_mw.engine.incidents.tracker import Change, IncidentRule, Tracker
from alarm_mw.model.types import Flap

KEYS: list[Key] = [(("db", name),) for name in "abc"]
ALARMS = ("mail", "sms", "boss")
STEPS = (Step("mail", repeat_interval=400.0), Step("sms", after=60.0), Step("boss", after=300.0))


class Incidents(RuleBasedStateMachine):
    """Does at random what lines, operators, clocks and crashes do, and keeps what each alarm received."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000.0
        self.silences: dict[str, float] = {}
        self.muted_until = 0.0
        self.inhibited = False
        self.received: dict[tuple[str, str], list[Status]] = defaultdict(list)
        self.ids: set[str] = set()

    @initialize(
        count=st.integers(1, 3), resolve_after=st.sampled_from([0.0, 120.0]), keep=st.sampled_from([0.0, 20.0]),
        flap=st.sampled_from([None, Flap(4, 100.0)]), max_keys=st.sampled_from([1, 2, 10]),
    )  # fmt: skip
    def begin(self, count: int, resolve_after: float, keep: float, flap: Flap | None, max_keys: int) -> None:
        self.rule = IncidentRule(
            "db",
            STEPS,
            count=count,
            within=50.0,
            resolve_after=resolve_after,
            keep_firing_for=keep,
            flap=flap,
            max_keys=max_keys,
            key=("db",),
        )
        self.tracker = Tracker([self.rule], (), self.marks)
        self.tracker.start(self.now)

    def marks(self, _: Incident, __: float) -> Marks:
        return Marks(silenced_until=self.silences, inhibited=self.inhibited, muted_until=self.muted_until)

    def deliver(self, *changes: Change | None) -> None:
        for change in filter(None, changes):
            for each in change.outcome.notifications:
                assert each.id not in self.ids, "two messages have one id"
                self.ids.add(each.id)
                self.received[change.incident.id, each.alarm].append(each.status)

    @rule(key=st.sampled_from(KEYS))
    def match(self, key: Key) -> None:
        self.deliver(self.tracker.match("db", key, self.now))

    @rule(key=st.sampled_from(KEYS))
    def resolve(self, key: Key) -> None:
        self.deliver(self.tracker.resolve("db", key, self.now))

    @rule(key=st.sampled_from(KEYS))
    def resolve_by_hand(self, key: Key) -> None:
        self.deliver(self.tracker.resolve_by_hand(incident_id("db", key), self.now))

    @rule(key=st.sampled_from(KEYS), until=st.sampled_from([0.0, 30.0, 1000.0]))
    def acknowledge(self, key: Key, until: float) -> None:
        ack = Acknowledgement("kim", self.now, self.now + until) if until else None
        self.deliver(self.tracker.acknowledge(incident_id("db", key), ack, self.now))

    @rule(alarm=st.sampled_from(["", *ALARMS]), seconds=st.sampled_from([0.0, 15.0, 200.0]))
    def silence(self, alarm: str, seconds: float) -> None:
        self.silences[alarm] = self.now + seconds
        self.deliver(*self.tracker.look(self.now))

    @rule(seconds=st.sampled_from([0.0, 90.0]))
    def mute(self, seconds: float) -> None:
        self.muted_until = self.now + seconds
        self.deliver(*self.tracker.look(self.now))

    @rule(inhibited=st.booleans())
    def inhibit(self, inhibited: bool) -> None:
        self.inhibited = inhibited
        self.deliver(*self.tracker.look(self.now))

    @rule(seconds=st.sampled_from([0.01, 1.0, 59.0, 61.0, 500.0]))
    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.tracker.due()) is not None and due <= end:
            self.now = max(self.now, due)
            self.deliver(*self.tracker.tick(self.now))
        self.now = end

    @rule()
    def restart(self) -> None:
        """Go on with a new tracker from what was written down."""
        self.tracker = Tracker([self.rule], list(self.tracker), self.marks)
        self.deliver(*self.tracker.start(self.now))

    @invariant()
    def beginnings_and_ends_alternate(self) -> None:
        """No alarm gets an end without a beginning, nor two ends in a row."""
        for statuses in self.received.values():
            is_open = False
            for status in statuses:
                if status is Status.RESOLVED:
                    assert is_open, "told that it is over, and not that it began"
                elif status is Status.REMINDER:
                    assert is_open, "reminded of what it was not told"
                is_open = status is not Status.RESOLVED

    @precondition(lambda self: hasattr(self, "tracker"))
    @invariant()
    def what_is_to_end_ends(self) -> None:
        """No deadline is forgotten: neither of a resolve line nor of quiet."""
        for incident in getattr(self, "tracker", ()):
            if incident.is_open:
                assert incident.ends is None or incident.ends > self.now
                assert not self.rule.resolve_after or incident.last + self.rule.resolve_after > self.now

    @precondition(lambda self: hasattr(self, "tracker"))
    @invariant()
    def who_is_to_be_told_is_told(self) -> None:
        """Nothing that is firing and not held back waits for longer than its step says."""
        for incident in getattr(self, "tracker", ()):
            told = {alarm: told for alarm, told in incident.notified.items() if told.is_open}
            for step in incident.steps:
                is_due = incident.is_open and self.now >= incident.fired + step.after
                silenced = max(self.silences.get("", 0), self.silences.get(step.alarm, 0)) > self.now
                acked = incident.ack is not None and incident.ack.until > self.now
                free = not (silenced or acked or self.inhibited or self.muted_until > self.now)
                if is_due and free and incident.flapping_since is None:
                    assert step.alarm in told, f"{step.alarm} was not told"
                    if step.repeat_interval:
                        assert self.now - told[step.alarm].time < step.repeat_interval, "was not reminded"

    def teardown(self) -> None:
        """When every silence is over and every incident is resolved, whoever was told that it began knows its end."""
        if not hasattr(self, "tracker"):
            return
        self.silences, self.inhibited, self.muted_until = {}, False, 0.0
        self.deliver(*self.tracker.look(self.now))
        for incident in self.tracker:
            self.deliver(self.tracker.resolve_by_hand(incident.id, self.now))
        self.wait(10_000.0)
        for statuses in self.received.values():
            assert statuses[-1] is Status.RESOLVED


TestIncidents = Incidents.TestCase
TestIncidents.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
