"""The incidents of an engine: what is told, what is held back, and what has to be written down."""

from __future__ import annotations

import pytest
from msgspec import structs

from alarm_mw.engine.engine import Engine
from alarm_mw.engine.incidents import stored
from alarm_mw.engine.incidents.incident import Step
from alarm_mw.engine.incidents.incidents import Incidents
from alarm_mw.engine.incidents.measures.measures import MeasuredRule, Measures
from alarm_mw.engine.incidents.stored import Saved, SeenRecords
from alarm_mw.engine.incidents.tracker import IncidentRule
from alarm_mw.engine.rules import compile_rule
from alarm_mw.model.measures import ALL_LABELS, ExternalAlert, ExternalAlerts, Heartbeat
from alarm_mw.model.types import (
    FieldCondition,
    FieldTest,
    Firing,
    IncidentOptions,
    Reason,
    Record,
    Report,
    RequestConditions,
    Rule,
)
from alarm_mw.patterns.prefilter import Prefilter


def record(text: str, key: str = "k") -> Record:
    return Record(text.encode(), "stdout", 1000.0, key)


class Stage:
    """The incidents of one rule, with a clock that stands still until it is moved."""

    def __init__(
        self,
        *steps: Step,
        key: tuple[str, ...] = (),
        max_keys: int = 10,
        alarms: tuple[str, ...] = ("a", "b"),
        refreshed: tuple[str, ...] = (),
        ends_with_line: bool = False,
    ) -> None:
        self.now = 1000.0
        names = tuple(step.alarm for step in steps)
        options = IncidentOptions(key, max_keys, ends_with_line=ends_with_line)
        self.lost = compile_rule(Rule(r"lost (?P<db>\S+)", names, name="db", incident=options))
        self.back = compile_rule(Rule(r"back (?P<db>\S+)", (), resolves="db"))
        self.incidents = Incidents(
            {"db": self.lost},
            [IncidentRule("db", steps, key=key, max_keys=max_keys)],
            alarms=alarms,
            alarm_msg_size=8192,
            admit=lambda *_: None,
            clock=lambda: self.now,
            time=lambda: self.now,
            refreshed=refreshed,
        )
        self.incidents.start(Saved())

    def match(self, text: str) -> tuple[list[str], list[Reason]]:
        """Return the alarms that are told of a match, and why the others are not."""
        matched = self.incidents.match(self.lost, [text.encode()], record(text))
        return [firing.alarm for firing in matched.firings], [held.reason for held in matched.held]

    def resolve(self, text: str) -> list[str]:
        return told(self.incidents.resolve(self.back, [text.encode()], record(text)))


def told(firings: list[Firing]) -> list[str]:
    notices = [(firing, firing.trigger and firing.trigger.incident) for firing in firings]
    return [f"{firing.alarm} {notice.status}" for firing, notice in notices if notice]


def test_without_a_key_a_rule_has_one_incident() -> None:
    """All matches are of it, whatever the groups of the regexp find, and any resolve line ends it."""
    stage = Stage(Step("a"))
    assert stage.match("lost eu") == (["a"], [])
    assert stage.match("lost us") == ([], [Reason.ONGOING])
    assert stage.resolve("back asia") == ["a resolved"]


@pytest.mark.parametrize(("ends_with_line", "message"), [(False, b"lost eu"), (True, b"back after 2 s\n")])
def test_what_the_message_about_an_end_begins_with(ends_with_line: bool, message: bytes) -> None:
    """By default the first match, which names the incident; for some rules the line that ended it."""
    stage = Stage(Step("a"), ends_with_line=ends_with_line)
    stage.match("lost eu")
    (firing,) = stage.incidents.resolve(stage.back, [b"back after 2 s"], record("back after 2 s"))
    assert firing.message == message


def test_an_incident_that_is_over_makes_room_for_another() -> None:
    """It is forgotten where its rule has as many as it may have, and no longer written down."""
    stage = Stage(Step("a"), key=("db",), max_keys=1)
    stage.match("lost eu")
    stage.resolve("back eu")
    (former,) = stage.incidents.tracker
    assert stage.match("lost us") == (["a"], [])
    changes = stage.incidents.take_changes()
    assert changes.forgotten == (former.id,)
    assert [incident.key for incident in changes.incidents] == [(("db", "us"),)]


def test_an_alarm_that_is_not_available_is_not_told() -> None:
    """An optional alarm that could not be loaded holds back, with that reason, what others are told."""
    stage = Stage(Step("a"), Step("b"), alarms=("a",))
    assert stage.match("lost eu") == (["a"], [Reason.UNAVAILABLE])


def test_incidents_that_are_long_over_are_forgotten() -> None:
    """Those that had a match since then are kept, and those that are firing, however long they were quiet."""
    stage = Stage(Step("a"), key=("db",))
    stage.match("lost asia")
    for name in ("eu", "us"):
        stage.match(f"lost {name}")
        stage.resolve(f"back {name}")
        stage.now += 100.0
    stage.incidents.forget(150.0)
    assert [incident.key for incident in stage.incidents.tracker] == [(("db", "asia"),), (("db", "us"),)]
    assert len(stage.incidents.take_changes().forgotten) == 1
    stage.incidents.forget(50.0)
    assert [incident.key for incident in stage.incidents.tracker] == [(("db", "asia"),)]


def test_an_escalation_that_was_dropped_is_told_later() -> None:
    """An alarm whose later step was dropped before it was delivered has not been told; of a beginning it has."""
    stage = Stage(Step("a"), Step("b", after=60.0))
    beginning = stage.incidents.match(stage.lost, [b"lost eu"], record("lost eu")).firings
    stage.now += 60.0
    escalated = stage.incidents.tick()
    assert (told(beginning), told(escalated)) == (["a firing"], ["b escalated"])
    assert stage.incidents.forget_notification(escalated[0]) == []
    assert told(stage.incidents.tick()) == ["b escalated"]
    assert stage.resolve("back eu") == ["a resolved", "b resolved"]
    assert stage.incidents.forget_notification(Firing("other", "a", b"", record("x"), 1.0)) == []


def test_of_several_messages_that_were_dropped_the_first_counts() -> None:
    """An alarm that got the beginning, and neither reminder, is told the end; one that got nothing is not."""
    stage = Stage(Step("a", repeat_interval=10.0), Step("b", after=5.0, repeat=1, period=10.0))
    stage.match("lost eu")
    stage.now += 5.0
    (escalated,) = stage.incidents.tick()
    stage.now += 10.0
    reminder, again = stage.incidents.tick()
    assert told([reminder, escalated, again]) == ["a reminder", "b escalated", "b escalated"]
    (incident,) = stage.incidents.tracker
    stage.incidents.acknowledge(incident.id, "kim", 3600.0, "")
    for firing in (reminder, escalated, again):
        stage.incidents.forget_notification(structs.replace(firing, alarm="c", via=(firing.alarm,)))
    assert told(stage.incidents.tick()) == []
    assert stage.resolve("back eu") == ["a resolved"]


def test_what_could_not_be_taken_is_made_again() -> None:
    """An alarm whose beginning was refused was not notified; one whose end was refused is told later."""
    stage = Stage(Step("a"), Step("b"))
    refused = stage.incidents.match(stage.lost, [b"lost eu"], record("lost eu")).firings[0]
    stage.incidents.refuse(refused)
    assert stage.incidents.tick() == []
    assert stage.incidents.due() == 60.0
    assert stage.resolve("back eu") == ["b resolved"]
    stage.incidents.accept()
    stage.match("lost us")
    (end, *_) = stage.incidents.resolve(stage.back, [b"back us"], record("back us"))
    stage.incidents.refuse(end)
    stage.incidents.refuse(end)
    stage.now += 60.0
    assert told(stage.incidents.tick()) == ["a resolved"]
    stage.incidents.accept()
    stage.incidents.refuse(end)
    stage.now += 60.0
    assert stage.incidents.tick() == []


def test_a_record_is_judged_once() -> None:
    """One that was judged before is not new, and its key is written down once."""
    seen = SeenRecords(["before"])
    assert [seen.is_new(record("x", key)) for key in ("before", "now", "now")] == [False, True, False]
    assert seen.fresh == ["now"]


def test_a_line_of_a_stream_is_judged_once() -> None:
    """The lines of a stream come in order: one that is not behind the last is not new; each stream has its own."""
    seen = SeenRecords(places={"host.out": 7})
    keys = ("host.out.7.0123abcd", "host.out.8.0123abcd", "host.err.0.0123abcd", "host.out.8.0123abcd")
    assert [seen.is_new(record("x", key)) for key in keys] == [False, True, True, False]
    assert (seen.places, seen.fresh) == ({"host.out": 8, "host.err": 0}, [])


@pytest.mark.parametrize("name", ["k{}", "stream{}.1.0123abcd"])
def test_what_was_judged_is_remembered_in_bounds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many records and streams there are, the latest are remembered and the earliest is forgotten."""
    monkeypatch.setattr(stored, "SEEN", 2)
    seen = SeenRecords()
    first, *latest = [record("x", name.format(number)) for number in range(3)]
    assert all(seen.is_new(each) for each in (first, *latest))
    assert not any(seen.is_new(each) for each in latest)
    assert seen.is_new(first)


def test_a_monitor_says_what_is_wrong_and_what_is_over() -> None:
    """What is wrong begins or goes on; the other incidents of the rule end, with what is said of their ends."""
    stage = Stage(Step("a"), key=("db",))

    def report(over: dict[str, bytes] | None, *names: str, again: bool = False) -> list[str]:
        wrong = {name: Record(b"full", "monitor", 1000.0, f"{name}-{again}", fields={"db": name}) for name in names}
        found = stage.incidents.report(Report("db", wrong, over))
        assert found is not None
        return told(found.firings)

    assert report({}, "eu", "us") == ["a firing", "a firing"]
    assert report({}, "eu", "us") == [], "the same records are not judged again"
    assert report({"us": b"us is back"}, "eu", again=True) == ["a resolved"]
    assert report(None, "asia") == ["a firing"]
    assert {incident.key[0][1]: incident.end for incident in stage.incidents.tracker if not incident.is_open} == {
        "us": "us is back"
    }
    assert stage.incidents.report(Report("unknown", {})) is None


def test_the_end_of_a_monitors_only_incident() -> None:
    """Without a key, the value of which something is said is empty."""
    stage = Stage(Step("a"))
    for wrong in ({"": Record(b"full", "monitor", 1000.0, "k")}, {}):
        stage.incidents.report(Report("db", wrong, {"": b"is over"}))
    (incident,) = stage.incidents.tracker
    assert (incident.is_open, incident.end) == (False, "is over")


def test_an_engine_takes_reports() -> None:
    """They are booked like matches; a report for an engine without incidents is not judged."""
    engine = Engine([], Prefilter([]), ["a"], alarm_freq=0.0, alarm_msg_size=8192)
    report = Report("db", {"": Record(b"full", "monitor", 1000.0, "k")})
    assert engine.report(report).skipped is Reason.UNJUDGED
    engine.incidents = Stage(Step("a")).incidents
    verdict = engine.report(report)
    assert (told(list(verdict.firings)), verdict.is_resolve) == (["a firing"], True)


class Heart:
    """Heartbeats, with a clock that stands still until it is moved."""

    def __init__(self, saved: Saved = Saved(), gap: float = 0.0) -> None:  # noqa: B008  # frozen
        self.now = 1000.0
        rule = Rule("", ("a",), name="beats", incident=IncidentOptions(("heartbeat",)), measure=Heartbeat(60.0, 10.0))
        self.incidents = Incidents(
            {"beats": compile_rule(rule)},
            [IncidentRule("beats", (Step("a"),), key=("heartbeat",))],
            alarms=("a",),
            alarm_msg_size=8192,
            admit=lambda *_: None,
            clock=lambda: self.now,
            time=lambda: self.now,
            measured={"beats": MeasuredRule(Heartbeat(60.0, 10.0, ("worker-*",)))},
        )
        self.incidents.start(saved, gap)

    def beat(self, name: str = "worker-1", **fields: str) -> list[str] | None:
        """Return what is sent for a heartbeat, and why something is not."""
        found = self.incidents.beat(Record(b"", "heartbeat", self.now, "k", fields={"heartbeat": name, **fields}))
        return None if found is None else [*told(found.firings), *(held.reason for held in found.held)]

    def wait(self, seconds: float) -> list[Firing]:
        self.now += seconds
        return self.incidents.tick()


def test_an_overdue_heartbeat_is_an_incident() -> None:
    """It begins when the heartbeat is overdue, with a message that says so, and ends with the next one."""
    heart = Heart()
    assert heart.beat("unknown") is None
    assert heart.incidents.due() is None
    assert heart.beat() == []
    assert heart.incidents.due() == 70.0
    (firing,) = heart.wait(70.0)
    assert firing.text == "no heartbeat 'worker-1' for 1 min 10 s; expected every 1 min"
    assert firing.trigger is not None
    assert firing.trigger.incident is not None
    assert (firing.trigger.incident.status, firing.trigger.incident.column) == ("firing", "matched")
    assert firing.record.fields == {"heartbeat": "worker-1"}
    assert heart.beat() == ["a resolved"]
    (incident,) = heart.incidents.tracker
    assert incident.end == "heartbeat 'worker-1'"


def test_a_failure_is_an_incident() -> None:
    """It begins at once, further failures are counted, and the next good heartbeat ends it."""
    heart = Heart()
    assert heart.beat(failed="disk full") == ["a firing"]
    assert heart.beat(failed="disk full") == [Reason.ONGOING]
    (incident,) = heart.incidents.tracker
    assert incident.first is not None
    assert (incident.first.text, incident.count) == ("heartbeat 'worker-1' failed: disk full", 2)
    assert heart.beat() == ["a resolved"]


def test_the_last_heartbeat() -> None:
    """After it, none is expected; it ends an incident as others do."""
    heart = Heart()
    heart.beat(failed="")
    assert heart.beat(last="1") == ["a resolved"]
    assert heart.wait(1000.0) == []
    assert len(heart.incidents.measures) == 0


def test_who_resolves_a_heartbeat_by_hand_expects_no_other() -> None:
    """A worker that will not come back is resolved by hand; its next heartbeat is expected again."""
    heart = Heart()
    heart.beat()
    (firing,) = heart.wait(70.0)
    assert firing.trigger is not None
    assert firing.trigger.incident is not None
    assert heart.incidents.resolve_by_hand(firing.trigger.incident.id, "kim") is not None
    assert heart.wait(1000.0) == []
    assert heart.beat() == []
    assert [*told(heart.wait(70.0))] == ["a firing"]


def test_heartbeats_are_heard_over_restarts() -> None:
    """They are written down at once; what could not be heard in between is not missed."""
    heart = Heart()
    heart.beat()
    assert heart.incidents.is_urgent
    assert heart.incidents.write_due() == 0.0
    saved = Saved(measured=heart.incidents.take_changes().measured)
    assert heart.incidents.write_due() is None
    again = Heart(saved, gap=500.0)
    assert again.incidents.due() == 570.0
    fresh = Heart()
    fresh.incidents.go_on(again.incidents)
    assert fresh.incidents.due() == 570.0
    fresh.incidents.note_all()
    assert len(fresh.incidents.take_changes().measured) == 1


def test_more_heartbeats_than_there_may_be() -> None:
    """Where all are overdue, a further one is only counted."""
    heart = Heart()
    heart.incidents.measures = Measures({"beats": MeasuredRule(Heartbeat(60.0, 10.0), max_keys=1)})
    heart.incidents.start(Saved())
    heart.beat("one", failed="")
    assert heart.beat("two", failed="") == [Reason.KEY_OVERFLOW]
    assert heart.beat("two") == []


def test_an_engine_takes_heartbeats() -> None:
    """They are booked like matches; one that no monitor expects has a reason of its own."""
    engine = Engine([], Prefilter([]), ["a"], alarm_freq=0.0, alarm_msg_size=8192)
    beat = Record(b"", "heartbeat", 1.0, "k", fields={"heartbeat": "worker-1", "failed": ""})
    assert engine.beat(beat).skipped is Reason.UNKNOWN_HEARTBEAT
    engine.incidents = Heart().incidents
    verdict = engine.beat(beat)
    assert (told(list(verdict.firings)), verdict.is_resolve) == (["a firing"], True)


class Watchtower:
    """A rule that takes the alerts of other programs."""

    def __init__(self, saved: Saved = Saved()) -> None:  # noqa: B008  # frozen
        measure = ExternalAlerts(("Node*",))
        rule = Rule("", ("a",), name="nodes", incident=IncidentOptions((ALL_LABELS,)), measure=measure)
        self.incidents = Incidents(
            {"nodes": compile_rule(rule)},
            [IncidentRule("nodes", (Step("a"),), labels={"team": "ops"}, key=(ALL_LABELS,))],
            alarms=("a",),
            alarm_msg_size=8192,
            admit=lambda *_: None,
            clock=lambda: 1000.0,
            time=lambda: 1000.0,
            measured={"nodes": MeasuredRule(measure)},
        )
        self.incidents.start(saved)

    def post(self, name: str, ends_in: float, **labels: str) -> list[Firing] | None:
        alert = ExternalAlert({"alertname": name, **labels}, f"{name} is bad", ends_in)
        record = Record(b"x\n", "alert", 1000.0, "k", fields={"runbook": "https://wiki"})
        found = self.incidents.alert(alert, record)
        return None if found is None else found.firings


def test_alerts_of_other_programs_are_incidents() -> None:
    """Each by all of its labels, with its own text; one of a name that nobody takes is none."""
    tower = Watchtower()
    (firing,) = tower.post("NodeFull", 300.0, instance="a", empty="") or []
    assert firing.text == "NodeFull is bad"
    assert firing.record.fields == {"runbook": "https://wiki"}
    assert firing.trigger is not None
    assert firing.trigger.labels == {"team": "ops", "alertname": "NodeFull", "instance": "a"}
    assert tower.post("NodeFull", 300.0, instance="a") == []
    assert len(tower.post("NodeFull", 300.0, instance="b") or []) == 1
    assert told(tower.post("NodeFull", 0.0, instance="a") or []) == ["a resolved"]
    assert tower.post("Other", 300.0) is None


def test_alerts_of_other_programs_go_on_over_restarts() -> None:
    """Their keys have other names than the rule's, which does not make them those of another rule."""
    tower = Watchtower()
    tower.post("NodeFull", 300.0, instance="a")
    changes = tower.incidents.take_changes()
    again = Watchtower(Saved(changes.incidents, measured=changes.measured))
    assert again.incidents.open_by_rule() == {"nodes": 1}
    assert told(again.post("NodeFull", 0.0, instance="a") or []) == ["a resolved"]


def test_an_engine_takes_alerts() -> None:
    """They are booked like matches; one that no monitor takes has a reason of its own."""
    engine = Engine([], Prefilter([]), ["a"], alarm_freq=0.0, alarm_msg_size=8192)
    alert, record = ExternalAlert({"alertname": "NodeFull"}, "x", 300.0), Record(b"x\n", "alert", 1.0, "k")
    assert engine.alert(alert, record).skipped is Reason.UNKNOWN_ALERT
    engine.incidents = Watchtower().incidents
    verdict = engine.alert(alert, record)
    assert (told(list(verdict.firings)), verdict.is_resolve) == (["a firing"], True)


def test_an_acknowledgement_is_a_message_for_alarms_that_want_it() -> None:
    """The message says who did it; the history has it once."""
    stage = Stage(Step("a", send_acknowledged=True), Step("b"))
    stage.match("lost eu")
    (incident,) = stage.incidents.tracker
    stage.incidents.take_changes()
    (firing,) = stage.incidents.acknowledge(incident.id, "kim", 3600.0, "") or []
    assert told([firing]) == ["a acknowledged"]
    assert firing.trigger is not None
    assert firing.trigger.incident is not None
    assert (firing.trigger.incident.acknowledged_by, firing.trigger.incident.column) == ("kim", "delayed")
    assert [(event.kind, event.text) for event in stage.incidents.take_changes().events] == [("acknowledged", "kim")]


def test_an_action_that_is_new_learns_what_is_open() -> None:
    """After a restart and after a reload, receivers that forget are sent what is open, though it was told before."""
    stage = Stage(Step("a"), Step("b"), refreshed=("b",))
    stage.match("lost eu")
    saved = stage.incidents.take_changes().incidents
    later = Stage(Step("a"), Step("b"), refreshed=("b",))
    assert told(later.incidents.start(Saved(saved))) == ["b reminder"]
    again = Stage(Step("a"), Step("b"), refreshed=("b",))
    assert told(again.incidents.go_on(later.incidents)) == ["b reminder"]
    assert again.resolve("back eu") == ["a resolved", "b resolved"]


ERROR, CRITICAL = 40, 50


@pytest.mark.parametrize(
    ("rule", "matches", "worst"),
    [
        (Rule("lost", ("a",)), [(None, {}), (None, {})], None),
        (Rule("lost", ("a",)), [(ERROR, {}), (CRITICAL, {}), (ERROR, {})], 1),
        (Rule("lost", ("a",)), [(CRITICAL, {}), (ERROR, {}), (None, {})], None),
        (
            Rule("lost", ("a",), fields=(FieldCondition("free", (FieldTest("<", 5),)),)),
            [(None, {"free": "4"}), (None, {"free": "2"}), (None, {"free": "3"})],
            1,
        ),
        (
            Rule("lost", ("a",), fields=(FieldCondition("amount", (FieldTest("=", "no"), FieldTest(">=", 100))),)),
            [(None, {"amount": "no"}), (None, {"amount": "200"}), (None, {"amount": "inf"}), (None, {"amount": "300"})],
            3,
        ),
        (
            Rule("", ("a",), request=RequestConditions()),
            [(None, {"status": "500", "duration": "1.5"}), (None, {"status": "500", "duration": "12"}), (None, {})],
            1,
        ),
    ],
)
def test_the_worst_match(rule: Rule, matches: list[tuple[int | None, dict[str, str]]], worst: int | None) -> None:
    """An incident keeps the match of the highest level, or with the number that its rule looks at farthest out."""
    compiled = compile_rule(structs.replace(rule, name="db", incident=IncidentOptions()))
    stage = Stage(Step("a"))
    for number, (level, fields) in enumerate(matches):
        found = Record(b"lost %d" % number, "stdout", 1000.0, f"k{number}", level=level, fields=fields)
        found = structs.replace(found, before=b"b" * 10_000, after=b"a" * 10_000)
        stage.incidents.match(compiled, [found.message], found)
    (incident,) = stage.incidents.tracker
    assert incident.count == len(matches)
    assert (incident.worst and incident.worst.text) == (None if worst is None else f"lost {worst}")
    if incident.worst is not None:
        assert (len(incident.worst.before), len(incident.worst.after)) == (4096, 4096)


def test_each_episode_has_its_own_worst_match() -> None:
    """What was worst in a former episode says nothing about the next one."""
    stage = Stage(Step("a"))
    for number, level in enumerate((ERROR, CRITICAL)):
        stage.incidents.match(stage.lost, [b"lost eu"], structs.replace(record("lost eu", f"k{number}"), level=level))
    (incident,) = stage.incidents.tracker
    assert incident.worst is not None
    stage.resolve("back eu")
    stage.match("lost eu")
    assert incident.worst is None
