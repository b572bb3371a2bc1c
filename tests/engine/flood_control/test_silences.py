"""Silences: which messages they hold back, from when to when, and how they are changed."""

from __future__ import annotations

import itertools
import re
import time
import uuid

import msgspec
import pytest

from alarm_mw.engine.engine import Engine
from alarm_mw.engine.flood_control import silences as silences_module
from alarm_mw.engine.flood_control.silences import (
    KEEP,
    Silence,
    Silences,
    SilenceState,
    UnknownSilenceError,
    alarm_of,
    matcher_of_alarm,
)
from alarm_mw.engine.memory import Memory
from alarm_mw.engine.rules import compile_rule
from alarm_mw.model.types import Reason, Record, Rule
from alarm_mw.patterns.prefilter import Prefilter

HOUR = 3600.0
DAY = 24 * HOUR

_keys = (str(n) for n in itertools.count())

RULES = (
    Rule("lost", ("a", "b"), name="db", labels=(("severity", "critical"),)),
    Rule("slow", ("a",), name="web", labels=(("severity", "warning"),)),
)


def engine(memory: Memory | None = None) -> Engine:
    compiled = [compile_rule(rule) for rule in RULES]
    return Engine(compiled, Prefilter(compiled), ["a", "b"], alarm_freq=0.0, alarm_msg_size=8192, memory=memory)


def wanted(*matchers: str, ends: float = HOUR, starts: float = 0.0, name: str = "", comment: str = "") -> Silence:
    return Silence(name, matchers, starts, ends, "kim", comment)


def fired(silent: Engine, text: str, now: float) -> tuple[list[str], list[str]]:
    """Return the alarms that a line fires, and those that are silenced."""
    verdict = silent.evaluate(Record(text.encode() + b"\n", "stdout", now, next(_keys)), now)
    assert {held.reason for held in verdict.held} <= {Reason.SILENCED}
    return [firing.alarm for firing in verdict.firings], [held.alarm for held in verdict.held]


def test_a_silenced_alarm_tells_afterwards() -> None:
    """While it is silenced nothing goes out; at the end one message says what there was."""
    silent = engine()
    silent.put_silence(wanted('alarm="b"', ends=600.0), 0.0)
    assert fired(silent, "lost 1", 1.0) == (["a"], ["b"])
    assert fired(silent, "lost 2", 500.0) == (["a"], ["b"])
    assert silent.due() == 600.0
    (digest,) = silent.tick(600.0, 1600.0)
    assert digest.text.startswith("2 more since 1970-01-01 00:00:01 UTC, within 8 min 19 s, held back by a silence\n")
    assert fired(silent, "lost 3", 601.0) == (["a", "b"], [])


def test_a_silence_can_be_ended() -> None:
    """When it is ended, the digest of what it has held back is due at once."""
    silent = engine()
    silence = silent.put_silence(wanted('alarm="a"', ends=600.0), 0.0)
    fired(silent, "slow", 10.0)
    assert silent.expire_silence(silence.id, 20.0).state(20.0) is SilenceState.EXPIRED
    assert silent.due() == 20.0
    assert silent.tick(20.0, 20.0)[0].held_back == 1
    for name in (silence.id, "none"):
        with pytest.raises(UnknownSilenceError):
            silent.expire_silence(name, 20.0)


@pytest.mark.parametrize(
    ("matchers", "held"),
    [
        (('rule="db"',), ["db a", "db b"]),
        (('alertname="web"',), ["web a"]),
        (('severity=~"crit.*"', "alarm=b"), ["db b"]),
        (('{severity="warning",rule!="db"}',), ["web a"]),
        (('severity!="critical"', 'alarm="a"'), ["web a", "direct a"]),
        (('host="x"',), []),
    ],
)
def test_matchers_select_what_is_held_back(matchers: tuple[str, ...], held: list[str]) -> None:
    """All matchers of a silence must match the labels of the rule, its name and the alarm's; others fire."""
    silent = engine()
    silent.put_silence(wanted(*matchers), 0.0)
    texts = {"db": "lost", "web": "slow"}
    found = [f"{name} {alarm}" for name, text in texts.items() for alarm in fired(silent, text, 1)[1]]
    direct = silent.fire("a", Record(b"direct\n", "api", 1.0, next(_keys)), 1.0)
    assert [*found, *(f"direct {each.alarm}" for each in direct.held)] == held


def test_lines_of_a_flood_are_looked_at_one_by_one_where_labels_decide() -> None:
    """No verdict is made for all lines of an alarm while a silence concerns some of them."""
    silent = engine()
    silent.put_silence(wanted('alarm="a"'), 0.0)
    assert silent.gate((1,), "stdout", 1.0) is not None
    silent.put_silence(wanted('rule="db"', starts=10.0), 0.0)
    assert silent.gate((1,), "stdout", 9.0) is not None
    assert silent.gate((1,), "stdout", 10.0) is None


def test_a_digest_does_not_break_a_silence() -> None:
    """Of messages that some silence still holds back, nothing is told, whatever becomes of other silences."""
    silent = engine()
    silent.put_silence(wanted('rule="web"', ends=600.0), 0.0)
    other = silent.put_silence(wanted('alarm="b"'), 0.0)
    fired(silent, "slow", 1.0)
    silent.expire_silence(other.id, 2.0)
    assert silent.tick(2.0, 2.0) == []
    assert silent.due() == 600.0
    assert [digest.held_back for digest in silent.tick(600.0, 600.0)] == [1]


def test_a_silence_has_a_begin() -> None:
    """Before, it is pending and holds nothing back."""
    silent = engine()
    silent.put_silence(wanted('rule="db"', starts=100.0, ends=200.0), 0.0)
    assert [silent.silences()[0].state(now) for now in (0.0, 100.0, 200.0)] == ["pending", "active", "expired"]
    assert [fired(silent, "lost", now)[1] for now in (99.0, 100.0, 200.0)] == [[], ["a", "b"], []]


def test_an_active_silence_goes_on_with_the_same_matchers() -> None:
    """Silencing the same again changes the end and the comment; what is to come is another silence."""
    silences = Silences()
    first = silences.put(wanted("b=2", 'a="1"'), 0.0)
    again = silences.put(wanted('{a="1",b="2"}', ends=10.0, comment="shorter"), 5.0)
    assert (again.id, again.starts, again.ends, again.comment) == (first.id, 0.0, 10.0, "shorter")
    assert again.matchers == ('a="1"', 'b="2"')
    later = silences.put(wanted("a=1", "b=2", starts=100.0), 6.0)
    assert len({first.id, later.id, str(uuid.UUID(later.id))}) == 2


def test_a_silence_is_updated_by_its_id_as_in_alertmanager() -> None:
    """End, comment, and the begin of one to come can change; for other matchers it ends and another one begins."""
    silences = Silences()
    first = silences.put(wanted("a=1", starts=50.0), 0.0)
    moved = silences.put(wanted("a=1", starts=20.0, name=first.id), 1.0)
    assert (moved.id, moved.starts, len([*silences])) == (first.id, 20.0, 1)
    longer = silences.put(wanted("a=1", ends=2 * HOUR, starts=20.0, name=first.id), 30.0)
    assert (longer.id, longer.starts, longer.ends) == (first.id, 20.0, 2 * HOUR)
    other = silences.put(wanted("a=2", name=first.id), 40.0)
    assert other.id != first.id
    assert {each.id: each.state(40.0) for each in silences} == {first.id: "expired", other.id: "active"}
    again = silences.put(wanted("a=1", name=first.id), 50.0)
    assert again.id not in {first.id, other.id}
    with pytest.raises(UnknownSilenceError):
        silences.put(wanted("a=1", name="nonsense"), 50.0)


@pytest.mark.parametrize(
    ("silence", "why"),
    [
        (wanted(), "expected 1 to 50 matchers, got 0"),
        (wanted(*(f"l{n}=1" for n in range(51))), "got 51"),
        (wanted('host=~".*"', 'db=""'), "select every message"),
        (wanted("rule"), "expected one of =, !=, =~ and !~"),
        (wanted('rule=~"("'), "the regexp '(' cannot be used"),
        (wanted("a=1", ends=100.0), "not after its start"),
        (wanted("a=1", starts=300.0, ends=200.0), "not after its start"),
        (wanted("a=1", ends=31 * DAY), "at most 30 days"),
        (wanted("a=1", starts=31 * DAY, ends=32 * DAY), "at most 30 days"),
        (wanted("a=1", comment="x" * 5000), "more than 4096 characters"),
    ],
)
def test_what_cannot_be_a_silence_is_refused(silence: Silence, why: str) -> None:
    """A sentence says what is wrong, and nothing changes."""
    silences = Silences()
    with pytest.raises(ValueError, match=re.escape(why)):
        silences.put(silence, 100.0)
    assert list(silences) == []


def test_silences_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in force are never evicted: beyond the limit, none is made. Of the expired ones the oldest make room."""
    monkeypatch.setattr(silences_module, "MOST_LIVE", 2)
    monkeypatch.setattr(silences_module, "MOST", 3)
    silences = Silences()
    first, latest = (silences.put(wanted(f"a={n}"), 0.0) for n in range(2))
    with pytest.raises(ValueError, match="there are 2 silences already"):
        silences.put(wanted("a=3"), 0.0)
    for n in range(5):
        silences.expire(latest.id, float(n))
        latest = silences.put(wanted(f"b={n}"), float(n))
    assert len([*silences]) == 3
    assert first.id in {silence.id for silence in silences}


def test_expired_silences_are_kept_for_some_days() -> None:
    """They are shown for that long, and forgotten when others are made."""
    silences = Silences()
    first = silences.put(wanted("a=1"), 0.0)
    silences.put(wanted("a=2", ends=HOUR + KEEP), 10.0)
    assert first.id in {silence.id for silence in silences}
    silences.put(wanted("a=3", ends=2 * KEEP), HOUR + KEEP + 1.0)
    assert first.id not in {silence.id for silence in silences}


def test_silences_outlive_the_process() -> None:
    """They end at the same time as they would have, and silences of former releases go on."""
    before = Memory()
    silence = engine(before).put_silence(wanted('rule="db"', ends=600.0), 0.0)
    memory = Memory.loads(before.dumps(100.0, 1000.0), 0.0, 1060.0)
    silent = engine(memory)
    (known,) = silent.silences()
    assert (known.id, known.ends, known.author) == (silence.id, 440.0, "kim")
    assert fired(silent, "lost", 439.0) == ([], ["a", "b"])
    assert fired(silent, "lost", 440.0) == (["a", "b"], [])
    former = msgspec.msgpack.encode([1, 0.0, time.time(), {}, {}, {}, {}, {"a": (600.0, "deployment")}])
    (known,) = engine(Memory.loads(former, 0.0, time.time())).silences()
    assert (alarm_of(known), known.comment) == ("a", "deployment")
    assert 599.0 < known.ends <= 600.0


@pytest.mark.parametrize("name", ["mail", 'a"b\\c', "a=b"])
def test_the_silence_of_an_alarm_is_known_as_such(name: str) -> None:
    """Whatever its name is; other matchers are not taken for it."""
    silences = Silences()
    silence = silences.put(wanted(matcher_of_alarm(name)), 0.0)
    assert alarm_of(silence) == name
    assert silences.holds_alarm_until(name, 1.0) == HOUR
    assert silences.holding({"alarm": name}, 1.0) == [silence]
    others = (silences.put(wanted(*each), 0.0) for each in (('alarm=~"x"',), ('alarm="x"', "rule=y")))
    assert [alarm_of(each) for each in others] == ["", ""]


def test_what_holds_a_message_back_can_be_asked() -> None:
    """The silences that apply to labels are listed while they are active."""
    silent = engine()
    silence = silent.put_silence(wanted('rule="db"', ends=600.0), 0.0)
    assert [each.id for each in silent.silenced_by({"rule": "db"}, 1.0)] == [silence.id]
    assert silent.silenced_by({"rule": "web"}, 1.0) == []
    assert silent.silenced_by({"rule": "db"}, 601.0) == []


# Silences of other machines


def of_other(name: str, ends: float, updated: float) -> Silence:
    return Silence(name, ('alarm="b"',), 0.0, ends, "kim", "", updated)


def test_a_silence_of_another_machine_is_taken_over() -> None:
    """It holds back here as it does there, under the same id, and ends here when it is ended there."""
    silent = engine()
    silent.take_silence(of_other("s1", 600.0, 1.0), 1.0)
    assert fired(silent, "lost 1", 2.0) == (["a"], ["b"])
    silent.take_silence(of_other("s1", 3.0, 3.0), 3.0)
    assert fired(silent, "lost 2", 4.0)[1] == []
    assert [(each.id, each.ends) for each in silent.silences()] == [("s1", 3.0)]


@pytest.mark.parametrize(
    "other",
    [of_other("s1", 300.0, 4.0), of_other("s1", 300.0, 5.0), of_other("s1", 600.05, 6.0), of_other("s2", 5.0, 5.0)],
    ids=["earlier", "at the same time", "the same by another clock", "expired before it was known"],
)
def test_what_says_nothing_new_changes_nothing(other: Silence) -> None:
    """Of two changes the later one counts, however often and in which order they arrive."""
    silences = Silences()
    assert silences.take(of_other("s1", 600.0, 5.0), 5.0)
    assert not silences.take(other, 6.0)
    assert [*silences] == [of_other("s1", 600.0, 5.0)]


def test_a_silence_that_cannot_be_read_is_refused() -> None:
    """What another machine sends is checked as what a person says."""
    with pytest.raises(ValueError, match="the matchers select every message"):
        Silences().take(Silence("s1", ('alarm=~".*"',), 0.0, 600.0), 1.0)
