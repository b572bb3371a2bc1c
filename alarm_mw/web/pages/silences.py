"""Silences: what is held back and until when; made, changed and ended here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from alarm_mw.delivery.outbox import incident_rows
from alarm_mw.engine.flood_control.limits import read_duration
from alarm_mw.engine.incidents.incident import Incident
from alarm_mw.engine.matchers import equal_to, parse_matchers
from alarm_mw.model.printable import printable
from alarm_mw.web.incidents import S, alarms_by_rule, covered, find, row_of
from alarm_mw.web.master import Master, WantedSilence
from alarm_mw.web.pages.now import MAX_COMMENT, noted
from alarm_mw.web.rendering import render, show
from alarm_mw.web.security.guards import form, page
from alarm_mw.web.site import caller, site_of

#: How many of the incidents that a silence covers are named.
MAX_NAMED = 10

#: Characters of all matchers.
MAX_MATCHERS = 4000

#: The lengths of time that are offered.
LENGTHS = ("30m", "1h", "2h", "8h", "1d", "7d")


class ServerName(NamedTuple):
    """The server of a silence where those of several are shown."""

    #: Tells it from the others, in URLs and forms; empty where there is one server.
    key: str = ""
    name: str = ""


class Covered:
    """The open incidents that matchers select, or why they cannot be used."""

    def __init__(self, names: Sequence[tuple[str, str]] = (), total: int = 0, error: str = "") -> None:
        self.names = names[:MAX_NAMED]
        self.count = len(names)
        self.total = total
        self.error = error


async def silences(request: Request) -> Response:
    """Show the silences."""
    found = await asyncio.to_thread(site_of(request).master.silences, True)
    groups = {state: [each for each in found if each["state"] == state] for state in ("active", "pending", "expired")}
    groups["expired"] = sorted(groups["expired"], key=lambda each: -each["ends"])[:50]
    return await show(request, "silences.html", active="silences", groups=groups)


async def new(request: Request) -> Response:
    """Show the form of a silence: an empty one, one like an incident, or that of a silence that is to be changed."""
    master, asked = site_of(request).master, request.query_params
    values = {"matchers": "", "length": "2h", "comment": "", "id": ""}
    if name := asked.get("incident", ""):
        found = await asyncio.to_thread(find, master, name)
        if found is not None:
            values["matchers"] = "\n".join(like(found[1]))
    elif name := asked.get("id", ""):
        former = next((each for each in await asyncio.to_thread(master.silences, True) if each["id"] == name), None)
        if former is not None:
            values |= {"matchers": "\n".join(former["matchers"]), "comment": former["comment"]}
            values["id"] = "" if former["state"] == "expired" else name
    covered = await asyncio.to_thread(_covered, master, values["matchers"])
    return await show_form(request, values, covered)


async def show_form(
    request: Request,
    values: Mapping[str, str],
    covered: Covered,
    error: str = "",
    server: ServerName = ServerName(),  # noqa: B008  # immutable
) -> Response:
    """Show the form of a silence with what it would cover, and what is wrong with it."""
    return await show(
        request,
        "silence.html",
        active="silences",
        values=values,
        covered=covered,
        lengths=LENGTHS,
        error=error,
        server=server,
    )


def like(incident: Incident) -> tuple[str, ...]:
    """Return the matchers of what is like an incident: its rule, and its key."""
    return equal_to([("rule", incident.rule), *((name, value) for name, value in incident.key if value)])


def _covered(master: Master, text: str) -> Covered:
    """Return what a silence with these matchers would cover now. May block."""
    with master.reading() as reader:
        incidents = incident_rows.incidents(reader)
    return covered_by(text, incidents, lambda each: row_of(each, 0.0).message, alarms_by_rule(master))


def covered_by(
    text: str,
    incidents: Sequence[S],
    message: Callable[[S], str],
    alarms: Mapping[str, Sequence[str]] | None = None,
) -> Covered:
    """Return what a silence with these matchers, one a line, would cover of these incidents; `alarms` as `covered`."""
    lines = lines_of(text)
    if not lines:
        return Covered(total=len(incidents))
    try:
        found = covered(parse_matchers(lines), incidents, alarms)
    except ValueError as error:
        return Covered(error=str(error), total=len(incidents))
    return Covered([(each.id, message(each)) for each in found], len(incidents))


def lines_of(text: str) -> list[str]:
    """Return the matchers that somebody has written, one a line."""
    return [line.strip() for line in text[:MAX_MATCHERS].splitlines() if line.strip()]


async def preview(request: Request) -> Response:
    """Show what a silence would cover, while it is written."""
    text = request.query_params.get("matchers", "")
    return render(
        request, "silence_covered.html", covered=await asyncio.to_thread(_covered, site_of(request).master, text)
    )


async def save(request: Request) -> Response:
    """Create or change a silence; the form comes back with what is wrong."""
    fields, master = await form(request), site_of(request).master
    values = {name: fields.get(name, [""])[0][:MAX_MATCHERS] for name in ("matchers", "length", "comment", "id")}
    try:
        ends = time.time() + read_duration(values["length"].strip())
        wanted = WantedSilence(
            lines_of(values["matchers"]),
            ends,
            caller(request).name,
            printable(values["comment"], MAX_COMMENT),
            id=values["id"],
        )
        await asyncio.to_thread(master.put_silence, wanted)
    except (ValueError, LookupError, TimeoutError) as error:
        covered = await asyncio.to_thread(_covered, master, values["matchers"])
        return await show_form(request, values, covered, str(error) or "The master has no time for it now.")
    noted(request, "silenced", " ".join(wanted.matchers))
    return RedirectResponse("/silences", 303)


async def expire(request: Request) -> Response:
    """End a silence."""
    name = request.path_params["id"]
    try:
        await asyncio.to_thread(site_of(request).master.expire_silences, [name])
    except (LookupError, TimeoutError) as error:
        return render(request, "refused.html", status=409, text=f"The silence cannot be ended: {error}")
    noted(request, "ended the silence", name)
    return RedirectResponse("/silences", 303)


ROUTES = [
    page("/silences", silences),
    page("/silences", save, methods=["POST"]),
    page("/silences/new", new),
    page("/silences/preview", preview),
    page("/silences/{id}/expire", expire, methods=["POST"]),
]
