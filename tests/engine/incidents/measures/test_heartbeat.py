"""The state of one heartbeat: expected, overdue, failed."""

from __future__ import annotations

import pytest

from alarm_mw.engine.incidents.measures.heartbeat import Beat, HeartbeatState
from alarm_mw.engine.incidents.measures.judgement import Judgement, Sample
from alarm_mw.model.measures import Heartbeat

EVERY_MINUTE = Heartbeat(60.0, 10.0)


def beat(name: str = "w", **facts: object) -> Sample:
    return Sample(fields=Beat(name, **facts).fields())  # type: ignore[arg-type]  # what a test gives


@pytest.fixture
def state() -> HeartbeatState:
    return HeartbeatState("w", EVERY_MINUTE, 0.0)


def test_one_that_never_comes_is_overdue(state: HeartbeatState) -> None:
    """It is expected from the start, and says how long nobody has heard of it."""
    assert state.judge(69.0, is_open=False).ends
    assert state.due(69.0, is_open=False) == 70.0
    text = "no heartbeat 'w' yet, after 1 min 10 s; expected every 1 min"
    assert state.judge(70.0, is_open=False) == Judgement(begins=True, text=text)
    assert state.due(70.0, is_open=False) is None


def test_one_that_stops_is_overdue(state: HeartbeatState) -> None:
    """The time counts from the last one; the next one ends the incident."""
    state.add(beat(), 30.0)
    assert state.due(30.0, is_open=False) == 100.0
    assert state.judge(130.0, is_open=False).text == "no heartbeat 'w' for 1 min 40 s; expected every 1 min"
    assert state.due(50.0, is_open=True) is None
    state.add(beat(), 140.0)
    assert state.judge(140.0, is_open=True) == Judgement(ends=True, text="heartbeat 'w'")


def test_a_heartbeat_brings_its_own_times(state: HeartbeatState) -> None:
    """They hold until the next one; what is no time is left out."""
    state.add(beat(every="5m", grace=30), 0.0)
    assert state.due(0.0, is_open=False) == 330.0
    state.add(beat(), 0.0)
    assert state.due(0.0, is_open=False) == 70.0
    state.add(Sample(fields={"every": "nan", "grace": "soon"}), 0.0)
    assert state.due(0.0, is_open=False) == 70.0


@pytest.mark.parametrize(("said", "text"), [("", "heartbeat 'w' failed"), ("exit 1", "heartbeat 'w' failed: exit 1")])
def test_a_heartbeat_says_that_something_failed(state: HeartbeatState, said: str, text: str) -> None:
    """The incident begins at once, and the next good one ends it, however late."""
    state.add(beat(failed=said), 10.0)
    assert state.judge(10.0, is_open=False) == Judgement(begins=True, text=text)
    assert state.due(10.0, is_open=False) is None
    state.add(beat(), 500.0)
    assert state.judge(500.0, is_open=True).ends


def test_downtime_of_ours_is_no_silence(state: HeartbeatState) -> None:
    """What nobody could have heard is not missed: the deadline moves by that time."""
    state.add(beat(), 30.0)
    state.postpone(1000.0, 1030.0)
    assert state.due(1030.0, is_open=False) == 1100.0


def test_it_goes_on_in_another_process(state: HeartbeatState) -> None:
    """All that it knows is written down; the configuration may have changed meanwhile."""
    state.add(beat(every=20.0, failed="disk"), 30.0)
    again = HeartbeatState.load("w", EVERY_MINUTE, [30.0, True, 20.0, 0.0, "disk"])
    assert state.dump() == again.dump()
    assert again.judge(31.0, is_open=False).text == "heartbeat 'w' failed: disk"
    again.add(beat(), 40.0)
    again.configure(Heartbeat(5.0, 1.0))
    assert again.due(40.0, is_open=False) == 46.0


@pytest.mark.parametrize("name", ["", "two words", "x" * 201, "ä"])
def test_a_name_that_is_none(name: str) -> None:
    """Names end up in keys and headers: they are short, and have no blanks."""
    with pytest.raises(ValueError, match="a heartbeat's name has 1 to 200 ASCII characters without blanks"):
        Beat(name).fields()


def test_a_time_that_is_none() -> None:
    """Who sends it is told."""
    with pytest.raises(ValueError, match="expected a time"):
        Beat("w", every="soon").fields()


def test_what_a_heartbeats_record_says() -> None:
    """Only what was given; a failure's text is cut."""
    assert Beat("w").fields() == {"heartbeat": "w"}
    fields = Beat("w", "5m", 30, "x" * 300, last=True).fields()
    assert fields == {"heartbeat": "w", "every": "300.0", "grace": "30", "failed": "x" * 200, "last": "1"}
