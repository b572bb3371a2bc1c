"""History: the episodes of the last days, open ones and those that are over, on all machines of a fleet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from alarm_mw.web.pages.episodes import ShownEpisode, history_since
from alarm_mw.web.rendering import show
from alarm_mw.web.security.guards import page
from alarm_mw.web.site import site_of

#: What can be asked for, in days; 0 is everything that is stored.
DAYS = (1, 7, 30, 90, 0)

#: How many episodes one page shows.
MAX_EPISODES = 100

_DAY = 86_400

#: When an episode began, its incident and its number: in this order.
Place = tuple[float, str, int]


async def history(request: Request) -> Response:
    """Show the episodes of the last days."""
    asked = request.query_params.get("days", "7")
    days = int(asked) if asked.isdecimal() and int(asked[:5]) in DAYS else DAYS[1]
    text = request.query_params.get("q", "")[:200]
    since = time.time() - days * _DAY if days else 0.0
    found = await asyncio.to_thread(history_since, site_of(request).master, since)
    shown = [episode for episode in found.episodes if episode.matches(text)]
    part = part_of(shown, request.query_params.get("before", ""), request.query_params.get("after", ""))
    kept = {"days": str(days)} | ({"q": text} if text else {})
    return await show(
        request,
        "history.html",
        active="history",
        episodes=part.episodes,
        first=part.first,
        total=len(shown),
        fault=found.fault,
        days=days,
        choices=DAYS,
        query=text,
        newer=urlencode({**kept, "after": part.newer}) if part.newer else "",
        older=urlencode({**kept, "before": part.older}) if part.older else "",
        newest=urlencode(kept),
    )


class Part(NamedTuple):
    """The episodes of one page, the newest first."""

    episodes: list[ShownEpisode]
    #: The number of the first one, from 1 on.
    first: int
    #: The places from which the pages of newer and older episodes begin; empty where there are none.
    newer: str
    older: str


def part_of(episodes: Iterable[ShownEpisode], before: str, after: str, n: int = MAX_EPISODES) -> Part:
    """Return the newest `n` episodes; with a place, those that are next to it on one side.

    A place is that of an episode, so a page stays the same while other episodes begin.
    """
    ordered = sorted(episodes, key=_place, reverse=True)
    places = [_place(episode) for episode in ordered]
    begin = 0
    if (place := _found(before, places)) is not None:
        begin = sum(each >= place for each in places)
    elif (place := _found(after, places)) is not None:
        begin = max(sum(each > place for each in places) - n, 0)
    shown = ordered[begin : begin + n]
    return Part(
        shown,
        begin + 1,
        _written(places[begin]) if begin and shown else "",
        _written(places[begin + n - 1]) if begin + n < len(ordered) else "",
    )


def _place(episode: ShownEpisode) -> Place:
    return episode.began, episode.incident, episode.number


def _written(place: Place) -> str:
    began, incident, number = place
    return f"{began!r}~{incident}~{number}"


def _found(text: str, places: Iterable[Place]) -> Place | None:
    """Return the place of an episode as it is now: times by the fleet's clock differ a little each time."""
    place = _read(text)
    return None if place is None else next((each for each in places if each[1:] == place[1:]), place)


def _read(text: str) -> Place | None:
    began, _, rest = text.partition("~")
    incident, _, number = rest.partition("~")
    try:
        return float(began), incident, int(number)
    except ValueError:
        return None


ROUTES = [page("/history", history)]
