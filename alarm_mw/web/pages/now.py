"""Now: the open incidents, worst first; and proof that all is well where there are none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from alarm_mw.model.printable import printable
from alarm_mw.web.charts import spark
from alarm_mw.web.incidents import MAX_ROWS, open_incidents
from alarm_mw.web.proof import proof_of
from alarm_mw.web.rendering import render, show
from alarm_mw.web.samples import trend
from alarm_mw.web.security.guards import form, own_path, page, public
from alarm_mw.web.site import base_site_of, caller, site_of

#: Who has done what, and from where.
audit = logging.getLogger("alarm_mw.web.audit")
audit.setLevel(logging.INFO)

#: What can be done to incidents, and what the log says of it.
VERBS = {"ack": "acknowledged", "unack": "gave back", "resolve": "resolved"}

#: Characters of a comment, and of a number of seconds.
MAX_COMMENT = 500
MAX_DIGITS = 9


async def now(request: Request) -> Response:
    """Show the open incidents."""
    master = site_of(request).master
    text = request.query_params.get("q", "")[:200]
    found = await asyncio.to_thread(open_incidents, master, text)
    proof = await asyncio.to_thread(proof_of, master)
    trends = await asyncio.to_thread(trend, site_of(request).samples, "incident", [row.id for row in found.rows])
    return await show(
        request,
        "now.html",
        "now_live.html",
        active="now",
        found=found,
        query=text,
        proof=proof,
        troubles=proof.troubles,
        most=MAX_ROWS,
        headline=headline(found.total),
        trends={name: spark(values, "matches in the last hour") for name, values in trends.items()},
    )


def headline(n: int) -> str:
    """Return what stands above so many open incidents."""
    return f"{n:,} open incident{'' if n == 1 else 's'}" if n else "Now"


async def favicon(request: Request) -> Response:
    """Return the icon, with the number of open incidents on it."""
    n = request.query_params.get("n", "")
    text = n if n.isdecimal() and len(n) <= 2 else "99" if n.isdecimal() else ""  # noqa: PLR2004  # digits
    return Response(
        icon(int(text or 0), is_known=bool(text), is_well=request.query_params.get("well") != "0"),
        media_type="image/svg+xml",
        headers={"Cache-Control": "max-age=86400"},
    )


def icon(n: int, *, is_known: bool = True, is_well: bool = True) -> str:
    """Return the icon as SVG: green where no incident is open, red with their number, gray where that is not known.

    It is amber with an exclamation mark where no incident is open, but something else needs a look.
    """
    color = "#c4302b" if n else "#6b7480" if not is_known else "#1f7a4d" if is_well else "#b26a00"
    text = str(n or "" if is_well or not is_known else n or "!")
    size = "17" if n < 10 else "14"  # noqa: PLR2004  # one digit
    inner = (
        f'<text x="16" y="22" font-family="system-ui,sans-serif" font-weight="700" font-size="{size}" fill="#fff" '
        f'text-anchor="middle">{text}</text>'
        if text
        else '<path d="M10 16.5l4.2 4.2L22.5 12" fill="none" stroke="#fff" stroke-width="3" stroke-linecap="round" '
        'stroke-linejoin="round"/>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="9" '
        f'fill="{color}"/>{inner}</svg>'
    )


async def stream(request: Request) -> Response:
    """Send a page its changes."""
    return base_site_of(request).live.response()


async def act(request: Request) -> Response:
    """Acknowledge an incident, give it back, or resolve it; then go back."""
    name, verb = request.path_params["id"], request.path_params["verb"]
    if verb not in VERBS:
        return render(request, "refused.html", status=404, text="There is no such page.")
    fields = await form(request)
    seconds, comment = details_of(fields)
    by, master = caller(request).name, site_of(request).master
    done = await asyncio.to_thread(master.order, verb, (name,), by, seconds, comment)
    if not done:
        return render(request, "refused.html", status=409, text=f"The incident {printable(name, 40)} is not open.")
    noted(request, VERBS[verb], f"incident {name}")
    if "hx-request" in request.headers:
        return Response(status_code=204)
    return RedirectResponse(own_path(fields.get("next", ["/"])[0]), 303)


def details_of(fields: Mapping[str, Sequence[str]]) -> tuple[float | None, str]:
    """Return for how many seconds something is to be acknowledged, None for as long as is configured, and why."""
    comment, length = (next(iter(fields.get(name, ())), "") for name in ("comment", "seconds"))
    seconds = float(length) if length.isdecimal() and len(length) < MAX_DIGITS else None
    return seconds, printable(comment, MAX_COMMENT)


def noted(request: Request, done: str, what: str) -> None:
    """Log who has done what, and from where."""
    address = request.client.host if request.client is not None else "a unix socket"
    audit.info("%s from %s %s %s", caller(request).name, printable(address, 64), done, printable(what, 200))


ROUTES = [
    page("/", now),
    page("/live", stream),
    public("/favicon.svg", favicon),
    page("/i/{id}/{verb}", act, methods=["POST"]),
]
