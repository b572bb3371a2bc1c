"""What holds alarms back: never more than was promised, and no match uncounted."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.engine.engine import Engine
from alarm_mw.engine.flood_control import limiters, pending_digest
from alarm_mw.engine.flood_control.limits import Limits, Rate
from alarm_mw.engine.flood_control.silences import Silence
from alarm_mw.engine.memory import Memory
from alarm_mw.engine.rules import compile_rule
from alarm_mw.model.types import Firing, Reason, Record, Rule, Verdict
from alarm_mw.patterns.prefilter import Prefilter

ALARMS = ("a", "b")
_keys = (f"k{n}" for n in itertools.count())


def engine(
    *rules: Rule,
    alarm_rate: Rate | None = None,
    alarm_freq: float = 0.0,
    memory: Memory | None = None,
    left_out: Sequence[str] = (),
    **limits: Limits,
) -> Engine:
    compiled = [compile_rule(rule) for rule in rules or (Rule("x", ("a",)),)]
    return Engine(
        compiled,
        Prefilter(compiled),
        ALARMS,
        left_out=left_out,
        alarm_freq=alarm_freq,
        alarm_msg_size=8192,
        alarm_rate=alarm_rate,
        limits=limits,
        memory=memory,
    )


def line(text: bytes, time: float = 0.0, **facts: Any) -> Record:
    return Record(text, **{"source": "stdout", "time": time, "key": next(_keys), **facts})


def reasons(verdict: Verdict) -> list[Reason]:
    return [held.reason for held in verdict.held]


# Rates


def test_an_alarm_fires_as_often_as_its_rate_allows() -> None:
    """The first N messages go out, the next ones are held back until the first is so long ago."""
    limited = engine(a=Limits(rate="2/10s"))
    fired = [bool(limited.evaluate(line(b"x %d\n" % n), n * 3.0).firings) for n in range(6)]
    assert fired == [True, True, False, False, True, True]


@given(
    st.lists(st.floats(0, 7), max_size=60),
    st.integers(1, 4),
    st.integers(1, 20),
    st.booleans(),
)
def test_no_window_holds_more_messages_than_its_rate(
    gaps: list[float],
    most: int,
    window: int,
    digest: bool,
) -> None:
    """In no span of the window are there more messages than the rate, digests among them; and none is uncounted."""
    limited = engine(a=Limits(rate=f"{most}/{window}s", digest=digest))
    sent: list[tuple[float, Firing]] = []
    now = 0.0
    for gap in gaps:
        _let_pass(limited, now, now + gap, sent)
        now += gap
        sent += [(now, firing) for firing in limited.evaluate(line(b"x\n", now), now).firings]
    _let_pass(limited, now, now + 1000.0, sent)
    times = [time for time, _ in sent]
    assert all(earlier + window <= later for earlier, later in zip(times, times[most:], strict=False))
    pending = limited.memory.held_back.alarms
    told = sum(firing.held_back + (not firing.is_digest) for _, firing in sent)
    assert told + sum(each.count for each in pending.values()) == len(gaps)
    assert not (digest and pending)


def _let_pass(limited: Engine, now: float, until: float, sent: list[tuple[float, Firing]]) -> None:
    """Let time pass, and the engine tell what is due meanwhile."""
    while (due := limited.due()) is not None and due <= until:
        sent += [(max(due, now), firing) for firing in limited.tick(due, due)]


def test_all_alarms_for_humans_have_one_rate_together() -> None:
    """`alarm_rate` is about the person: it holds alarms back together, and leaves those for programs alone."""
    limited = engine(
        Rule("x", ("a", "b")), alarm_rate=Rate(2, 60.0), a=Limits(for_humans=True), b=Limits(for_humans=False)
    )
    verdicts = [limited.evaluate(line(b"x %d\n" % n), float(n)) for n in range(4)]
    assert [len(verdict.firings) for verdict in verdicts] == [2, 2, 1, 1]
    assert reasons(verdicts[-1]) == [Reason.ALARM_RATE]
    assert limited.due() == 60.0


def test_digests_count_for_the_rate_of_all() -> None:
    """Two alarms that have something to tell do not exceed together what a person is to be sent."""
    limited = engine(Rule("x", ("a", "b")), alarm_rate=Rate(1, 60.0))
    limited.evaluate(line(b"x 1\n"), 0.0)
    limited.evaluate(line(b"x 2\n"), 1.0)
    assert [digest.alarm for digest in limited.tick(60.0, 60.0)] == ["b"]
    assert limited.tick(119.0, 119.0) == []
    assert [digest.alarm for digest in limited.tick(120.0, 120.0)] == ["a"]


def test_the_firings_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long an alarm fires, what a rate has to know takes limited space."""
    monkeypatch.setattr(limiters, "MOST", 3)
    limited = engine(a=Limits(rate="3/1s"))
    for n in range(10):
        limited.evaluate(line(b"x %d\n" % n), float(n))
    assert limited.memory.rates.times == {"a": [7.0, 8.0, 9.0]}


# Repeats


def test_a_message_is_not_sent_a_second_time_whatever_came_in_between() -> None:
    """Of A B A B the second two are held back, and told when their time is over."""
    limited = engine(a=Limits(repeat_after="1m"))
    verdicts = [limited.evaluate(line(text), 1.0) for text in (b"x A\n", b"x B\n", b"x A\n", b"x B\n")]
    assert [reasons(verdict) for verdict in verdicts] == [[], [], [Reason.REPEAT], [Reason.REPEAT]]
    assert limited.evaluate(line(b"x A\n"), 61.0).firings[0].held_back == 1
    assert limited.evaluate(line(b"x B\n"), 61.0).firings[0].held_back == 1


def test_repeats_do_not_prolong_their_time() -> None:
    """A message that keeps coming is sent once in each time."""
    limited = engine(a=Limits(repeat_after="10s", digest=False))
    assert sum(len(limited.evaluate(line(b"x\n"), float(now)).firings) for now in range(30)) == 3


def test_the_messages_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an endless number of messages the newest are remembered; an old one may come again."""
    monkeypatch.setattr(limiters, "REPEATS", 3)
    limited = engine(a=Limits(repeat_after="1h"))
    for n, letter in enumerate("ABCDE"):
        limited.evaluate(line(f"x {letter}\n".encode()), float(n))
    assert reasons(limited.evaluate(line(b"x C\n"), 5.0)) == [Reason.REPEAT]
    assert limited.evaluate(line(b"x B\n"), 5.0).firings
    assert len(limited.memory.repeats.dump()["a"]) == 3


def test_what_no_longer_holds_anything_back_is_forgotten() -> None:
    """The memory of an alarm, which is written down at every message, holds no fingerprints of days ago."""
    limited = engine(a=Limits(repeat_after="1m"))
    for n, letter in enumerate("ABCDE"):
        limited.evaluate(line(f"x {letter}\n".encode()), n * 40.0)
    assert len(limited.memory.repeats.dump()["a"]) == 2


def test_equal_errors_are_one_message_and_a_count() -> None:
    """Of 200 errors that differ in times and ids, one is sent, and how many there were is said at the end."""
    limited = engine(alarm_freq=3.0, a=Limits(repeat_after="10m"))
    fired = [
        firing
        for n in range(200)
        for firing in limited.evaluate(
            line(b"03:12:%02d,%03d x: order %d failed\n" % (n % 60, n, n), n / 10), n / 10
        ).firings
    ]
    assert [firing.text for firing in fired] == ["03:12:00,000 x: order 0 failed"]
    due = limited.due()
    assert due == 600.1
    (digest,) = limited.tick(due, due)
    assert digest.text.splitlines() == [
        "200 times: 03:12:01,001 x: order 1 failed",
        "repeated since 1970-01-01 00:00:00 UTC, within 20 s",
        "last: 03:12:19,199 x: order 199 failed",
    ]
    assert (digest.held_back, digest.rule, digest.fingerprint) == (199, "x", fired[0].fingerprint)
    assert limited.due() is None


def test_different_errors_among_equal_ones_are_sent() -> None:
    """Four other errors among 200 equal ones make five messages, and take nothing away from the count."""
    limited = engine(alarm_freq=3.0, a=Limits(repeat_after="10m"))
    texts = [f"x: order {n} failed\n" for n in range(200)]
    for place, other in ((180, "disk full"), (120, "no route"), (60, "out of memory"), (20, "bad gateway")):
        texts.insert(place, f"x: {other}\n")
    found = [limited.evaluate(line(text.encode(), n / 10), n / 10) for n, text in enumerate(texts)]
    fired = [firing for verdict in found for firing in verdict.firings]
    assert [firing.text for firing in fired] == [
        "x: order 0 failed",
        "x: bad gateway",
        "x: out of memory",
        "x: no route",
        "x: disk full",
    ]
    assert [firing.held_back for firing in fired] == [0] * 5
    (digest,) = limited.tick(1000.0, 1000.0)
    assert digest.text.startswith("200 times: x: order 1 failed\n")


def test_an_error_that_goes_on_is_sent_once_in_each_interval_with_the_count() -> None:
    """The next message says how many were held back; there is no message for that alone."""
    limited = engine(a=Limits(repeat_after="10m"))
    sent: list[tuple[float, Firing]] = []
    for second in range(0, 1300, 10):
        _let_pass(limited, second - 10.0, float(second), sent)
        sent += [(float(second), each) for each in limited.evaluate(line(b"x %d\n" % second), float(second)).firings]
    assert [(time, firing.held_back, firing.is_digest) for time, firing in sent] == [
        (0.0, 0, False),
        (600.0, 59, False),
        (1200.0, 59, False),
    ]


def test_a_traceback_is_repeated_by_its_last_line() -> None:
    """What happened is said, and not that there was a traceback."""
    limited = engine(Rule("Error", ("a",)), a=Limits(repeat_after="10m"))
    text = b'Traceback (most recent call last):\n  File "a.py", line %d, in f\n    g()\nValueError: no %d\n'
    for n in range(3):
        limited.evaluate(line(text % (n, n)), float(n))
    (digest,) = limited.tick(1000.0, 1000.0)
    assert digest.text.splitlines()[0] == "3 times: ValueError: no 1"


def test_the_repeats_that_are_counted_one_by_one_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many errors are repeated, what is to be told of them takes limited space, and none is uncounted."""
    monkeypatch.setattr(pending_digest, "REPEATED", 2)
    limited = engine(a=Limits(repeat_after="10m"))
    for n, letter in enumerate("ABCDABCD"):
        limited.evaluate(line(f"x {letter}\n".encode()), float(n))
    told = [firing.text.splitlines()[0] for firing in limited.tick(2000.0, 2000.0)]
    assert told == [
        "2 more since 1970-01-01 00:00:00 UTC, held back by repeat",
        "2 times: x A",
        "2 times: x B",
    ]


@pytest.mark.parametrize("repeat_after", [0, "0s"])
def test_every_message_is_sent_if_repeats_are_wanted(repeat_after: int | str) -> None:
    """`repeat_after = 0` sends the same message again at once, whatever `alarm_freq` is."""
    limited = engine(alarm_freq=3.0, a=Limits(repeat_after=repeat_after))
    assert sum(len(limited.evaluate(line(b"x\n"), 0.0).firings) for _ in range(5)) == 5


def test_a_rule_says_what_equal_events_have_in_common() -> None:
    """With a fingerprint of its own, a rule's messages are equal whatever they say."""
    limited = engine(Rule("x", ("a",), fingerprint=("exception", "path")), a=Limits(repeat_after="10m"))
    facts = [("ValueError", "/pay"), ("ValueError", "/pay"), ("KeyError", "/pay"), ("ValueError", "/cart")]
    found = [
        limited.evaluate(line(f"x {kind} {n}".encode(), fields={"exception": kind, "path": path}), 0.0)
        for n, (kind, path) in enumerate(facts)
    ]
    assert [len(verdict.firings) for verdict in found] == [1, 0, 1, 1]


def test_repeats_wait_for_a_silence_and_a_rate() -> None:
    """A report of repeats is a message like any other: it waits until the alarm may send."""
    limited = engine(Rule("x", ("a",)), Rule("y", ("a",)), a=Limits(repeat_after="10m", rate="2/1h"))
    for text, now in ((b"x\n", 0.0), (b"x\n", 1.0), (b"y\n", 300.0)):
        limited.evaluate(line(text), now)
    assert limited.tick(601.0, 601.0) == []
    (digest,) = limited.tick(3600.0, 3600.0)
    assert digest.text.startswith("2 times: x\n")


# Thresholds


def test_a_rule_fires_at_the_nth_match_in_time() -> None:
    """Three in ten seconds: two are below, the third fires, and then it counts anew."""
    counting = engine(Rule("x", ("a",), count=3, within=10.0))
    verdicts = [counting.evaluate(line(b"x\n"), now) for now in (0.0, 9.0, 11.0, 12.0, 13.0, 14.0)]
    assert [bool(verdict.firings) for verdict in verdicts] == [False, False, False, True, False, False]
    assert reasons(verdicts[0]) == [Reason.BELOW_THRESHOLD]
    assert verdicts[3].firings[0].held_back == 0


def test_another_rule_fires_below_a_threshold() -> None:
    """An alarm fires when one of its rules says so, whatever the others wait for."""
    counting = engine(Rule("x", ("a",), count=3, within=10.0), Rule("y", ("a",)))
    assert counting.evaluate(line(b"xy\n"), 0.0).firings[0].rule == "y"


def test_a_record_seen_twice_counts_once() -> None:
    """What is logged and printed is one match for a threshold as well."""
    counting = engine(Rule("boom", ("a",), count=2, within=10.0))
    counting.evaluate(line(b"boom\n", source="logging", echoes=(b"ERROR boom",)), 0.0)
    assert reasons(counting.evaluate(line(b"ERROR boom\n", source="stderr"), 0.0)) == [Reason.ECHO]
    assert counting.evaluate(line(b"boom\n"), 0.0).firings


@given(st.lists(st.floats(0, 5), max_size=40), st.integers(2, 5), st.integers(1, 10))
def test_a_threshold_needs_that_many_in_that_time(gaps: list[float], count: int, within: int) -> None:
    """Each firing has its own N matches, all within the time; and wherever N of them are, it fires."""
    counting = engine(Rule("x", ("a",), count=count, within=float(within)))
    waiting: list[float] = []
    now = 0.0
    for gap in gaps:
        now += gap
        waiting.append(now)
        in_time = [time for time in waiting if time >= now - within]
        fires = len(in_time) >= count
        assert bool(counting.evaluate(line(b"x\n"), now).firings) is fires
        if fires:
            waiting.clear()


# Digests


def test_a_digest_tells_how_many_since_when_and_why() -> None:
    """The message for people is short and exact, and a message of its own."""
    limited = engine(a=Limits(rate="1/1h"))
    limited.evaluate(line(b"x 0\n", 100.0), 0.0)
    for n in range(1, 1001):
        limited.evaluate(line(b"x %d\n" % n, 100.0 + n / 100), n / 100)
    (digest,) = limited.tick(3600.0, 3700.0)
    assert digest.text == (
        "1,000 more since 1970-01-01 00:01:40 UTC, within 10 s, held back by rate\nfirst: x 1\nlast: x 1000"
    )
    assert (digest.held_back, digest.is_digest, digest.time, digest.rule) == (1000, True, 3700.0, "")
    assert digest.record.source == "digest"
    assert digest.id.endswith(".a.digest")
    assert limited.due() is None


def test_a_digest_of_several_reasons_names_each() -> None:
    """What was held back for different reasons is told together, with the number of each."""
    limited = engine(alarm_freq=3.0, a=Limits(rate="1/2s", digest=True))
    for now in (0.0, 1.0, 2.5):
        limited.evaluate(line(b"x\n"), now)
    (digest,) = limited.tick(6.0, 6.0)
    assert (
        digest.text.splitlines()[0] == "2 more since 1970-01-01 00:00:00 UTC, held back by rate (1), same_message (1)"
    )


def test_one_line_is_shown_once() -> None:
    """A digest does not say the same thing twice."""
    limited = engine(alarm_freq=3.0, a=Limits(digest=True))
    limited.evaluate(line(b"x\n"), 0.0)
    limited.evaluate(line(b"x\n"), 1.0)
    (digest,) = limited.tick(4.0, 4.0)
    assert digest.text.splitlines()[1:] == ["x"]
    limited.evaluate(line(b"x\n"), 10.0)
    limited.evaluate(line(b"x\n"), 11.0)
    limited.evaluate(line(b"x\n"), 11.0)
    (digest,) = limited.tick(14.0, 14.0)
    assert digest.text.splitlines()[1:] == ["first and last: x"]


def test_what_a_digest_told_is_not_told_again() -> None:
    """The next message tells only what came after the digest; one that fires first leaves no digest to send."""
    limited = engine(a=Limits(rate="1/10s"))
    limited.evaluate(line(b"x 1\n"), 0.0)
    limited.evaluate(line(b"x 2\n"), 1.0)
    assert limited.tick(10.0, 10.0)[0].held_back == 1
    limited.evaluate(line(b"x 3\n"), 11.0)
    assert limited.evaluate(line(b"x 4\n"), 20.0).firings[0].held_back == 1
    assert limited.due() is None


def test_as_in_uwsgi_there_is_no_digest_of_the_same_message() -> None:
    """An ini file means what it means in uWSGI: what `alarm-freq` held back is told by the next alarm."""
    limited = engine(alarm_freq=3.0)
    limited.evaluate(line(b"x\n"), 0.0)
    limited.evaluate(line(b"x\n"), 1.0)
    assert limited.due() is None


def test_programs_get_no_digests() -> None:
    """An alarm that speaks to no person does not act on what is no event, unless it is told to."""
    for digest, due in ((None, None), (True, 10.0)):
        limited = engine(a=Limits(rate="1/10s", for_humans=False, digest=digest))
        limited.evaluate(line(b"x 1\n"), 0.0)
        limited.evaluate(line(b"x 2\n"), 1.0)
        assert limited.due() == due


def test_digests_can_be_had_for_nothing() -> None:
    """`digest = false` sends nothing but what happens; the next message tells of the rest."""
    limited = engine(a=Limits(rate="1/10s", digest=False))
    limited.evaluate(line(b"x 1\n"), 0.0)
    limited.evaluate(line(b"x 2\n"), 1.0)
    assert limited.due() is None
    assert limited.evaluate(line(b"x 3\n"), 10.0).firings[0].held_back == 1


def test_each_digest_has_its_time() -> None:
    """What another alarm has to tell brings no digest forward."""
    limited = engine(Rule("x", ("a", "b")), a=Limits(rate="1/10s"), b=Limits(rate="1/20s"))
    limited.evaluate(line(b"x 1\n"), 0.0)
    limited.evaluate(line(b"x 2\n"), 1.0)
    assert [digest.alarm for digest in limited.tick(10.0, 10.0)] == ["a"]
    assert limited.due() == 20.0


def test_at_the_end_everything_is_told() -> None:
    """Where nothing outlives the process, what was held back is told before its time is over."""
    limited = engine(a=Limits(rate="1/1h"))
    limited.evaluate(line(b"x 1\n"), 0.0)
    limited.evaluate(line(b"x 2\n"), 1.0)
    assert [digest.held_back for digest in limited.tick(2.0, 2.0, at_end=True)] == [1]
    assert limited.tick(2.0, 2.0, at_end=True) == []


def test_a_digest_waits_for_a_silence() -> None:
    """What is due while the alarm is silenced is told behind the silence."""
    limited = engine(a=Limits(rate="1/10s"))
    limited.evaluate(line(b"x 1\n"), 0.0)
    limited.evaluate(line(b"x 2\n"), 1.0)
    limited.put_silence(Silence("", ('alarm="a"',), 5.0, 65.0), 5.0)
    assert limited.tick(10.0, 10.0) == []
    assert limited.due() == 65.0


def test_an_alarm_that_cannot_be_had_has_no_digest() -> None:
    """Of an optional alarm that was left out nobody is told, nor of one that is not configured any more."""
    without = engine(Rule("x", ("c",)), left_out=["c"])
    assert reasons(without.evaluate(line(b"x\n"), 0.0)) == [Reason.UNAVAILABLE]
    assert without.due() is None
    limited = engine(a=Limits(rate="1/10s"))
    limited.evaluate(line(b"x 1\n"), 0.0)
    limited.evaluate(line(b"x 2\n"), 1.0)
    rules = [compile_rule(Rule("x", ("b",)))]
    other = Engine(rules, Prefilter(rules), ["b"], alarm_freq=0, alarm_msg_size=99, memory=limited.memory)
    assert other.tick(10.0, 10.0) == []
    assert other.due() is None


# Floods


def test_a_flood_is_decided_without_looking_at_its_lines() -> None:
    """Once an alarm's rate is used up, a gate says so for all its lines, until that ends."""
    limited = engine(a=Limits(rate="1/10s"))
    assert limited.gate((0,), "stdout", 0.0) is None
    limited.evaluate(line(b"x 1\n"), 0.0)
    found = limited.gate((0,), "stdout", 1.0)
    assert found is not None
    gate, verdict = found
    assert (gate.message, reasons(verdict), verdict.matched) == (None, [Reason.RATE], ("a",))
    limited.hold(gate, line(b"x 2\n"), b"x 9\n", 8, 1.0)
    assert limited.gate((0,), "stdout", 10.0) is None
    assert limited.tick(10.0, 10.0)[0].text.splitlines()[1:] == ["first: x 2", "last: x 9"]


def test_a_gate_for_one_message() -> None:
    """The same line again and again is decided by comparing it; its printed echoes are known all the same."""
    limited = engine(alarm_freq=3.0)
    limited.evaluate(line(b"x\n"), 0.0)
    found = limited.gate((0,), "stdout", 1.0)
    assert found is not None
    assert found[0].message == b"x\n"
    limited.hold(found[0], line(b"x\n"), b"x\n", 5, 1.0)
    verdict = limited.evaluate(line(b"boom x\n", source="logging", echoes=(b"x",)), 1.0)
    assert reasons(verdict) == [Reason.ECHO]


def test_no_gate_where_two_alarms_hold_different_messages() -> None:
    """A gate compares with one message only."""
    limited = engine(Rule("x", ("a", "b")), Rule("y", ("a",)), alarm_freq=3.0)
    limited.evaluate(line(b"x\n"), 0.0)
    limited.evaluate(line(b"y\n"), 0.0)
    assert limited.gate((0,), "stdout", 1.0) is None


def test_no_gate_while_echoes_are_expected() -> None:
    """Lines that the logging handler has announced are looked at one by one."""
    limited = engine(a=Limits(rate="1/1h"))
    limited.evaluate(line(b"x\n", source="logging", echoes=(b"x y",)), 0.0)
    assert limited.gate((0,), "stdout", 1.0) is None
    assert limited.gate((0,), "stdout", 100.0) is not None


def test_a_rule_that_is_not_certain_is_settled_by_its_regexp() -> None:
    """What the screen leaves open is decided by the rules, but for those that are cut off."""
    rules = (Rule("x(?!z)", ("a",)), Rule("x", ("a",)), Rule(r"^(?=(a|aa)+$)a", ("a",)))
    some = engine(*rules)
    assert some.confirmed_rules((0, 1), (1,), b"xz\n") == (1,)
    assert some.confirmed_rules((0, 1), (1,), b"x\n") == (0, 1)
    endless = b"a" * 100 + b"!\n"
    assert some.confirmed_rules((2,), (), endless) is None
    for _ in range(10):
        some.evaluate(line(endless), 0.0)
    assert some.confirmed_rules((2,), (), endless) == ()


def test_no_gate_for_rules_that_count() -> None:
    """A threshold looks at each match."""
    assert engine(Rule("x", ("a",), count=2, within=9.0)).gate((0,), "stdout", 0.0) is None


def test_a_gate_for_lines_that_fire_nothing() -> None:
    """What is excluded is a flood like any other."""
    quiet = engine(Rule("x", (), excludes=True), Rule("y", ("a",), level=40))
    for rules in ((0,), (0, 1)):
        found = quiet.gate(rules, "stdout", 0.0)
        assert found is not None
        assert (found[1].matched, found[1].skipped) == ((), Reason.EXCLUDED)


def test_the_combinations_of_rules_remembered_are_bounded() -> None:
    """However many rules match in however many combinations, what is known of them takes limited space."""
    many = engine(*(Rule("x", ("a",)) for _ in range(12)), a=Limits(rate="1/1h"))
    for n in range(1, 1 << 11):
        many.gate(tuple(rule for rule in range(12) if n >> rule & 1), "stdout", 0.0)
    assert len(many.plans) <= 1000


@given(
    st.lists(st.sampled_from([b"x A\n", b"x B\n", b"x 1\n", b"x 2\n", b"y A\n", b"xz\n", b"xy\n"]), max_size=30),
    st.integers(0, 3),
    st.sampled_from([None, 0, 2, 60]),
)
def test_a_gate_says_what_the_engine_says(texts: list[bytes], freq: int, repeat_after: int | None) -> None:
    """A flood's quick way and the way of single records come to the same outcome, line by line."""
    rules = (Rule("z", (), excludes=True), Rule("x", ("a",)), Rule("y", ("a", "b")))
    a, b = Limits(rate="4/5s", repeat_after=repeat_after), Limits(rate="1/3s", digest=False, repeat_after=repeat_after)
    quick = engine(*rules, alarm_freq=float(freq), a=a, b=b)
    slow = engine(*rules, alarm_freq=float(freq), a=a, b=b)
    counts: tuple[Counter[object], Counter[object]] = (Counter(), Counter())
    for n, text in enumerate(texts):
        now, record = n / 2, line(text)
        which = tuple(rule for rule, letter in enumerate(b"zxy") if letter in text)
        found = quick.gate(which, "stdout", now)
        if found is not None and found[0].message in (None, text):
            quick.hold(found[0], record, text, 1, now)
            verdict = found[1]
        else:
            verdict = quick.evaluate(record, now, which, which)
        assert verdict == slow.evaluate(record, now, which, which)
        counts[0].update(verdict.held)
    assert quick.memory.held_back.alarms == slow.memory.held_back.alarms
    assert quick.memory.held_back.repeats == slow.memory.held_back.repeats
