"""Which values were seen: their number, and those that are new."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.engine.incidents.measures.judgement import Judgement, Sample
from alarm_mw.engine.incidents.measures.values import CardinalityState, NewState
from alarm_mw.model.measures import Cardinality, New
from alarm_mw.model.types import Reason

THREE = Cardinality(field="user", above=3, below=2, within=60.0)
MONTH = New(unseen_for=30.0, learn_for=0.0)


def user(name: object) -> Sample:
    return Sample(fields={"user": str(name)})


@given(st.lists(st.tuples(st.integers(0, 8), st.floats(0.0, 30.0)), max_size=60))
def test_the_number_of_values_is_exact(seen: Sequence[tuple[int, float]]) -> None:
    """It is above the bound exactly where so many different values came within the time, with four remembered."""
    state, now, last = CardinalityState(THREE), 0.0, dict[int, float]()
    for value, gap in seen:
        now += gap
        last[value] = now
        state.add(user(value), now)
        n = sum(time > now - 60.0 for time in last.values())
        judgement = state.judge(now, is_open=False)
        assert judgement.begins == (n > 3)
        assert judgement.ends == (n <= 2)
        assert len(state.dump()) <= 4  # type: ignore[arg-type]  # of values


def test_what_is_said_of_values() -> None:
    """The number, and the bound where it is above; a record without the field does not count."""
    state = CardinalityState(THREE)
    assert not state.add(Sample(), 0.0)
    for name in "abc":
        assert state.add(user(name), 0.0)
    assert state.judge(0.0, is_open=False) == Judgement()
    state.add(user("d"), 0.0)
    assert state.judge(0.0, is_open=False) == Judgement(begins=True, text="more than 3 values of user within 1 min")


def test_values_leave_with_the_time() -> None:
    """An open incident is looked at again when the oldest leaves, or shortly after."""
    state = CardinalityState(THREE)
    state.postpone(1.0, 1.0)
    assert state.due(0.0, is_open=True) is None
    state.add(user("a"), 0.0)
    assert state.due(0.0, is_open=False) is None
    assert state.due(10.0, is_open=True) == 60.0
    assert state.due(59.9, is_open=True) == 60.9
    assert state.judge(60.0, is_open=True) == Judgement(ends=True, text="0 values of user within 1 min")


def test_values_go_on_in_another_process() -> None:
    """The hashes are the same in each process."""
    state = CardinalityState(THREE)
    for number, name in enumerate("abc"):
        state.add(user(name), float(number))
    again = CardinalityState.load(THREE, [list(each) for each in state.dump()])  # type: ignore[attr-defined]
    again.add(user("a"), 5.0)
    assert not again.judge(5.0, is_open=False).begins
    again.add(user("d"), 5.0)
    assert again.judge(5.0, is_open=False).begins
    again.configure(Cardinality("user", 10, 5, 60.0))
    assert again.judge(5.0, is_open=True).ends


def seen(state: NewState, now: float) -> tuple[bool, bool]:
    """Return whether a value is new, and whether that has to be written down."""
    is_written = state.add(Sample(), now)
    judgement = state.judge(now, is_open=False)
    assert judgement.otherwise is Reason.KNOWN
    assert not judgement.ends
    return judgement.begins, is_written


def test_a_value_is_new_when_it_was_not_seen_for_a_time() -> None:
    """The first time, and each time after so long; it is written down now and then."""
    state = NewState(MONTH, 0.0)
    state.postpone(100.0, 0.0)
    assert state.due(0.0, is_open=True) is None
    assert [seen(state, now) for now in (0.0, 0.1, 0.35, 30.0, 60.0, 90.1)] == [
        (True, True),
        (False, False),
        (False, True),
        (False, True),
        (False, True),
        (True, True),
    ]


def test_values_are_learned_first() -> None:
    """During that time none is new; afterwards, those that were seen are known."""
    state = NewState(MONTH, 10.0)
    assert seen(state, 5.0) == (False, True)
    assert seen(state, 15.0) == (False, True)
    assert seen(NewState(MONTH, 10.0), 15.0) == (True, True)


def test_a_value_is_known_in_another_process() -> None:
    """When it was last seen is written down; another configuration may ask for another time."""
    state = NewState(MONTH, 0.0)
    seen(state, 5.0)
    again = NewState.load(MONTH, state.dump())
    assert seen(again, 35.0) == (False, True)
    again.configure(New(unseen_for=1.0, learn_for=0.0))
    assert seen(again, 37.0) == (True, True)


@pytest.mark.parametrize("name", ["", "a", "ä\ud800", "x" * 10_000])
def test_any_text_is_a_value(name: str) -> None:
    """Also one that cannot be encoded."""
    assert CardinalityState(THREE).add(user(name), 0.0)
