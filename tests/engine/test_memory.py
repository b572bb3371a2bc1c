"""What an engine remembers goes on in the next engine, and in the next process."""

from __future__ import annotations

from typing import Any

import pytest

from alarm_mw.engine.engine import MAX_COST, Engine
from alarm_mw.engine.flood_control.limiters import ALL
from alarm_mw.engine.flood_control.limits import Limits, Rate
from alarm_mw.engine.memory import Memory
from alarm_mw.engine.rules import compile_rule
from alarm_mw.model.types import Reason, Record, Rule, Verdict
from alarm_mw.patterns.prefilter import Prefilter

LIMITS = {"a": Limits(rate="1/1h")}


def engine(rule: Rule, memory: Memory | None = None, limits: dict[str, Limits] | None = None) -> Engine:
    rules = [compile_rule(rule)]
    return Engine(rules, Prefilter(rules), ["a"], alarm_freq=3.0, alarm_msg_size=8192, limits=limits, memory=memory)


def reborn(memory: Memory, now: float, time: float, *, lost: float = 0.0, new_now: float = 0.0) -> Memory:
    """Return the memory as the next process has it, `lost` seconds later, where the clock says `new_now`."""
    return Memory.loads(memory.dumps(now, time), new_now, time + lost)


def line(text: bytes, key: str = "k", **facts: Any) -> Record:
    return Record(text, **{"source": "stdout", "time": 1000.0, "key": key, **facts})


def why(verdict: Verdict) -> Reason:
    (held,) = verdict.held
    return held.reason


def test_the_next_engine_goes_on() -> None:
    """An engine that takes the place of another, with other rules, holds back what that one would have."""
    before = engine(Rule("x", ("a",)), limits=LIMITS)
    assert before.evaluate(line(b"x 1\n"), 0.0).firings
    after = engine(Rule("x [0-9]", ("a",)), before.memory, LIMITS)
    assert why(after.evaluate(line(b"x 2\n"), 1.0)) is Reason.RATE


def test_the_next_process_goes_on_where_the_last_one_was() -> None:
    """After a restart the time of a limit runs on, whatever the new process's clock says."""
    before = engine(Rule("x", ("a",)), limits=LIMITS)
    before.evaluate(line(b"x 1\n"), 50_000.0)
    before.evaluate(line(b"x 2\n"), 50_001.0)
    after = engine(Rule("x", ("a",)), reborn(before.memory, 50_001.0, 1000.0, lost=10.0, new_now=5.0), LIMITS)
    assert why(after.evaluate(line(b"x 3\n"), 5.0)) is Reason.RATE
    due = after.due()
    assert due is not None
    assert due - 5.0 == pytest.approx(3600.0 - 1.0 - 10.0)
    (digest,) = after.tick(due, 4600.0)
    assert (digest.held_back, digest.held_since) == (2, 1000.0)


@pytest.mark.parametrize(("n", "fired"), [(0, 2), (1, 2), (2, 1), (3, 0), (10, 0), (10_000_000, 0)])
def test_what_is_delivered_after_a_restart_counts(n: int, fired: int) -> None:
    """Firings that were not delivered before a restart are sent after it, and the rate holds for all together."""
    limits = {"a": Limits(rate="3/1m")}
    before = engine(Rule("x", ("a",)), limits=limits)
    before.evaluate(line(b"x 1\n"), 0.0)
    after = engine(Rule("x", ("a",)), reborn(before.memory, 0.0, 1000.0, lost=30.0, new_now=5.0), limits)
    after.count_undelivered({"a": n, "gone": 3}, 5.0)
    found = [verdict for number in range(5) for verdict in [after.evaluate(line(b"x %d\n" % number), 6.0 + number)]]
    assert sum(len(verdict.firings) for verdict in found) == fired
    assert after.evaluate(line(b"x later\n"), 5.0 + 61.0 + 5.0).firings


def test_what_is_delivered_after_a_restart_counts_for_all_alarms_together() -> None:
    """`alarm_rate` knows of it as well."""
    rules = [compile_rule(Rule("x", ("a",)))]
    made = Engine(rules, Prefilter(rules), ["a", "b"], alarm_freq=0.0, alarm_msg_size=8192, alarm_rate=Rate(3, 60.0))
    made.count_undelivered({"a": 1, "b": 2}, 0.0)
    assert why(made.evaluate(line(b"x\n"), 1.0)) is Reason.ALARM_RATE
    assert made.evaluate(line(b"x\n"), 61.0).firings


def test_a_wall_clock_that_was_put_back_prolongs_nothing_beyond_the_limit() -> None:
    """A clock that jumps while no process runs makes no hold longer than it is anyway."""
    before = engine(Rule("x", ("a",)), limits=LIMITS)
    before.evaluate(line(b"x\n"), 100.0)
    after = engine(Rule("x", ("a",)), reborn(before.memory, 100.0, 1000.0, lost=-500.0), LIMITS)
    assert after.evaluate(line(b"x\n"), 3600.0).firings


def test_an_echo_is_known_after_a_restart() -> None:
    """A record that fired in one process, and is printed while the next one reads, fires once."""
    before = engine(Rule("boom", ("a",)))
    before.evaluate(line(b"boom\n", source="logging", echoes=(b"ERROR boom",)), 10.0)
    before.evaluate(line(b"boom structlog\n", source="structlog", loose_echo=(b"boom structlog",)), 10.0)
    after = engine(Rule("boom", ("a",)), reborn(before.memory, 10.0, 1000.0, lost=1.0))
    assert why(after.evaluate(line(b"ERROR boom\n"), 0.0)) is Reason.ECHO
    assert why(after.evaluate(line(b"now: boom structlog\n"), 0.0)) is Reason.ECHO


def test_a_loop_is_known_after_a_restart() -> None:
    """A process that dies in a loop does not begin that loop anew."""
    looping = engine(Rule("x", ("a",)))
    message, count = b"x\n", 0
    while looping.evaluate(line(message), 0.0).firings:
        message, count = b"ALARM: " + message, count + 1
        looping = engine(Rule("x", ("a",)), reborn(looping.memory, 0.0, 1000.0))
    assert count == 10


def test_a_rule_that_was_switched_off_stays_so() -> None:
    """A regexp that was cut off too often is not tried again by the next process."""
    before = engine(Rule("x", ("a",)))
    before.memory.costs["x a"] = (MAX_COST, 0.0)
    assert engine(Rule("x", ("a",)), reborn(before.memory, 0.0, 0.0)).is_switched_off(0)
    assert not engine(Rule("y", ("a",)), reborn(before.memory, 0.0, 0.0)).is_switched_off(0)


def test_what_is_configured_no_more_is_forgotten() -> None:
    """However often rules and alarms change, the memory holds what those in force need, and that alone."""
    memory = Memory()
    limits = Limits(rate="1/1h", repeat_after="1h")
    for n in range(50):
        name = f"a{n}"
        rule = Rule(f"x{n}", (name,), count=1, within=60.0)
        once = Rule(f"x{n}", (name,), count=3, within=60.0)
        rules = [compile_rule(rule), compile_rule(once)]
        each = Engine(
            rules,
            Prefilter(rules),
            [name],
            alarm_freq=3.0,
            alarm_msg_size=8192,
            alarm_rate=Rate(100, 60.0),
            limits={name: limits},
            memory=memory,
        )
        each.forget_others()
        for now in (0.0, 2.0, 3.0):
            each.evaluate(line(b"x%d\n" % n), now)
        memory.costs[f"x{n} {name}"] = (0.1, 0.0)
    each.memory.held_back.take("a49")
    assert memory.rates.times.keys() == {ALL, "a49"}
    by_alarm = (memory.same_message.last, memory.repeats.dump(), memory.loops.dump())
    assert {name for names in by_alarm for name in names} == {"a49"}
    assert memory.held_back.alarms == {}
    assert memory.costs == {"x49 a49": (0.1, 0.0)}
    assert set(memory.thresholds.times) <= {"x49 a49"}


@pytest.mark.parametrize("saved", [b"", b"nonsense", b"\x91\x63"])
def test_what_is_no_memory_is_refused(saved: bytes) -> None:
    """Bytes of another version, or of a broken disk, are told from a memory."""
    with pytest.raises(ValueError, match="memory of alarms"):
        Memory.loads(saved, 0.0, 0.0)


def test_equal_events_are_counted_on_after_a_restart() -> None:
    """What is held back as a repeat, and how often, is known to the next process."""
    limits = {"a": Limits(repeat_after="10m")}
    before = engine(Rule("x", ("a",)), limits=limits)
    assert before.evaluate(line(b"x 1\n"), 100.0).firings
    assert why(before.evaluate(line(b"x 2\n", "k2"), 101.0)) is Reason.REPEAT
    after = engine(Rule("x", ("a",)), reborn(before.memory, 101.0, 1000.0, lost=10.0), limits)
    assert why(after.evaluate(line(b"x 3\n", "k3"), 1.0)) is Reason.REPEAT
    (digest,) = after.tick(600.0, 1600.0)
    assert digest.text.splitlines()[0] == "3 times: x 2"
    assert (digest.rule, digest.held_back) == ("x", 2)
    after.memory.keep_only((), ())
    assert after.due() is None
