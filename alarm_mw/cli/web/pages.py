"""One page of all servers of this user: their open incidents, with what can be done about each by its own master."""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import cast

import msgspec
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from alarm_mw.cli.top.now import Server
from alarm_mw.cli.web.overview import Overview, key_of, row_of
from alarm_mw.engine.flood_control.limits import read_duration
from alarm_mw.engine.matchers import equal_to
from alarm_mw.model.errors import NotRunningError
from alarm_mw.model.printable import printable
from alarm_mw.web.api.v1.schema import Incident
from alarm_mw.web.charts import spark
from alarm_mw.web.incidents import MAX_ROWS, Found
from alarm_mw.web.pages.now import MAX_COMMENT, VERBS, details_of, favicon, headline, noted, stream
from alarm_mw.web.pages.silences import MAX_MATCHERS, Covered, ServerName, covered_by, lines_of, show_form
from alarm_mw.web.rendering import render, show
from alarm_mw.web.security.guards import form, own_path, page, public
from alarm_mw.web.site import BaseSite, base_site_of, caller

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AllSite(BaseSite):
    """The surroundings of this page."""

    overview: Overview


def overview_of(request: Request) -> Overview:
    """Return what the page knows of the servers."""
    return cast("AllSite", base_site_of(request)).overview


def _answered(endpoint: Endpoint) -> Endpoint:
    """Answer with what is wrong where a master does not answer."""

    async def endpoint_with_answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except NotRunningError as error:
            return render(request, "refused.html", status=503, text=printable(str(error)))

    return endpoint_with_answer


async def now(request: Request) -> Response:
    """Show the open incidents of all servers."""
    overview, text = overview_of(request), request.query_params.get("q", "")[:200]
    rows, trends, total = await asyncio.to_thread(overview.rows, text)
    found = Found(rows[:MAX_ROWS], total)
    return await show(
        request,
        "now.html",
        "all_live.html",
        active="now",
        found=found,
        query=text,
        most=MAX_ROWS,
        headline=headline(total),
        trends={row.id: _spark(trends[row.id]) for row in found.rows},
        servers=await asyncio.to_thread(overview.shown),
        troubles=await asyncio.to_thread(overview.troubles),
    )


def _spark(values: Sequence[int]) -> Markup:
    return spark(values, "matches in the last hour") if values else Markup()


async def incident(request: Request) -> Response:
    """Show an incident, as its master shows it."""
    overview = overview_of(request)
    server, own = await asyncio.to_thread(overview.incident, request.path_params["id"])
    live = await asyncio.to_thread(
        overview.page, server, f"/i/{urllib.parse.quote(own, safe='')}", {"HX-Request": "true"}
    )
    if not live:
        return render(request, "refused.html", status=404, text=_FORGOTTEN)
    if "hx-request" in request.headers:
        return Response(live, media_type="text/html", headers={"Cache-Control": "no-store"})
    found = await asyncio.to_thread(_find, overview, server, own)
    if found is None:
        return render(request, "refused.html", status=404, text=_FORGOTTEN)
    return await show(
        request,
        "all_incident.html",
        active="now",
        row=row_of(server, found),
        own=own,
        key=key_of(server.socket),
        has_page=bool(server.status is not None and server.status.get("page")),  # a former version has no such key
        live=Markup(live),  # noqa: S704  # a page of the master, which has escaped what it shows
    )


_FORGOTTEN = "This incident is not remembered (any more)."


def _find(overview: Overview, server: Server, own: str) -> Incident | None:
    answer = overview.get(server, f"/api/1/incidents/{urllib.parse.quote(own, safe='')}")
    return msgspec.convert(answer["incident"], Incident) if "incident" in answer else None


async def markdown(request: Request) -> Response:
    """Return an incident as Markdown, as its master writes it."""
    overview = overview_of(request)
    server, own = await asyncio.to_thread(overview.incident, request.path_params["id"])
    text = await asyncio.to_thread(overview.page, server, f"/i/{urllib.parse.quote(own, safe='')}.md")
    return PlainTextResponse(text or f"{_FORGOTTEN}\n", 200 if text else 404, media_type="text/markdown; charset=utf-8")


async def act(request: Request) -> Response:
    """Have the master of an incident acknowledge it, give it back, or resolve it."""
    overview, name, verb = overview_of(request), request.path_params["id"], request.path_params["verb"]
    if verb not in VERBS:
        return render(request, "refused.html", status=404, text="There is no such page.")
    fields = await form(request)
    seconds, comment = details_of(fields)
    server, own = await asyncio.to_thread(overview.incident, name)
    details = {"seconds": seconds, "comment": comment} if verb == "ack" else {}
    answer = await asyncio.to_thread(overview.post, server, f"/api/1/incidents/{verb}", {"ids": [own], **details})
    if not answer.get("done"):
        text = answer.get("error") or f"The incident {printable(own, 40)} is not open."
        return render(request, "refused.html", status=409, text=text)
    noted(request, VERBS[verb], f"incident {own} of {server.name}")
    if "hx-request" in request.headers:
        return Response(status_code=204)
    return RedirectResponse(own_path(fields.get("next", ["/"])[0]), 303)


async def new_silence(request: Request) -> Response:
    """Show the form of a silence like an incident."""
    overview = overview_of(request)
    server, own = await asyncio.to_thread(overview.incident, request.query_params.get("incident", ""))
    found = await asyncio.to_thread(_find, overview, server, own)
    pairs = (
        () if found is None else (("rule", found.rule), *((name, value) for name, value in found.key.items() if value))
    )
    values = {"matchers": "\n".join(equal_to(pairs)), "length": "2h", "comment": "", "id": ""}
    return await show_form(request, values, _covered(server, values["matchers"]), server=_named(server))


def _named(server: Server) -> ServerName:
    return ServerName(key_of(server.socket), server.name)


def _covered(server: Server, text: str) -> Covered:
    return covered_by(text, [row_of(server, each) for each in server.incidents], lambda row: row.message)


async def preview(request: Request) -> Response:
    """Show what a silence would cover, while it is written."""
    asked = request.query_params
    server = await asyncio.to_thread(overview_of(request).server, asked.get("server", ""))
    return render(request, "silence_covered.html", covered=_covered(server, asked.get("matchers", "")))


async def save_silence(request: Request) -> Response:
    """Have a master create a silence; the form comes back with what is wrong."""
    overview, fields = overview_of(request), await form(request)
    values = {name: fields.get(name, [""])[0][:MAX_MATCHERS] for name in ("matchers", "length", "comment")}
    server = await asyncio.to_thread(overview.server, fields.get("server", [""])[0])
    matchers = lines_of(values["matchers"])
    try:
        seconds = read_duration(values["length"].strip())
    except ValueError as error:
        wrong = str(error)
    else:
        comment = printable(values["comment"], MAX_COMMENT)
        body = {"targets": matchers, "seconds": seconds, "comment": comment}
        answer = await asyncio.to_thread(overview.post, server, "/api/1/silences", body)
        wrong = answer.get("error", "")
    if wrong:
        covered = _covered(server, values["matchers"])
        return await show_form(request, {**values, "id": ""}, covered, wrong, _named(server))
    noted(request, "silenced", f"{' '.join(matchers)} of {server.name}")
    return RedirectResponse("/", 303)


async def open_page(request: Request) -> Response:
    """Lead to a server's own page, which admits every user that was admitted here."""
    overview, target = overview_of(request), own_path(request.query_params.get("next", "/"))
    server = await asyncio.to_thread(overview.server, request.path_params["key"])
    url = await asyncio.to_thread(overview.login_url, server, str(caller(request).role))
    if not url.startswith("http"):
        return render(request, "refused.html", status=404, text=f"{printable(server.name, 60)} has no page.")
    return RedirectResponse(f"{url}?next={urllib.parse.quote(target, safe='')}", 303)


ROUTES = [
    page("/", _answered(now)),
    page("/live", stream),
    public("/favicon.svg", favicon),
    page("/i/{id}.md", _answered(markdown)),
    page("/i/{id}", _answered(incident)),
    page("/i/{id}/{verb}", _answered(act), methods=["POST"]),
    page("/silences/new", _answered(new_silence)),
    page("/silences/preview", _answered(preview)),
    page("/silences", _answered(save_silence), methods=["POST"]),
    page("/open/{key}", _answered(open_page)),
]
