"""Rules that measure something, in an engine: what fires, what is held back, and what is counted."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from alarm_mw.config.build import engine_of
from alarm_mw.config.load import from_keywords
from alarm_mw.engine.incidents.stored import Saved
from alarm_mw.engine.request_rules import key_of
from alarm_mw.model.types import Record, RequestConditions, Verdict

HEAD = 'messages = "uwsgi"\nalarms.a = "log:"\n[[rules]]\nname = "r"\nalarms = "a"\nwithin = "5m"\n'

RATIO = """
pattern = 'failed (?P<shop>\\w+)'
key = ["shop"]
ratio = ">50%"
resolve_below = "40%"
at_least = 4
of = { pattern = '(?:failed|paid) (?P<shop>\\w+)' }
"""

CARDINALITY = """
pattern = 'login (?P<user>\\w+) from (?P<ip>\\w+)'
key = ["ip"]
field = "user"
cardinality = ">2"
"""

NEW = "pattern = 'user (?P<user>\\w+)'\nkey = ['user']\nnew = '1d'\n"


class Stage:
    """An engine with one rule, and a clock that stands still until it is moved."""

    def __init__(self, directory: Path, keys: str) -> None:
        (directory / "alarm-mw.toml").write_text(
            HEAD.replace('within = "5m"\n', "" if "new" in keys else 'within = "5m"\n') + keys
        )
        self.now = 1000.0
        self.engine = engine_of(from_keywords(directory / "alarm-mw.toml"), clock=lambda: self.now)
        self._numbers = itertools.count()
        assert self.engine.incidents is not None
        self.incidents = self.engine.incidents
        self.incidents.start(Saved())

    def see(self, message: str, **facts: object) -> Verdict:
        record = Record(f"{message}\n".encode(), "stdout", self.now, f"k{next(self._numbers)}", **facts)  # type: ignore[arg-type]  # what a test gives
        return self.engine.evaluate(record, self.now)

    def told(self, *messages: str) -> list[str]:
        """Return what is sent for lines, and why something is not."""
        return [text for message in messages for text in _told(self.see(message))]


def _told(verdict: Verdict) -> list[str]:
    notices = [(firing, firing.trigger and firing.trigger.incident) for firing in verdict.firings]
    sent = [f"{notice.status if notice else 'message'} {firing.text.splitlines()[0]}" for firing, notice in notices]
    return [*sent, *(str(held.reason) for held in verdict.held)]


def test_a_ratio_counts_both_kinds_of_lines(tmp_path: Path) -> None:
    """A match counts once, as what it is; other lines of `of` count against it, for their keys, and fire nothing."""
    stage = Stage(tmp_path, RATIO)
    assert stage.told("failed eu", "failed eu", "paid eu") == ["below_threshold", "below_threshold"]
    assert stage.told("failed us", "unrelated") == ["below_threshold"]
    assert stage.told("failed eu") == ["firing r: 75 % of 4 within 5 min, more than 50 %"]
    assert stage.told("failed eu", "paid eu", "paid eu") == ["ongoing"]
    assert stage.told("paid eu", "paid eu", "paid eu") == ["resolved r: 75 % of 4 within 5 min, more than 50 %"]
    (incident, *_) = [each for each in stage.incidents.tracker if each.key == (("shop", "eu"),)]
    assert not incident.is_open
    assert incident.end == "40 % of 10 within 5 min"


def test_the_message_of_a_ratio(tmp_path: Path) -> None:
    """It begins with the figures; the line with which it began stands below."""
    stage = Stage(tmp_path, RATIO)
    for _ in range(3):
        stage.see("failed eu")
    (firing,) = stage.see("failed eu").firings
    assert firing.message == b"r: 100 % of 4 within 5 min, more than 50 %\nfailed eu\n"
    assert firing.rule


def test_a_ratio_can_begin_with_a_line_that_is_no_match(tmp_path: Path) -> None:
    """Where it is the one that makes them enough: then no line stands below the figures."""
    stage = Stage(tmp_path, RATIO)
    for _ in range(3):
        stage.see("failed eu")
    verdict = stage.see("paid eu")
    assert [firing.message for firing in verdict.firings] == [b"r: 75 % of 4 within 5 min, more than 50 %\n"]
    assert verdict.is_resolve


def test_time_ends_a_ratio(tmp_path: Path) -> None:
    """Without further lines, the window empties, and the incident ends."""
    stage = Stage(tmp_path, RATIO)
    for _ in range(4):
        stage.see("failed eu")
    due = stage.incidents.due()
    assert due == pytest.approx(5.0)
    stage.now += 290.0
    assert stage.incidents.tick() == []
    stage.now += 10.0
    assert [
        firing.trigger.incident.status
        for firing in stage.incidents.tick()
        if firing.trigger and firing.trigger.incident
    ] == ["resolved"]
    assert stage.incidents.due() is None


def test_a_match_outside_of_what_is_counted(tmp_path: Path) -> None:
    """A match that `of` does not match counts for nothing."""
    stage = Stage(tmp_path, RATIO.replace("(?:failed|paid) (?P<shop>\\w+)", "paid (?P<shop>\\w+)"))
    assert stage.told(*["failed eu"] * 9) == ["below_threshold"] * 9


def test_a_ratio_of_requests(tmp_path: Path) -> None:
    """Requests are counted by the conditions that the application found."""
    keys = "request = { status = '5xx' }\nratio = '>50%'\nat_least = 3\n"
    stage = Stage(tmp_path, keys)
    failing, every = (key_of(RequestConditions(statuses=each)) for each in (((500, 599),), ()))
    assert _told(stage.see("GET / 500", held=(failing, every))) == ["below_threshold"]
    assert _told(stage.see("GET / 200", held=(every,))) == []
    assert _told(stage.see("GET / 500", held=(failing, every))) == [
        "firing r: 66.7 % of 3 within 5 min, more than 50 %"
    ]
    assert _told(stage.see("GET / 500")) == []


def test_an_echo_counts_once(tmp_path: Path) -> None:
    """A record that is logged and printed counts once on both sides."""
    stage = Stage(tmp_path, RATIO)
    for message in ("failed eu", "paid eu"):
        stage.engine.evaluate(
            Record(message.encode(), "logging", stage.now, message, echoes=(message.encode(),)), stage.now
        )
        assert _told(stage.see(message)) == (["echo"] if message == "failed eu" else [])
    assert stage.told("failed eu", "failed eu") == [
        "below_threshold",
        "firing r: 75 % of 4 within 5 min, more than 50 %",
    ]


def test_many_values_of_a_field(tmp_path: Path) -> None:
    """The values are counted for each key."""
    stage = Stage(tmp_path, CARDINALITY)
    assert (
        stage.told("login kim from x", "login kim from x", "login lee from x", "login pat from y")
        == ["below_threshold"] * 4
    )
    assert stage.told("login pat from x") == ["firing r: more than 2 values of user within 5 min"]
    assert stage.told("login kim from x") == ["ongoing"]
    stage.now += 301.0
    (firing,) = stage.incidents.tick()
    assert firing.trigger is not None
    assert firing.trigger.incident is not None
    assert firing.trigger.incident.end == "0 values of user within 5 min"


def test_new_values_are_messages(tmp_path: Path) -> None:
    """A rule without incidents fires for each new value, and for no other; the same record fires once."""
    stage = Stage(tmp_path, NEW)
    assert stage.told("user kim", "user lee", "user kim") == ["message user kim", "message user lee", "known"]
    assert stage.incidents.is_urgent
    stage.now += 86_401.0
    assert stage.told("user kim") == ["message user kim"]


def test_new_values_as_incidents(tmp_path: Path) -> None:
    """With `resolve_after`, a new value is an incident that goes on while the value comes."""
    stage = Stage(tmp_path, NEW + "resolve_after = '1h'\n")
    assert stage.told("user kim", "user kim") == ["firing user kim", "ongoing"]
    stage.now += 3601.0
    assert len(stage.incidents.tick()) == 1
    assert stage.told("user kim") == ["known"]


def test_a_spike(tmp_path: Path) -> None:
    """Three times as many lines as before begin an incident, and as few as before end it."""
    stage = Stage(tmp_path, "pattern = 'retry'\nspike = 3\nat_least = 6\n")
    stage.now += 601.0
    assert stage.told(*["retry"] * 2) == ["below_threshold"] * 2
    stage.now += 310.0
    assert stage.told(*["retry"] * 6) == ["below_threshold"] * 5 + ["firing r: 6 within 5 min, 2 before"]
    stage.now += 301.0
    assert len(stage.incidents.tick()) == 1


def test_lines_of_measured_rules_are_judged_one_by_one(tmp_path: Path) -> None:
    """No flood's shortcut applies to them: each line counts."""
    stage = Stage(tmp_path, RATIO)
    assert stage.engine.gate((0,), "stdout", 1.0) is None
    assert stage.engine.gate((1,), "stdout", 1.0) is None
