"""Episodes of incidents, as their events report them, and how much of them was noise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import msgspec

from alarm_mw.engine.incidents.stored import Event

#: Seconds within which an episode that nobody acknowledges must be over to count as noise.
BRIEF = 60.0

#: What is tried of `keep_firing_for`, and of `group_wait`: seconds.
_KEEPING = (60.0, 300.0, 900.0, 3600.0)
_GROUPING = 60.0

#: A remedy is worth naming if it spares this share of the episodes.
_WORTH = 0.3

#: Fewer episodes say nothing.
_ENOUGH = 5


class Episode(msgspec.Struct, kw_only=True):
    """One episode of an incident, as its events record it. Times are in seconds since the epoch."""

    incident: str
    number: int
    rule: str
    key: Mapping[str, str]
    began: float
    line: str = ""
    ended: float | None = None
    ended_by: str = ""
    acknowledged_by: str = ""
    acknowledged_after: float | None = None
    messages: int = 0

    @property
    def lasted(self) -> float | None:
        """Seconds from the beginning to the end; None while it is open."""
        return None if self.ended is None else max(self.ended - self.began, 0.0)

    def matches(self, text: str) -> bool:
        """Return whether all words of a filter are found in it."""
        facts = [f"{name}={value}" for name, value in self.key.items()]
        everything = " ".join([self.incident, self.rule, self.line, self.acknowledged_by, *facts]).lower()
        return all(word in everything for word in text.lower().split())


def episodes_of(events: Iterable[Event]) -> list[Episode]:
    """Return the episodes of events, which are in order."""
    found: dict[tuple[str, int], Episode] = {}
    for event in events:
        name = event.incident, event.episode
        if name not in found:
            found[name] = Episode(
                incident=event.incident, number=event.episode, rule=event.rule, key=event.key, began=event.time
            )
        _add(found[name], event)
    return sorted(found.values(), key=lambda episode: episode.began)


def _add(episode: Episode, event: Event) -> None:
    match event.kind:
        case "opened":
            episode.line = event.text
        case "acknowledged":
            if not episode.acknowledged_by:
                episode.acknowledged_by = event.text.partition(":")[0]
                episode.acknowledged_after = max(event.time - episode.began, 0.0)
        case "resolved" if episode.ended is None:
            episode.ended, episode.ended_by = event.time, event.text.partition(" ")[0]
        case "unacknowledged":
            pass
        case _:
            episode.messages += 1


def is_noise(episode: Episode) -> bool:
    """Return whether nobody acknowledged an episode, and it was over within a minute."""
    return not episode.acknowledged_by and episode.lasted is not None and episode.lasted <= BRIEF


class Noise(msgspec.Struct, frozen=True, kw_only=True):
    """What the episodes of a rule were worth."""

    rule: str
    episodes: int
    messages: int
    acknowledged: int
    #: Over within a minute, and not acknowledged.
    noise: int
    #: Began again within five minutes after the end of the one before.
    again: int
    #: What would have spared messages, with how many episodes less.
    remedy: str

    @property
    def percent(self) -> int:
        """How much of the episodes was noise."""
        return round(100 * self.noise / self.episodes)


def noise_by_rule(episodes: Iterable[Episode]) -> list[Noise]:
    """Return what each rule's episodes were worth, the noisiest first."""
    by_rule: dict[str, list[Episode]] = {}
    for episode in episodes:
        by_rule.setdefault(episode.rule, []).append(episode)
    found = [
        Noise(
            rule=rule,
            episodes=len(ours),
            messages=sum(episode.messages for episode in ours),
            acknowledged=sum(bool(episode.acknowledged_by) for episode in ours),
            noise=sum(map(is_noise, ours)),
            again=_merged(ours, _KEEPING[1]),
            remedy=_remedy(ours),
        )
        for rule, ours in by_rule.items()
    ]
    return sorted(found, key=lambda each: (-each.noise, -each.messages, each.rule))


def _remedy(episodes: Sequence[Episode]) -> str:
    """Return what would have made fewer episodes, or fewer messages of them; empty if nothing is worth it."""
    if len(episodes) < _ENOUGH:
        return ""
    least = _WORTH * len(episodes)
    for seconds in _KEEPING:
        if (spared := _merged(episodes, seconds)) >= least:
            return f'keep_firing_for = "{seconds / 60:.0f}m" makes {spared} episodes less'
    if (spared := _grouped(episodes)) >= least:
        return f"group_wait = {_GROUPING:.0f} in the alarm's delivery joins the messages of {spared} episodes to others"
    if (brief := sum(map(is_noise, episodes))) >= least:
        return f"count = 3 with within: {brief} were over within a minute"
    if not any(episode.acknowledged_by for episode in episodes):
        return "nobody ever acknowledged it: a lower severity, or another alarm"
    return ""


def _merged(episodes: Sequence[Episode], seconds: float) -> int:
    """Return how many episodes began so soon after the end of the one before, of the same incident."""
    by_incident: dict[str, list[Episode]] = {}
    for episode in episodes:
        by_incident.setdefault(episode.incident, []).append(episode)
    return sum(
        before.ended is not None and after.began - before.ended <= seconds
        for ours in by_incident.values()
        for before, after in pairwise(ours)
    )


def _grouped(episodes: Sequence[Episode]) -> int:
    """Return how many episodes began while messages about another incident of the rule would still have waited."""
    joined, waits_until = 0, float("-inf")
    for episode in episodes:
        if episode.began <= waits_until:
            joined += 1
        else:
            waits_until = episode.began + _GROUPING
    return joined
