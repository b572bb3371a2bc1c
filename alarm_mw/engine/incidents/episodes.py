"""Episodes of incidents, as their events report them, and how much of them was noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import msgspec

from alarm_mw.engine.incidents.incident import Status
from alarm_mw.engine.incidents.stored import Event

#: Seconds within which an episode that nobody acknowledges must be over to count as noise.
BRIEF = 60.0

#: What is tried of `keep_firing_for` and `resolve_after`, and of `within`: seconds.
_KEEPING = (60.0, 300.0, 900.0, 3600.0)
_WITHIN = 600.0

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
    #: It began and ended so often that single messages were held back.
    is_flapping: bool = False

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
            episode.is_flapping |= event.kind == Status.FLAPPING


def is_noise(episode: Episode) -> bool:
    """Return whether nobody acknowledged an episode, and it was over within a minute."""
    return not episode.acknowledged_by and episode.lasted is not None and episode.lasted <= BRIEF


class Remedy(msgspec.Struct, frozen=True, kw_only=True):
    """A setting, and what it would have spared of the same episodes."""

    setting: str
    episodes: int
    #: Of those that were sent.
    messages: int

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.setting} spares {self.episodes} episodes with {self.messages} messages"


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
    #: Began and ended so often that single messages were held back.
    flapping: int
    #: What would have spared the most messages comes first.
    remedies: tuple[Remedy, ...]

    @property
    def percent(self) -> int:
        """How much of the episodes was noise."""
        return round(100 * self.noise / self.episodes) if self.episodes else 0

    @property
    def remedy(self) -> str:
        """What would help most, in words; empty if nothing is worth it."""
        if self.remedies:
            return str(self.remedies[0])
        if self.episodes >= _ENOUGH and not self.acknowledged:
            return "nobody ever acknowledged it: a lower severity, or another alarm"
        return ""


def noise_by_rule(episodes: Iterable[Episode]) -> list[Noise]:
    """Return what each rule's episodes were worth, the noisiest first."""
    by_rule: dict[str, list[Episode]] = {}
    for episode in episodes:
        by_rule.setdefault(episode.rule, []).append(episode)
    found = [noise_of(rule, ours) for rule, ours in by_rule.items()]
    return sorted(found, key=lambda each: (-each.noise, -each.messages, each.rule))


def noise_of(rule: str, episodes: Sequence[Episode]) -> Noise:
    """Return what the episodes of a rule were worth; they are in the order in which they began."""
    return Noise(
        rule=rule,
        episodes=len(episodes),
        messages=sum(episode.messages for episode in episodes),
        acknowledged=sum(bool(episode.acknowledged_by) for episode in episodes),
        noise=sum(map(is_noise, episodes)),
        again=len(_resumed(episodes, _KEEPING[1])),
        flapping=sum(episode.is_flapping for episode in episodes),
        remedies=tuple(_remedies(episodes)),
    )


def _remedies(episodes: Sequence[Episode]) -> list[Remedy]:
    """Return the settings that would have spared many of the episodes, each tried on them."""
    if len(episodes) < _ENOUGH:
        return []
    found = [
        Remedy(setting=setting, episodes=len(spared), messages=sum(episode.messages for episode in spared))
        for setting, spared in _trials(episodes)
        if len(spared) >= _WORTH * len(episodes)
    ]
    return sorted(found, key=lambda each: -each.messages)


def _trials(episodes: Sequence[Episode]) -> Iterator[tuple[str, Sequence[Episode]]]:
    """Yield settings, each with the episodes that it would have spared."""
    yield _longer(episodes)
    for name in sorted({name for episode in episodes for name in episode.key}):
        yield f"key without {name!r}", _overlapping(episodes, name)
    yield f'count = 2 with within = "{_WITHIN / 60:.0f}m"', _single(episodes)


def _longer(episodes: Sequence[Episode]) -> tuple[str, Sequence[Episode]]:
    """Return the shortest time that joins enough episodes; what ends by a time is to end later."""
    ends = sum(episode.ended_by == "timeout" for episode in episodes)
    name, more = ("resolve_after", " more") if 2 * ends > len(episodes) else ("keep_firing_for", "")
    spared: Sequence[Episode] = ()
    for seconds in _KEEPING:
        spared = _resumed(episodes, seconds)
        if len(spared) >= _WORTH * len(episodes):
            break
    return f'{name} = "{seconds / 60:.0f}m"{more}', spared


def _resumed(episodes: Sequence[Episode], seconds: float) -> list[Episode]:
    """Return the episodes that began so soon after the end of the one before, of the same incident."""
    by_incident: dict[str, list[Episode]] = {}
    for episode in episodes:
        by_incident.setdefault(episode.incident, []).append(episode)
    return [
        after
        for ours in by_incident.values()
        for before, after in pairwise(ours)
        if before.ended is not None and after.began - before.ended <= seconds
    ]


def _overlapping(episodes: Sequence[Episode], name: str) -> list[Episode]:
    """Return the episodes that began while another one was open from which they differ by a key only."""
    joined: list[Episode] = []
    open_until: dict[tuple[tuple[str, str], ...], float] = {}
    for episode in episodes:
        others = tuple(sorted((key, value) for key, value in episode.key.items() if key != name))
        until = open_until.get(others, float("-inf"))
        if episode.began <= until:
            joined.append(episode)
        open_until[others] = max(until, float("inf") if episode.ended is None else episode.ended)
    return joined


def _single(episodes: Sequence[Episode]) -> list[Episode]:
    """Return the episodes that were noise, and before which nothing had begun for long of the same incident."""
    last: dict[str, float] = {}
    found = []
    for episode in episodes:
        if is_noise(episode) and episode.began - last.get(episode.incident, float("-inf")) > _WITHIN:
            found.append(episode)
        last[episode.incident] = episode.began
    return found
