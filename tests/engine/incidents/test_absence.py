"""Incidents that begin when a rule does not match: what counts as silence, and what does not."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest

from alarm_mw.engine.incidents.incident import Incident, Marks, Step, incident_id
from alarm_mw.engine.incidents.tracker import Change, IncidentRule, Tracker
from alarm_mw.model.types import Absence

BERLIN = ZoneInfo("Europe/Berlin")
MIDNIGHT = datetime(2026, 11, 30, tzinfo=BERLIN).timestamp()
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0

NIGHTLY = Absence(schedule="0 3 * * *", timezone="Europe/Berlin", grace=HOUR)
OFTEN = Absence(after=600.0)


class Stage:
    """One rule on absence with its clock, whose process can be down, and whose time of day can be set."""

    def __init__(self, absence: Absence, key: tuple[str, ...] = (), max_keys: int = 10, now: float = MIDNIGHT) -> None:
        self.rule = IncidentRule("backup", (Step("mail"),), key=key, absence=absence, max_keys=max_keys)
        self.now = now
        self.step = self.blind = 0.0
        self.told: list[str] = []
        self.restart(0.0)

    def restart(self, gap: float) -> None:
        """Start another process, `gap` seconds after the former one has ended."""
        # What was written down, which is no more than what has changed.
        known = msgspec.msgpack.decode(msgspec.msgpack.encode(list(getattr(self, "tracker", ()))), type=list[Incident])
        self.now += gap
        self.blind += gap
        self.told = []
        self.tracker = Tracker([self.rule], known, lambda *_: Marks(), lambda moment: moment + self.step, self.blind)
        self._note(self.tracker.start(self.now, gap))

    def wait(self, seconds: float) -> list[str]:
        """Let the time pass, and return what is told meanwhile, each with the seconds until then."""
        begin, end = self.now, self.now + seconds
        self.told = []
        while (due := self.tracker.due()) is not None and due <= end:
            self.now = max(self.now, due)
            self._note(self.tracker.tick(self.now), self.now - begin)
        self.now = end
        return self.told

    def see(self, value: str = "") -> list[str]:
        self.told = []
        key = ((self.rule.key[0], value),) if self.rule.key else ()
        self._note([self.tracker.match("backup", key, self.now, "backup done")])
        return self.told

    def _note(self, changes: list[Change], after: float = 0.0) -> None:
        for change in changes:
            key = "".join(f" {value}" for _, value in change.incident.key)
            self.told += [f"{each.status}{key} {after:g}" for each in change.outcome.notifications]


def test_an_incident_begins_without_a_match_and_ends_with_one() -> None:
    """From the start on, and again after each match; the end names the line (healthchecks' ping)."""
    stage = Stage(OFTEN)
    assert stage.wait(599.0) == []
    assert stage.see() == []
    assert stage.wait(HOUR) == ["firing 600"]
    (incident,) = stage.tracker
    assert (incident.count, incident.episode) == (0, 1)
    assert stage.see() == ["resolved 0"]
    assert (incident.ended_by, incident.end) == ("line", "backup done")
    assert stage.see() == []
    assert stage.wait(700.0) == ["firing 600"]
    assert stage.see() == ["resolved 0"]


def test_a_rule_may_wait_for_its_first_match() -> None:
    """With ``armed = "first"`` nothing is expected before; with a key, each value is from its first match on."""
    stage = Stage(Absence(after=600.0, from_start=False))
    assert stage.wait(DAY) == []
    stage.see()
    assert stage.wait(HOUR) == ["firing 600"]
    stage = Stage(OFTEN, key=("job",))
    assert stage.wait(DAY) == []
    stage.see("a")
    stage.wait(300.0)
    stage.see("b")
    assert stage.wait(HOUR) == ["firing a 300", "firing b 600"]
    assert stage.see("b") == ["resolved b 0"]


def test_grace_is_added() -> None:
    """A match may be late by so much."""
    assert Stage(Absence(after=600.0, grace=30.0)).wait(HOUR) == ["firing 630"]


def test_silence_is_what_was_observed() -> None:
    """A restart every four minutes resets nothing, and downtime alone never fires it (healthchecks#664)."""
    stage = Stage(OFTEN)
    for _ in range(2):
        assert stage.wait(240.0) == []
        stage.restart(1000.0)
        assert stage.told == []
    assert stage.wait(HOUR) == ["firing 120"]
    stage.restart(DAY)
    assert stage.told == []
    assert stage.see() == ["resolved 0"]


def test_an_operator_arms_it_again() -> None:
    """Resolved by hand, it begins when the next match does not come either."""
    stage = Stage(OFTEN)
    stage.wait(HOUR)
    (incident,) = stage.tracker
    assert stage.tracker.resolve_by_hand(incident.id, stage.now, "kim") is not None
    assert stage.wait(599.0) == []
    assert stage.wait(2.0) == ["firing 1"]


def test_a_step_of_the_clock_moves_nothing() -> None:
    """Neither an hour forward nor back: what counts is the time that has passed."""
    for step in (HOUR, -HOUR):
        stage = Stage(OFTEN)
        stage.wait(300.0)
        stage.step = step
        assert stage.wait(HOUR) == ["firing 300"]


def test_a_schedule_expects_a_match_at_its_times() -> None:
    """It may be late by `grace`, or a minute early; then the next one is expected, and only one is told as missing."""
    stage = Stage(NIGHTLY)
    assert stage.wait(3 * HOUR - 30.0) == []
    assert stage.see() == []
    assert stage.wait(DAY) == []
    assert stage.wait(DAY) == [f"firing {HOUR + 30.0:g}"]
    assert stage.see() == ["resolved 0"]
    assert stage.wait(2 * DAY) == ["firing 90030"]


def test_downtime_hides_what_was_scheduled() -> None:
    """Where nobody could have seen the match, nothing is missing until the next time; a short restart hides nothing."""
    stage = Stage(NIGHTLY)
    stage.wait(2 * HOUR)
    stage.restart(3 * HOUR)
    assert stage.wait(22 * HOUR) == []
    assert stage.wait(3 * HOUR) == [f"firing {HOUR:g}"]
    stage = Stage(NIGHTLY)
    stage.wait(3 * HOUR + MINUTE)
    stage.restart(5.0)
    assert stage.wait(2 * HOUR) == [f"firing {HOUR - MINUTE - 5.0:g}"]
    stage = Stage(NIGHTLY)
    stage.restart(2 * HOUR)
    assert stage.wait(5 * HOUR) == [f"firing {2 * HOUR:g}"]


def test_another_schedule_takes_effect() -> None:
    """After a reload the match is expected at its next time; a schedule without a further time expects none."""
    stage = Stage(NIGHTLY)
    stage.rule = IncidentRule(
        "backup", (Step("mail"),), absence=Absence(schedule="0 1 * * *", grace=HOUR, timezone="Europe/Berlin")
    )
    stage.restart(0.0)
    assert stage.wait(3 * HOUR) == [f"firing {2 * HOUR:g}"]
    stage = Stage(Absence(schedule="0 0 1 1 *", grace=HOUR, timezone="UTC"))
    (incident,) = stage.tracker
    incident.expected = ("0 0 1 1 *", float("inf"))
    stage.restart(0.0)
    assert stage.wait(400 * DAY) == []


def test_a_schedule_goes_on_over_the_change_of_summer_time() -> None:
    """It goes by the local time, as cron does."""
    stage = Stage(NIGHTLY, now=datetime(2026, 10, 24, 3, 0, 30, tzinfo=BERLIN).timestamp())
    stage.see()
    assert stage.wait(2 * DAY) == [f"firing {26 * HOUR - 30.0:g}"]


def test_a_rule_that_becomes_one_on_absence_expects_a_match() -> None:
    """What it has had before is kept; one that is no more is forgotten to be expected."""
    stage = Stage(OFTEN)
    stage.rule = IncidentRule("backup", (Step("mail"),))
    stage.restart(0.0)
    assert stage.wait(HOUR) == []
    assert stage.see() == ["firing 0"]
    stage.rule = IncidentRule("backup", (Step("mail"),), absence=OFTEN)
    stage.restart(0.0)
    assert stage.see() == ["resolved 0"]
    assert stage.wait(HOUR) == ["firing 600"]


def test_what_is_expected_is_not_forgotten() -> None:
    """However long ago its last match was; beyond `max_keys`, what was quiet for the longest is evicted."""
    stage = Stage(Absence(after=29 * DAY), key=("job",), max_keys=2)
    for job in ("a", "b", "a", "c"):
        stage.see(job)
        stage.now += 1.0
    assert stage.tracker.forget(stage.now) == []
    assert [incident.id for incident in stage.tracker] == [incident_id("backup", (("job", job),)) for job in ("a", "c")]


@pytest.mark.parametrize("n", [10_000])
def test_matches_of_what_is_expected_take_no_room(n: int) -> None:
    """However many there are, one deadline is kept."""
    stage = Stage(OFTEN)
    for _ in range(n):
        stage.now += 0.01
        assert stage.see() == []
    assert stage.wait(HOUR) == ["firing 600"]


def test_a_suspension_is_no_silence() -> None:
    """While the machine sleeps nobody could see a match: nothing is missing."""
    stage = Stage(OFTEN)
    stage.wait(500.0)
    stage.now += DAY
    stage.tracker.skip(stage.now, DAY)
    assert stage.wait(99.0) == []
    assert stage.wait(2.0) == ["firing 1"]
    stage = Stage(NIGHTLY)
    stage.now += 5 * HOUR
    stage.tracker.skip(stage.now, 5 * HOUR)
    assert stage.wait(22 * HOUR) == []
    assert stage.wait(2 * HOUR) == [f"firing {HOUR:g}"]
