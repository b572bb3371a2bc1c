"""History: the episodes of incidents of the last days, open ones and those that are over."""

from __future__ import annotations

import asyncio
import time

from starlette.requests import Request
from starlette.responses import Response

from alarm_mw.delivery.outbox import incident_rows
from alarm_mw.engine.incidents.episodes import Episode, episodes_of
from alarm_mw.web.master import Master
from alarm_mw.web.rendering import show
from alarm_mw.web.security.guards import page
from alarm_mw.web.site import site_of

#: What can be asked for, in days.
DAYS = (1, 7, 30, 90)

#: How many episodes one page shows, the newest.
MAX_EPISODES = 300

_DAY = 86_400


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


ROUTES = [page("/history", history)]
