"""Episodes of incidents, and what they were worth."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from alarm_mw.engine.incidents.episodes import episodes_of, is_noise, noise_by_rule, noise_of
from alarm_mw.engine.incidents.stored import Event


def events(
    incident: str, number: int, began: float, lasted: float | None, *, by: str = "", rule: str = "db"
) -> Iterator[Event]:
    """Yield what happens in an episode: it opens, notifies, is acknowledged, and ends."""
    facts = (incident, rule, {"db": incident}, number)
    yield Event(began, *facts, "opened", f"lost {incident}")
    yield Event(began, *facts, "firing", "mail")
    if by:
        yield Event(began + 5, *facts, "acknowledged", f"{by}: on it")
        yield Event(began + 6, *facts, "acknowledged", "lee")
        yield Event(began + 7, *facts, "unacknowledged", by)
    if lasted is not None:
        yield Event(began + lasted, *facts, "resolved", "line back")
        yield Event(began + lasted, *facts, "resolved", "mail")


def test_events_become_episodes() -> None:
    """An episode has its beginning, its end, who took it first and after how long, and its messages."""
    later, first = episodes_of([*events("us", 1, 900, None), *events("eu", 3, 100, 50, by="kim")])[::-1]
    assert (first.incident, first.number, first.rule, first.key) == ("eu", 3, "db", {"db": "eu"})
    assert (first.began, first.lasted, first.ended_by, first.line) == (100, 50, "line", "lost eu")
    assert (first.acknowledged_by, first.acknowledged_after) == ("kim", 5)
    assert (later.lasted, later.messages) == (None, 1)
    assert first.matches("EU lost kim db=eu")
    assert not first.matches("eu us")


@pytest.mark.parametrize(
    ("lasted", "by", "noisy"), [(60, "", True), (61, "", False), (10, "kim", False), (None, "", False)]
)
def test_what_is_noise(lasted: float | None, by: str, noisy: bool) -> None:
    """What was over within a minute without anybody taking it was not worth a message."""
    (episode,) = episodes_of(events("eu", 1, 0, lasted, by=by))
    assert is_noise(episode) is noisy


def test_the_noisiest_rule_comes_first() -> None:
    """Rules are ordered by their noise, with the figures of each."""
    quiet = events("a", 1, 0, 3600, by="kim", rule="quiet")
    noisy = [*events("b", 1, 0, 10, rule="noisy"), *events("b", 2, 5000, 3600, rule="noisy")]
    first, second = noise_by_rule(episodes_of([*quiet, *noisy]))
    assert (first.rule, first.episodes, first.messages, first.acknowledged, first.noise) == ("noisy", 2, 4, 0, 1)
    assert (first.percent, first.again, first.remedy) == (50, 0, "")
    assert (second.rule, second.noise) == ("quiet", 0)


def remedy(*episodes: Iterator[Event]) -> str:
    (found,) = noise_by_rule(episodes_of(event for episode in episodes for event in episode))
    return found.remedy


def test_what_comes_back_at_once_should_keep_firing() -> None:
    """The shortest time is named that joins enough episodes of the same incident."""
    again = [events("eu", number, number * 300.0, 100) for number in range(10)]
    assert remedy(*again) == 'keep_firing_for = "5m" spares 9 episodes with 18 messages'


def test_many_incidents_at_once_should_be_one() -> None:
    """Incidents of one rule that begin together need fewer keys: `group_wait` does not join their messages."""
    together = [events(str(number), 1, 10_000.0 * (number // 5) + number, 5000) for number in range(10)]
    assert settings(*together) == ["key without 'db'"]


def test_what_is_over_at_once_should_be_counted() -> None:
    """Short episodes that are far apart need more than one match."""
    brief = [events("eu", number, 10_000.0 * number, 30) for number in range(6)]
    assert remedy(*brief) == 'count = 2 with within = "10m" spares 6 episodes with 12 messages'


def test_what_nobody_takes_is_not_urgent() -> None:
    """A rule that nobody ever acknowledged wakes people for nothing; one that is taken is left alone."""
    ignored = [events("eu", number, 10_000.0 * number, 3600) for number in range(6)]
    assert remedy(*ignored) == "nobody ever acknowledged it: a lower severity, or another alarm"
    taken = [events("eu", number, 10_000.0 * number, 3600, by="kim") for number in range(6)]
    assert remedy(*taken) == ""


def settings(*episodes: Iterator[Event]) -> list[str]:
    (found,) = noise_by_rule(episodes_of(event for episode in episodes for event in episode))
    return [each.setting for each in found.remedies]


def test_what_ends_by_a_time_should_end_later() -> None:
    """Where most episodes have ended since nothing came for long, a longer time joins them."""
    ended = [
        Event(event.time, event.incident, event.rule, event.key, event.episode, event.kind, "timeout")
        if event.kind == "resolved"
        else event
        for number in range(6)
        for event in events("eu", number, number * 300.0, 100)
    ]
    assert settings(iter(ended))[0] == 'resolve_after = "5m" more'


def test_incidents_that_overlap_need_fewer_keys() -> None:
    """A key is named without which they were one incident; one that is open joins all that come."""
    overlap = [events(str(number), 1, 1000.0 * number, None if number == 0 else 500) for number in range(6)]
    assert settings(*overlap) == ["key without 'db'"]


def test_what_helps_most_comes_first() -> None:
    """Of several settings, the one that spares the most messages."""
    often = [events("eu", number, 200.0 * number, 30) for number in range(6)]
    assert settings(*often) == ['keep_firing_for = "5m"']
    both = [events(str(number % 3), number, 10_000.0 * (number // 3) + number, 30) for number in range(9)]
    assert settings(*both) == ['count = 2 with within = "10m"', "key without 'db'"]


def test_flapping_episodes_are_counted() -> None:
    """Those of which a message said so."""
    flapping = Event(5.0, "eu", "db", {"db": "eu"}, 1, "flapping", "mail")
    (found,) = noise_by_rule(episodes_of([*events("eu", 1, 0, None), flapping, *events("us", 1, 0, 10)]))
    assert (found.flapping, found.messages) == (1, 4)


def test_a_rule_without_episodes_has_no_noise() -> None:
    """Its figures are zero."""
    found = noise_of("db", [])
    assert (found.percent, found.remedy, found.remedies) == (0, "", ())
