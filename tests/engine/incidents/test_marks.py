"""What holds messages about incidents back: inhibition, mute intervals and silences."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from alarm_mw.engine.engine import Engine
from alarm_mw.engine.incidents.incident import Step
from alarm_mw.engine.incidents.incidents import Incidents
from alarm_mw.engine.incidents.stored import Saved
from alarm_mw.engine.incidents.tracker import IncidentRule
from alarm_mw.engine.rules import compile_rule
from alarm_mw.model.fleet import SharedOrder
from alarm_mw.model.types import Firing, IncidentOptions, InhibitRule, Reason, Record, Rule, TimeInterval
from alarm_mw.patterns.prefilter import Prefilter

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()
AT_NOON = (TimeInterval(((720, 780),), timezone="UTC"),)
HOST = "host=(?P<host>[a-z]+)"

_keys = (str(n) for n in itertools.count())


class Stage:
    """An engine with the rules ``db`` and ``web`` that have incidents, and ``plain`` without, and a clock."""

    def __init__(self, *inhibit: InhibitRule, mute: Sequence[TimeInterval] = ()) -> None:
        self.now = NOON
        self.inhibit = inhibit
        self.mute = tuple(mute)
        self.engine = self.make()
        assert self.engine.incidents is not None
        self.engine.incidents.start(Saved())

    def make(self) -> Engine:
        options = IncidentOptions(("host",))
        rules = [
            Rule(f"lost db {HOST}", ("a",), name="db", labels=(("severity", "critical"),), incident=options),
            Rule(f"back db {HOST}", (), resolves="db"),
            Rule(f"lost web {HOST}", ("a",), name="web", labels=(("severity", "warning"),), incident=options),
            Rule(f"back web {HOST}", (), resolves="web"),
            Rule("plain", ("a",), name="plain", labels=(("severity", "warning"),)),
        ]
        compiled = [compile_rule(rule) for rule in rules]
        engine = Engine(compiled, Prefilter(compiled), ["a"], alarm_freq=0.0, alarm_msg_size=8192)
        engine.incidents = Incidents(
            {each.rule.name: each for each in compiled if each.rule.incident},
            [
                IncidentRule(each.name, (Step("a"),), key=("host",), labels=dict(each.labels), mute=self.mute)
                for each in rules
                if each.incident
            ],
            alarms=["a"],
            alarm_msg_size=8192,
            admit=lambda alarm, rule, labels: engine.admit(alarm, rule, labels, self.now),
            clock=lambda: self.now,
            time=lambda: self.now,
            inhibit_rules=self.inhibit,
        )
        return engine

    @property
    def incidents(self) -> Incidents:
        assert self.engine.incidents is not None
        return self.engine.incidents

    def see(self, *lines: str) -> list[str]:
        """Return what the lines lead to: messages, and reasons for what was held back."""
        found = []
        for text in lines:
            verdict = self.engine.evaluate(Record(text.encode(), "stdout", self.now, next(_keys)), self.now)
            found += told(verdict.firings) + [str(held.reason) for held in verdict.held]
        return found

    def wait(self, seconds: float) -> list[str]:
        self.now += seconds
        return told(self.incidents.tick())

    def reload(self, *inhibit: InhibitRule) -> list[str]:
        self.inhibit = inhibit
        former, self.engine = self.incidents, self.make()
        return told(self.incidents.go_on(former))

    def restart(self) -> list[str]:
        former, self.engine = self.incidents, self.make()
        return told(self.incidents.start(Saved(tuple(former.tracker))))


def told(firings: Sequence[Firing]) -> list[str]:
    notices = [(firing, firing.trigger and firing.trigger.incident) for firing in firings]
    return [f"{n.status} {f.trigger.name} {n.key['host']}" if n and f.trigger else f.text for f, n in notices]


BY_HOST = InhibitRule(('rule="db"',), ('severity="warning"',), ("host",))


def test_a_firing_incident_inhibits_others() -> None:
    """Those that its rule selects, with the same values, are held back; they are told when it is over."""
    stage = Stage(BY_HOST)
    assert stage.see("lost db host=x") == ["firing db x"]
    assert stage.see("lost web host=x", "lost web host=y") == ["inhibited", "firing web y"]
    assert stage.see("back db host=x") == ["resolved db x", "firing web x"]
    assert stage.see("back web host=x", "back web host=y") == ["resolved web x", "resolved web y"]


def test_what_was_told_is_told_to_be_over() -> None:
    """An end passes inhibition; what was not told ends without a word."""
    stage = Stage(BY_HOST)
    assert stage.see("lost web host=x", "lost db host=x") == ["firing web x", "firing db x"]
    assert stage.see("back web host=x", "lost web host=x") == ["resolved web x", "inhibited"]
    assert stage.see("back web host=x", "back db host=x") == ["resolved db x"]


def test_messages_without_incidents_are_inhibited_too() -> None:
    """The next one that is sent says how many were held back, and no verdict is made for a whole flood."""
    stage = Stage(InhibitRule(('alertname="db"',), ('rule=~"plain|web"',)))
    assert stage.engine.gate((4,), "stdout", stage.now) is None  # none fires too often
    stage.see("lost db host=x")
    assert stage.see("plain 1", "plain 2") == ["inhibited", "inhibited"]
    assert stage.engine.gate((4,), "stdout", stage.now) is None
    direct = stage.engine.fire("a", Record(b"direct", "api", stage.now, next(_keys)), stage.now)
    assert [firing.text for firing in direct.firings] == ["direct"]
    stage.see("back db host=x")
    verdict = stage.engine.evaluate(Record(b"plain 3", "stdout", stage.now, next(_keys)), stage.now)
    assert [firing.held_back for firing in verdict.firings] == [0]
    assert direct.firings[0].held_back == 2


def test_what_is_source_and_target_does_not_inhibit_itself() -> None:
    """As in Alertmanager: neither itself, nor others that are both; what is a target only is inhibited."""
    stage = Stage(InhibitRule(('severity=~".+"',), ('severity=~".+"',)))
    assert stage.see("lost db host=x", "lost web host=x") == ["firing db x", "firing web x"]
    stage = Stage(InhibitRule(('rule="db"',), ('host="x"',)))
    assert stage.see("lost db host=y", "lost db host=x") == ["firing db y", "inhibited"]
    assert stage.see("lost web host=x") == ["inhibited"]
    assert stage.see("back db host=y") == ["resolved db y", "firing db x"]


def test_several_sources_inhibit_until_the_last_is_over() -> None:
    """One that is left is enough."""
    stage = Stage(InhibitRule(('rule="db"',), ('rule="web"',)))
    stage.see("lost db host=x", "lost db host=y", "lost web host=z")
    assert stage.see("back db host=x") == ["resolved db x"]
    assert stage.see("back db host=y") == ["resolved db y", "firing web z"]


def test_inhibition_goes_on_after_a_restart() -> None:
    """What was inhibited before is so afterwards, and is told when the source is over."""
    stage = Stage(BY_HOST)
    stage.see("lost db host=x", "lost web host=x")
    assert stage.restart() == []
    assert stage.see("back db host=x") == ["resolved db x", "firing web x"]


def test_a_reload_changes_what_is_inhibited() -> None:
    """What is not inhibited any more is told at once; what is from now on is not told again."""
    stage = Stage(BY_HOST)
    stage.see("lost db host=x", "lost web host=x")
    assert stage.reload() == ["firing web x"]
    assert stage.reload(BY_HOST) == []
    assert stage.see("back web host=x") == ["resolved web x"]


def test_no_message_is_sent_in_a_mute_interval() -> None:
    """Beginnings and ends wait for its end; an incident that is over by then is not told."""
    stage = Stage(mute=AT_NOON)
    assert stage.see("lost db host=x", "lost db host=y", "back db host=y") == ["muted", "muted"]
    assert stage.wait(3599.0) == []
    assert stage.wait(1.0) == ["firing db x"]
    stage.now = NOON + 86_400.0
    assert stage.see("back db host=x") == []
    assert stage.wait(3600.0) == ["resolved db x"]


def test_a_step_of_the_clock_moves_a_mute_interval() -> None:
    """The time of day decides: when the clock is set, what it holds back is looked at again."""
    stage = Stage(mute=AT_NOON)
    assert stage.incidents.marking.has_mutes
    stage.see("lost db host=x")
    stage.now += 7200.0
    assert told(stage.incidents.look_at_held()) == ["firing db x"]


@pytest.mark.parametrize("is_before", [False, True])
def test_reasons_of_a_rule_without_labels(is_before: bool) -> None:  # a parameter
    """An alarm that is fired directly has no labels, and is inhibited by what selects those."""
    stage = Stage(InhibitRule(('rule="db"',), ('severity!="critical"',)))
    if is_before:
        stage.see("lost db host=x")
    verdict = stage.engine.fire("a", Record(b"direct", "api", stage.now, next(_keys)), stage.now)
    assert [held.reason for held in verdict.held] == ([Reason.INHIBITED] if is_before else [])


# What people have done on other machines


def order_of(stage: Stage, kind: str, after: float = 0.0) -> SharedOrder:
    (incident,) = [each for each in stage.incidents.tracker if each.is_open]
    return SharedOrder(kind, incident.id, "kim", "on it", stage.now + after, stage.now + 3600.0)


def test_what_people_do_here_is_for_the_other_machines_as_well() -> None:
    """Each order of a person is noted once, with the time until which it lasts."""
    stage = Stage()
    stage.see("lost db host=x")
    wanted = order_of(stage, "acknowledged")
    stage.incidents.acknowledge(wanted.incident, "kim", 3600.0, "on it")
    stage.incidents.unacknowledge(wanted.incident, "lou")
    stage.incidents.resolve_by_hand(wanted.incident, "kim")
    assert stage.incidents.orders == [
        wanted,
        SharedOrder("unacknowledged", wanted.incident, "lou", time=stage.now),
        SharedOrder("resolved", wanted.incident, "kim", time=stage.now),
    ]


def test_what_people_do_elsewhere_is_done_here() -> None:
    """An order of another machine has the same effect as one of this machine, and does not go back."""
    stage = Stage()
    stage.see("lost db host=x")
    stage.incidents.follow(order_of(stage, "acknowledged"))
    (incident,) = stage.incidents.tracker
    assert incident.ack is not None
    assert (incident.ack.by, incident.ack.comment, incident.ack.until) == ("kim", "on it", stage.now + 3600.0)
    stage.incidents.follow(order_of(stage, "unacknowledged"))
    assert incident.ack is None
    assert told(stage.incidents.follow(order_of(stage, "resolved"))) == ["resolved db x"]
    assert stage.incidents.orders == []


@pytest.mark.parametrize(
    ("kind", "after"),
    [("acknowledged", -1.0), ("acknowledged", 0.0), ("unacknowledged", -1.0), ("resolved", -100.0), ("other", 0.0)],
)
def test_what_was_done_here_later_stays(kind: str, after: float) -> None:
    """An order that is older than what was done here, or than the incident, changes nothing."""
    stage = Stage()
    stage.see("lost db host=x")
    stage.wait(50.0)
    order = order_of(stage, kind, after)
    stage.incidents.acknowledge(order.incident, "lou", 60.0, "")
    assert stage.incidents.follow(order) == []
    (incident,) = stage.incidents.tracker
    assert incident.ack is not None
    assert incident.ack.by == "lou"


def test_orders_about_what_is_not_there_do_nothing() -> None:
    """An incident that is unknown or over, an acknowledgement that is over, and giving back what nobody has."""
    stage = Stage()
    assert stage.incidents.follow(SharedOrder("resolved", "0000", "kim", time=stage.now)) == []
    stage.see("lost db host=x")
    expired = SharedOrder("acknowledged", order_of(stage, "").incident, "kim", "", stage.now, stage.now)
    assert stage.incidents.follow(expired) == []
    assert stage.incidents.follow(order_of(stage, "unacknowledged")) == []
    order = order_of(stage, "acknowledged")
    stage.see("back db host=x")
    assert stage.incidents.follow(order) == []
    assert [each.ack for each in stage.incidents.tracker] == [None]
