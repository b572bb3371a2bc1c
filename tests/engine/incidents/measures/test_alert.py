"""The state of one alert of another program: firing, over, not repeated."""

from __future__ import annotations

import msgspec
import pytest

from alarm_mw.engine.incidents.measures.alert import AlertState
from alarm_mw.engine.incidents.measures.judgement import Judgement, Sample
from alarm_mw.engine.incidents.measures.measures import MeasuredRule, Measures
from alarm_mw.model.measures import ExternalAlerts, Heartbeat


def posting(ends_in: float, text: str = "disk full") -> Sample:
    return Sample(ends_in > 0, {"text": text, "ends_in": str(ends_in)})


def test_it_fires_until_it_is_said_to_be_over() -> None:
    """Each posting moves its end, and says what happened."""
    state = AlertState()
    assert state.judge(0.0, is_open=False) == Judgement(ends=True)
    assert state.add(posting(300.0), 10.0)
    assert state.judge(10.0, is_open=False) == Judgement(begins=True, text="disk full")
    assert state.due(10.0, is_open=False) is None
    assert state.due(10.0, is_open=True) == 310.0
    state.add(posting(0.0, "disk has room"), 20.0)
    assert state.judge(20.0, is_open=True) == Judgement(ends=True, text="disk has room")
    assert state.due(20.0, is_open=True) is None


def test_one_that_is_not_repeated_ends_in_time() -> None:
    """Downtime, in which it could not be posted, does not count; nor does another configuration."""
    state = AlertState()
    state.add(posting(300.0), 0.0)
    assert state.postpone(50.0, 0.0)
    state.configure(ExternalAlerts(("x",)))
    assert state.judge(349.0, is_open=True).begins
    assert state.judge(350.0, is_open=True).ends
    assert not state.postpone(1.0, 400.0)


def test_it_goes_on_over_a_restart() -> None:
    """What it has written down is all that it knows; anything else is refused."""
    state = AlertState()
    state.add(posting(300.0), 0.0)
    again = AlertState.load(msgspec.to_builtins(state.dump()))
    assert again.judge(299.0, is_open=True) == state.judge(299.0, is_open=True)
    with pytest.raises(msgspec.ValidationError):
        AlertState.load("x")


def test_an_alert_goes_to_the_rule_of_its_name() -> None:
    """Else to all whose names it fits; rules that measure something else take none."""
    measures = Measures(
        {
            "beats": MeasuredRule(Heartbeat(60.0, 10.0)),
            "all": MeasuredRule(ExternalAlerts(("*",))),
            "nodes": MeasuredRule(ExternalAlerts(("Node*",))),
            "NodeDown": MeasuredRule(ExternalAlerts()),
        }
    )
    assert measures.alert_rules("NodeDown") == ["NodeDown"]
    assert measures.alert_rules("NodeFull") == ["all", "nodes"]
    assert measures.alert_rules("beats") == ["all"]
    assert measures.heartbeat_rules("NodeDown") == ["beats"]


def test_states_are_written_and_read() -> None:
    """The same rule goes on with its alerts."""
    rules = {"all": MeasuredRule(ExternalAlerts(("*",)))}
    key = (("alertname", "NodeFull"), ("instance", "a"))
    measures = Measures(rules)
    measures.start((), 0.0, 0.0, lambda *_: True)
    measures.add("all", key, posting(300.0), 0.0, lambda *_: True)
    rows = measures.take_changes(0.0, is_urgent=True)
    again = Measures(rules)
    again.start(rows, 10.0, 5.0, lambda *_: True)
    assert again.due() == 305.0
