"""How matches, resolve lines and deadlines move incidents through their states."""

from __future__ import annotations

from alarm_mw.engine.incidents.incident import EndedBy, Marks, Step
from alarm_mw.engine.incidents.tracker import IncidentRule, Tracker

NOW = 1000.0


def tracker() -> Tracker:
    """Return a tracker with an incident that began to fire now, and goes on for a minute after a resolve line."""
    tracker = Tracker([IncidentRule("db", (Step("a"),), keep_firing_for=60.0)], (), lambda _, __: Marks())
    tracker.start(NOW)
    assert tracker.match("db", (), NOW).has_begun
    return tracker


def test_an_incident_goes_on_for_a_while_after_its_first_resolve_line() -> None:
    """It ends that long after the first one, and further ones do not put the end off."""
    kept = tracker()
    for now in (NOW, NOW + 30.0):
        change = kept.resolve("db", (), now)
        assert change is not None
        assert not change.has_ended
    assert kept.due() == NOW + 60.0
    assert [(change.has_ended, change.incident.ended_by) for change in kept.tick(NOW + 60.0)] == [(True, EndedBy.LINE)]


def test_a_match_after_a_resolve_line_keeps_an_incident_open() -> None:
    """What comes back within that time is the same episode, and has no end until another resolve line."""
    kept = tracker()
    kept.resolve("db", (), NOW)
    assert not kept.match("db", (), NOW + 30.0).has_begun
    assert kept.due() is None
