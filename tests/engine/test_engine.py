"""The engine's decisions."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from alarm_mw.engine.engine import COST_WINDOW, MAX_COST, Engine
from alarm_mw.engine.incidents.incident import Step
from alarm_mw.engine.incidents.incidents import Incidents
from alarm_mw.engine.incidents.stored import Saved
from alarm_mw.engine.incidents.tracker import IncidentRule
from alarm_mw.engine.request_rules import key_of
from alarm_mw.engine.rules import compile_rule
from alarm_mw.model.types import (
    Context,
    FieldCondition,
    FieldTest,
    IncidentOptions,
    Reason,
    Record,
    RequestConditions,
    Rule,
    Syntax,
    Trigger,
    Verdict,
)
from alarm_mw.patterns.bounded_pattern import RULE_TIMEOUT
from alarm_mw.patterns.prefilter import Prefilter

ALARMS = ("a", "b", "c")
_keys = (f"k{n}" for n in itertools.count())


def engine(*rules: Rule, alarm_freq: float = 0.0, alarm_msg_size: int = 8192) -> Engine:
    compiled = [compile_rule(rule) for rule in rules]
    screen = Prefilter(compiled)
    return Engine(compiled, screen, ALARMS, alarm_freq=alarm_freq, alarm_msg_size=alarm_msg_size)


def rule(pattern: str, *alarms: str, syntax: Syntax = Syntax.PCRE) -> Rule:
    return Rule(pattern, alarms or ("a",), syntax)


def unless(pattern: str) -> Rule:
    return Rule(pattern, (), Syntax.PCRE, excludes=True)


def line(text: bytes, **facts: Any) -> Record:
    return Record(text, **{"source": "stdout", "time": 1000.0, "key": next(_keys), **facts})


def fired(verdict: Verdict) -> list[str]:
    return [firing.alarm for firing in verdict.firings]


def test_every_rule_that_matches_fires_its_alarms_in_order() -> None:
    """All matching rules fire, in the order written, each alarm once for a line."""
    verdict = engine(rule("x", "b"), rule("nothing", "c"), rule("x", "a", "b")).evaluate(line(b"x\n"), 0.0)
    assert fired(verdict) == ["b", "a"]
    assert verdict.matched == ("b", "a")


def test_an_exclusion_ends_the_scan() -> None:
    """What stands before a not-log-alarm that matches fires; what stands behind it does not."""
    verdict = engine(rule("x", "a"), unless("x"), rule("x", "b")).evaluate(line(b"x\n"), 0.0)
    assert fired(verdict) == ["a"]


def test_matches_are_counted_by_rule() -> None:
    """Each rule counts the records that it has matched, and the lines that a gate has decided for it."""
    judge = engine(rule("x", "a"), unless("y"), rule("z", "b"))
    for text in (b"x\n", b"x y\n", b"x z\n", b"nothing\n"):
        judge.evaluate(line(text), 0.0)
    judge.count((0, 2), "stdout", 10)
    judge.count((0, 1, 2), "stdout", 5)
    assert [n for _, n in judge.matches()] == [18, 6, 11]
    counting = engine(structs.replace(rule("x", "a"), count=2, within=1.0))
    counting.count((0,), "stdout", 10)
    assert [n for _, n in counting.matches()] == [0]


def test_an_echo_is_no_match_of_a_rule() -> None:
    """A line that is seen both as a record and in the output is counted once."""
    judge = engine(rule("x", "a"))
    judge.evaluate(line(b"x\n", source="logging", echoes=(b"x",)), 0.0)
    judge.evaluate(line(b"x\n"), 0.0)
    assert [n for _, n in judge.matches()] == [1]


def test_an_exclusion_before_all_rules_is_named() -> None:
    """A line that only an exclusion matched is counted as excluded."""
    assert engine(unless("x"), rule("x")).evaluate(line(b"x\n"), 0.0).skipped is Reason.EXCLUDED


def test_a_line_that_matches_nothing_has_no_reason() -> None:
    """A line without a match is neither fired nor held back nor skipped."""
    assert engine(rule("x")).evaluate(line(b"y\n"), 0.0) == Verdict()


def test_a_line_that_only_the_screen_takes_for_a_match_does_not_fire() -> None:
    """Where the screen says yes too often, the rule's own verdict decides."""
    assert engine(rule("x(?!z)")).evaluate(line(b"xz\n"), 0.0) == Verdict()


def test_the_message_is_the_line_with_its_newline() -> None:
    """An action gets the line as it was, newline and foreign bytes included."""
    (firing,) = engine(rule("x")).evaluate(line(b"\xffx\n"), 0.0).firings
    assert firing.message == b"\xffx\n"


def test_the_context_of_a_record_is_shown_and_decides_nothing() -> None:
    """Lines of context stand below the message; no rule matches them, and by them no message is another one."""
    judge = engine(rule("x"), rule("context", "b"), alarm_freq=10.0)
    (firing,) = judge.evaluate(line(b"x\n", context=b"some context\n"), 0.0).firings
    assert firing.message == b"x\nsome context\n"
    again = judge.evaluate(line(b"x\n", context=b"other context\n"), 1.0)
    assert [held.reason for held in again.held] == [Reason.SAME_MESSAGE]


def test_the_context_is_cut_before_the_message() -> None:
    """Message and context together stay within the size, and the message comes first."""
    (firing,) = engine(rule("x"), alarm_msg_size=40).evaluate(line(b"x\n", context=b"c" * 1000), 0.0).firings
    assert firing.message.startswith(b"x\nccc")
    assert len(firing.message) <= 40


def test_same_message_within_freq_is_held_back_and_counted() -> None:
    """The same message as the last one is held for alarm-freq seconds, and the next firing says how many were."""
    limited = engine(rule("x"), alarm_freq=3.0)
    assert fired(limited.evaluate(line(b"x\n"), 10.0)) == ["a"]
    (held,) = limited.evaluate(line(b"x\n", time=1001.0), 12.9).held
    assert held.reason is Reason.SAME_MESSAGE
    (firing,) = limited.evaluate(line(b"x\n"), 13.0).firings
    assert (firing.held_back, firing.held_since) == (1, 1001.0)


def test_repeats_do_not_prolong_the_time() -> None:
    """A message that keeps coming fires every alarm-freq seconds, as in uWSGI."""
    limited = engine(rule("x"), alarm_freq=3.0)
    assert sum(len(limited.evaluate(line(b"x\n"), float(now)).firings) for now in range(9)) == 3


def test_only_the_last_message_is_compared() -> None:
    """A B A B passes the limiter, as in uWSGI."""
    limited = engine(rule("x"), alarm_freq=3.0)
    assert all(limited.evaluate(line(text), 0.0).firings for text in (b"x1\n", b"x2\n", b"x1\n", b"x2\n"))


def test_lines_of_alarm_plugins_are_not_looked_at() -> None:
    """A line that begins with [uwsgi-alarm never fires."""
    verdict = engine(rule(".*")).evaluate(line(b"[uwsgi-alarm-curl] failed\n"), 0.0)
    assert verdict.skipped is Reason.ALARM_MARK


def test_an_alarm_whose_text_keeps_coming_back_is_stopped() -> None:
    """A loop through the alarm's own output ends after a bounded number of firings, with its reason."""
    looping = engine(rule("ERR"))
    message, count = b"ERR x\n", 0
    for _ in range(1000):
        verdict = looping.evaluate(line(message), 0.0)
        if not verdict.firings:
            break
        count += 1
        message = b"Tue Nov 24 06:29:21 2026 - ALARM: " + verdict.firings[0].message
    assert count == 10
    assert [held.reason for held in verdict.held] == [Reason.LOOP]


def test_a_growing_list_is_no_loop() -> None:
    """An application that appends to its last message loses no alarm to the loop guard."""
    growing = engine(rule("ALARM"))
    hosts = ", ".join(f"web{n}" for n in range(30))
    texts = [b"ALARM failed hosts: " + hosts[:end].encode() for end in range(4, len(hosts))]
    assert all(growing.evaluate(line(text + b"\n"), 0.0).firings for text in texts)


def test_numbered_messages_are_no_loop() -> None:
    """An application that counts upwards loses no alarm to the loop guard."""
    counting = engine(rule("ALARM"))
    assert all(counting.evaluate(line(b"ALARM %d\n" % n), 0.0).firings for n in range(20_000))


def test_an_empty_line_is_no_loop() -> None:
    """A rule for empty lines fires for each of them: they are in every other message, and tell nothing."""
    empty = engine(rule("^$"))
    assert all(empty.evaluate(line(b"\n"), 0.0).firings for _ in range(20))


def test_a_record_matches_when_one_of_its_lines_does() -> None:
    """`^` means the start of a line in a record of several lines too, and the alarm shows the record whole."""
    (firing,) = engine(rule("^second$")).evaluate(line(b"first\nsecond\nthird\n", source="logging"), 0.0).firings
    assert firing.message == b"first\nsecond\nthird\n"


def test_an_exclusion_sees_the_whole_record() -> None:
    """A not-log-alarm that matches any line of a record ends the scan for the record."""
    assert not engine(unless("^second"), rule("first")).evaluate(line(b"first\nsecond\n"), 0.0).firings


def test_level_and_logger_are_conditions() -> None:
    """A rule with a level or a logger only sees records that have them."""
    strict = engine(Rule("x", ("a",), level=40, logger="app"))
    assert strict.evaluate(line(b"x\n", level=40, logger="app.db"), 0.0).firings
    assert not strict.evaluate(line(b"x\n", level=30, logger="app"), 0.0).firings
    assert not strict.evaluate(line(b"x\n", level=40, logger="apple"), 0.0).firings
    assert not strict.evaluate(line(b"x\n"), 0.0).firings


def test_the_prefilter_is_certain_of_conditions_as_well() -> None:
    """A line that is certain to match meets the conditions on its fields, and one that does not is no hit."""
    strict = engine(Rule("x", ("a",), level=40))
    (hit,) = strict.prefilter.scan(b"x\nlevel=error msg=x\nlevel=info msg=x\n")
    assert (hit.line, hit.certain) == (b"level=error msg=x\n", (0,))
    assert strict.evaluate(line(hit.line), 0.0, hit.rules, hit.certain).firings
    assert strict.confirmed_rules((0,), (), hit.line) == (0,)
    assert strict.confirmed_rules((0,), (), b"level=info msg=x\n") == ()


def test_a_printed_echo_of_a_log_record_fires_once() -> None:
    """A record seen through the handler and then printed fires once; the reason is in the ledger."""
    both = engine(rule("boom"))
    assert both.evaluate(line(b"boom\n", source="logging", echoes=(b"ERROR boom",)), 0.0).firings
    (held,) = both.evaluate(line(b"ERROR boom\n", source="stderr"), 0.1).held
    assert held.reason is Reason.ECHO


def test_a_printed_line_before_its_log_record_fires_once() -> None:
    """The order in which the two arrive does not matter."""
    both = engine(rule("boom"))
    assert both.evaluate(line(b"ERROR boom\n", source="stderr"), 0.0).firings
    (held,) = both.evaluate(line(b"boom\n", source="logging", echoes=(b"ERROR boom",)), 0.1).held
    assert held.reason is Reason.ECHO


def test_an_announced_line_excuses_one_print_only() -> None:
    """The same text printed on its own account fires as well."""
    both = engine(rule("boom"))
    both.evaluate(line(b"boom\n", source="logging", echoes=(b"boom",)), 0.0)
    both.evaluate(line(b"boom\n", source="stderr"), 0.0)
    assert both.evaluate(line(b"boom\n", source="stderr"), 0.0).firings


def test_an_echo_is_an_echo_for_some_seconds_only() -> None:
    """A line printed long after the record is no echo of it."""
    both = engine(rule("boom"))
    both.evaluate(line(b"boom\n", source="logging", echoes=(b"boom",)), 0.0)
    assert both.evaluate(line(b"boom\n", source="stderr"), 60.0).firings


def test_an_event_whose_printed_form_is_unknown_fires_once() -> None:
    """An event that a renderer wraps into another line is recognised by its parts, in both orders."""
    both = engine(rule("boom"))
    event = {"source": "structlog", "loose_echo": ("boom café".encode(), b"17")}
    assert both.evaluate(line("boom café order=17\n".encode(), **event), 0.0).firings
    assert both.evaluate(line(b'{"event": "boom caf\\u00e9", "order": 17}\n'), 0.0).held[0].reason is Reason.ECHO
    assert both.evaluate(line(b'{"event": "boom caf\\u00e9", "order": 17}\n'), 0.0).firings
    assert both.evaluate(line("boom café order=17\n".encode(), **event), 0.0).held[0].reason is Reason.ECHO


def test_a_short_event_holds_nothing_else_back() -> None:
    """An event whose text is in many lines announces none of them: an alarm twice is better than none."""
    both = engine(rule("error"))
    assert both.evaluate(line(b"error\n", source="structlog", loose_echo=(b"error",)), 0.0).firings
    assert both.evaluate(line(b"disk error: data lost\n"), 0.1).firings


def test_announcements_do_not_add_up_over_time() -> None:
    """Lines that were announced long ago and never printed hold no later line back."""
    both = engine(rule("boom"))
    for now in (0.0, 100.0):
        both.evaluate(line(b"boom\n", source="logging", echoes=(b"boom",)), now)
    assert both.evaluate(line(b"boom\n"), 100.1).held[0].reason is Reason.ECHO
    assert both.evaluate(line(b"boom\n"), 100.2).firings


def test_an_echo_is_not_told_as_held_back() -> None:
    """The next firing counts what was kept from its reader, which an echo was not."""
    both = engine(rule("boom"))
    both.evaluate(line(b"boom\n", source="logging", echoes=(b"boom",)), 0.0)
    both.evaluate(line(b"boom\n"), 0.0)
    assert both.evaluate(line(b"boom 2\n"), 0.0).firings[0].held_back == 0


def test_a_loop_of_long_messages_is_stopped_as_well() -> None:
    """Text that keeps coming back is recognised though the messages are cut."""
    looping = engine(rule("ERR"), alarm_msg_size=100)
    message, count = b"ERR " + b"x" * 95 + b"\n", 0
    while looping.evaluate(line(message), 0.0).firings and count < 100:
        message, count = b"ALARM: " + message, count + 1
    assert count == 10


def test_a_regexp_that_is_no_text_can_be_stored() -> None:
    """A firing names its rule in text, whatever bytes the regexp has."""
    (firing,) = engine(rule("caf\udce9")).evaluate(line(b"caf\xe9\n"), 0.0).firings
    assert firing.rule == "caf\\xe9"


def test_alarm_fires_past_the_rules() -> None:
    """`alarm()` needs no rule; the limiter holds for it as well."""
    direct = engine(alarm_freq=3.0)
    assert fired(direct.fire("b", line(b"hello", source="api"), 0.0)) == ["b"]
    assert direct.fire("b", line(b"hello", source="api"), 1.0).held[0].reason is Reason.SAME_MESSAGE


def test_an_unknown_alarm_is_counted() -> None:
    """`alarm()` with a name that is not configured does nothing but count."""
    assert engine().fire("nobody", line(b"hello"), 0.0).skipped is Reason.UNKNOWN_ALARM


def test_a_tiny_size_is_kept_as_well() -> None:
    """Where there is no room to say that a message was cut, it is cut all the same."""
    (firing,) = engine(rule("x"), alarm_msg_size=5).evaluate(line(b"x" * 100), 0.0).firings
    assert firing.message == b"xxxxx"


def test_a_long_message_is_cut_and_says_so() -> None:
    """A message above alarm-msg-size is cut to it, tells its length and keeps its newline."""
    (firing,) = engine(rule("x"), alarm_msg_size=40).evaluate(line(b"x" * 100 + b"\n"), 0.0).firings
    assert firing.message == b"x" * 22 + b" [cut: 101 bytes]\n"


def test_a_long_message_of_foreign_bytes_is_cut_too() -> None:
    """What is no text is cut at the size, with its bytes as they are."""
    (firing,) = engine(rule("x"), alarm_msg_size=40).evaluate(line(b"x" + b"\xff" * 100), 0.0).firings
    assert firing.message == b"x" + b"\xff" * 22 + b" [cut: 101 bytes]"


@given(st.text(max_size=60), st.integers(20, 80))
def test_a_cut_message_is_text_of_the_right_size(text: str, size: int) -> None:
    """Cutting never exceeds the size and never splits a character."""
    for firing in engine(rule("(?s).*"), alarm_msg_size=size).evaluate(line(text.encode()), 0.0).firings:
        assert len(firing.message) <= size
        firing.message.decode()


@given(st.lists(st.sampled_from(["a+", "b", "^c", "x$"]), max_size=5), st.binary(max_size=20), st.booleans())
def test_what_matched_is_fired_or_held(patterns: list[str], message: bytes, printed: bool) -> None:
    """Every alarm that matched is either fired or held back with a reason, never both, never neither."""
    some = engine(*(rule(pattern, ALARMS[n % 3]) for n, pattern in enumerate(patterns)), alarm_freq=3.0)
    for now in (0.0, 1.0):
        verdict = some.evaluate(line(message, source="stdout" if printed else "logging"), now)
        assert sorted([*fired(verdict), *(held.alarm for held in verdict.held)]) == sorted(verdict.matched)


def test_a_rule_that_is_cut_off_is_named_and_switched_off() -> None:
    """A regexp that backtracks for ever is cut off, told, and no longer tried when it keeps doing so."""
    endless = r"^(?=(a|aa)+$)a"
    slow = engine(Rule(endless, ("a",)), rule("aaaa", "b"))
    text = b"a" * 100 + b"!\n"
    for _ in range(round(MAX_COST / RULE_TIMEOUT)):
        assert not slow.is_switched_off(0)
        verdict = slow.evaluate(line(text), 0.0)
        assert (fired(verdict), verdict.cut_off) == (["b"], (0,))
    assert slow.is_switched_off(0)
    assert slow.evaluate(line(text), 0.0).cut_off == ()
    assert slow.rule(0).pattern == endless


def test_a_rule_that_is_cut_off_seldom_stays_on() -> None:
    """What a rule has cost is counted anew after a while: one bad line now and then switches nothing off."""
    slow = engine(Rule(r"^(?=(a|aa)+$)a", ("a",)))
    for now in range(round(MAX_COST / RULE_TIMEOUT) + 2):
        assert slow.evaluate(line(b"a" * 100 + b"!\n"), now * COST_WINDOW / 4).cut_off == (0,)
    assert not slow.is_switched_off(0)


@pytest.mark.parametrize(("cost", "is_off"), [(0.0625, True), (0.001953125, False)])
def test_a_rule_that_is_slow_and_never_cut_off_is_switched_off(cost: float, is_off: bool) -> None:
    """It is the time that counts: many long searches hold alarms up as much, quick ones do not count."""
    spent = itertools.count(0, cost)
    compiled = compile_rule(rule("a.c", "a"))
    slow = Engine([compiled], Prefilter([compiled]), ALARMS, alarm_freq=0, alarm_msg_size=99, clock=lambda: next(spent))
    for _ in range(8):
        slow.evaluate(line(b"abd\n"), 0.0, (0,))
    assert slow.is_switched_off(0) is is_off


def test_a_line_on_which_the_only_rule_was_cut_off_has_that_reason() -> None:
    """A line that might have matched, had there been time, is counted as such."""
    verdict = engine(Rule(r"^(?=(a|aa)+$)a", ("a",))).evaluate(line(b"a" * 100 + b"!\n"), 0.0)
    assert verdict == Verdict(skipped=Reason.RULE_TIMEOUT, cut_off=(0,))


def test_an_id_is_plain_text_whatever_the_alarm_is_called() -> None:
    """It is the same for the same name, another one for another, and can stand in any header."""
    names = ("ops.mail-1", "störung", "a%C3", "\udcff", "<a@b>")
    named = Engine([], Prefilter([]), names, alarm_freq=0.0, alarm_msg_size=100)
    ids = [named.fire(name, line(b"x", key="k"), 0.0).firings[0].id for name in names]
    assert ids == ["k.ops.mail-1", "k.st%C3%B6rung", "k.a%25C3", "k.%ED%B3%BF", "k.%3Ca%40b%3E"]


@pytest.mark.parametrize(
    ("facts", "trigger"),
    [
        ({}, None),
        ({"name": "pay"}, Trigger("pay")),
        ({"labels": (("severity", "critical"),)}, Trigger(labels={"severity": "critical"})),
        ({"count": 2, "within": 60.0}, Trigger(count=2, within=60.0)),
    ],
)
def test_a_firing_knows_what_a_message_can_say_of_its_rule(facts: dict[str, Any], trigger: Trigger | None) -> None:
    """Name, labels and threshold of the rule that fired; nothing of a rule that has none of them."""
    decided = engine(structs.replace(rule("x"), **facts))
    verdicts = [decided.evaluate(line(b"x\n"), 0.0), decided.evaluate(line(b"x\n"), 1.0)]
    (firing, *_) = [firing for verdict in verdicts for firing in verdict.firings]
    assert (firing.rule, firing.trigger) == ("x", trigger)


def test_a_firing_knows_the_limit_of_its_request() -> None:
    """`slower_than` of a rule on requests."""
    slow = structs.replace(rule(""), request=RequestConditions(slower_than=1.0))
    held = (key_of(slow.request),) if slow.request else ()
    (firing,) = engine(slow).evaluate(line(b"GET / was slow\n", held=held), 0.0).firings
    assert firing.trigger == Trigger(slower_than=1.0)


def test_an_alarm_that_is_fired_directly_has_no_rule() -> None:
    """Of `alarm()` and monitors there is none."""
    (firing,) = engine().fire("a", line(b"x\n"), 0.0).firings
    assert (firing.rule, firing.trigger) == ("", None)


def engine_with_incidents(*rules: Rule) -> Engine:
    """Return an engine whose rules with options for incidents have some, of one alarm each."""
    judge = engine(*rules)
    compiled = {each.name: compile_rule(each) for each in rules if each.incident is not None}
    tracked = [IncidentRule(name, (Step(each.rule.alarms[0]),)) for name, each in compiled.items()]
    judge.incidents = Incidents(
        compiled,
        tracked,
        alarms=ALARMS,
        alarm_msg_size=8192,
        admit=lambda alarm, name, labels: judge.admit(alarm, name, labels, 0.0),
        clock=lambda: 1000.0,
        time=lambda: 1000.0,
    )
    judge.incidents.start(Saved())
    return judge


LOST = structs.replace(rule("lost"), name="db", incident=IncidentOptions())
BACK = Rule("back", (), Syntax.PCRE, resolves="db")


def statuses(verdict: Verdict) -> list[str]:
    notices = [firing.trigger.incident for firing in verdict.firings if firing.trigger is not None]
    return [notice.status for notice in notices if notice is not None]


def test_rules_without_incidents_fire_beside_those_with_some() -> None:
    """Where another rule has incidents, each match of a plain rule is a message as ever, and begins none."""
    judge = engine_with_incidents(LOST, rule("boom", "b"))
    verdicts = [judge.evaluate(line(b"boom\n"), 0.0) for _ in range(2)]
    assert [fired(verdict) for verdict in verdicts] == [["b"], ["b"]]
    assert [statuses(verdict) for verdict in verdicts] == [[], []]


def test_a_line_that_begins_an_incident_does_not_end_it() -> None:
    """A line that matches the rule and its resolve line begins an incident, which goes on until another line."""
    judge = engine_with_incidents(LOST, BACK)
    assert statuses(judge.evaluate(line(b"lost, then back\n"), 0.0)) == ["firing"]
    assert statuses(judge.evaluate(line(b"lost, then back\n"), 0.0)) == []
    assert statuses(judge.evaluate(line(b"back\n"), 0.0)) == ["resolved"]


def test_an_echo_is_no_match_of_an_incident() -> None:
    """A record that is also printed counts once for its incident; the ledger has the reason of the other."""
    judge = engine_with_incidents(LOST)
    assert statuses(judge.evaluate(line(b"lost\n", source="logging", echoes=(b"ERROR lost",)), 0.0)) == ["firing"]
    (held,) = judge.evaluate(line(b"ERROR lost\n", source="stderr"), 0.1).held
    assert held.reason is Reason.ECHO
    assert judge.incidents is not None
    assert [incident.count for incident in judge.incidents.tracker] == [1]


def test_an_echo_ends_no_incident() -> None:
    """The printed form of a resolve line ends no incident that has begun since the record."""
    judge = engine_with_incidents(LOST, BACK)
    judge.evaluate(line(b"lost\n", source="logging"), 0.0)
    assert statuses(judge.evaluate(line(b"back\n", source="logging", echoes=(b"INFO back",)), 0.1)) == ["resolved"]
    assert statuses(judge.evaluate(line(b"lost\n", source="logging"), 0.2)) == ["firing"]
    assert statuses(judge.evaluate(line(b"INFO back\n", source="stderr"), 0.3)) == []


def test_lines_around_a_match_are_for_rules_that_ask_for_them() -> None:
    """Another rule's alarm gets the record without them."""
    asking = structs.replace(rule("x", "a"), context=Context(before=3))
    verdict = engine(asking, rule("x", "b")).evaluate(line(b"x\n", before=b"y\n"), 0.0)
    assert [(firing.alarm, firing.record.before) for firing in verdict.firings] == [("a", b"y\n"), ("b", b"")]


def test_conditions_hold_for_records_and_for_lines_that_state_them() -> None:
    """A level is a record's own, or what a line in JSON says; a field is either as well; a bare line has none."""
    leveled = engine(structs.replace(rule("x", "a"), level=40))
    assert fired(leveled.evaluate(line(b"x\n", level=40), 0.0)) == ["a"]
    assert fired(leveled.evaluate(line(b'{"level": "error", "message": "x"}\n', source="logging"), 20.0)) == ["a"]
    assert fired(leveled.evaluate(line(b"x\n", source="logging"), 40.0)) == []
    asking = structs.replace(rule("x", "a"), fields=(FieldCondition("user", (FieldTest("=", "kim"),)),))
    assert fired(engine(asking).evaluate(line(b"x\n", source="logging", fields={"user": "kim"}), 0.0)) == ["a"]
    assert fired(engine(asking).evaluate(line(b"x\n", source="logging", fields={"user": "lee"}), 0.0)) == []
