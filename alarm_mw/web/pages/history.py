"""History: the episodes of incidents of the last days, open ones and those that are over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from alarm_mw.delivery.outbox import incident_rows
from alarm_mw.engine.incidents.incidents import Event
from alarm_mw.web.master import Master
from alarm_mw.web.rendering import show
from alarm_mw.web.security.guards import page
from alarm_mw.web.site import site_of

#: What can be asked for, in days.
DAYS = (1, 7, 30, 90)

#: How many episodes one page shows, the newest.
MAX_EPISODES = 300

_DAY = 86_400


class Episode(msgspec.Struct, kw_only=True):
    """One episode of an incident, as its events tell it. Times are in seconds since the epoch."""

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


async def history(request: Request) -> Response:
    """Show the episodes of the last days."""
    asked = request.query_params.get("days", "7")
    days = int(asked) if asked.isdecimal() and int(asked[:5]) in DAYS else DAYS[1]
    text = request.query_params.get("q", "")[:200]
    found = await asyncio.to_thread(episodes_since, site_of(request).master, time.time() - days * _DAY)
    shown = [episode for episode in reversed(found) if episode.matches(text)]
    return await show(
        request,
        "history.html",
        active="history",
        episodes=shown[:MAX_EPISODES],
        total=len(shown),
        days=days,
        choices=DAYS,
        query=text,
        most=MAX_EPISODES,
    )


def episodes_since(master: Master, since: float) -> list[Episode]:
    """Return the episodes that have had events since a time, in the order of their beginnings. May block."""
    with master.reading() as reader:
        return episodes_of(incident_rows.events(reader, since))


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


ROUTES = [page("/history", history)]
