"""Acknowledge by a link in a message: GET shows a question, and POST, the button, acknowledges."""

from __future__ import annotations

import asyncio
import time

from starlette.requests import Request
from starlette.responses import Response

from alarm_mw.model.printable import printable
from alarm_mw.texts.links import is_signed
from alarm_mw.web.incidents import Row, find
from alarm_mw.web.pages.now import MAX_COMMENT, audit
from alarm_mw.web.rendering import render
from alarm_mw.web.security.guards import form, public
from alarm_mw.web.site import identity_of, site_of

#: Digits of a number in a link.
_MAX_DIGITS = 12

_FORGED = "This link is not one of ours, or its incident is not remembered any more."
_LATE = "This link is older than a day. Log in to acknowledge the incident."
_OVER = "The incident is over."


async def ask(request: Request) -> Response:
    """Ask whether to acknowledge, and change nothing."""
    row, refusal = await _found(request)
    if row is None:
        return refusal
    return render(request, "ack.html", row=row)


async def acknowledge(request: Request) -> Response:
    """Acknowledge the incident."""
    row, refusal = await _found(request)
    if row is None:
        return refusal
    fields, identity = await form(request), identity_of(request)
    given = printable(fields.get("name", [""])[0].strip(), 64)
    by = identity.name if identity is not None else f"{given} (by link)" if given else "link"
    comment = printable(fields.get("comment", [""])[0], MAX_COMMENT)
    done = await asyncio.to_thread(site_of(request).master.order, "ack", (row.id,), by, None, comment)
    if not done:
        return render(request, "refused.html", status=409, text=_OVER)
    address = request.client.host if request.client is not None else "a unix socket"
    audit.info("%s from %s acknowledged incident %s", by, printable(address, 64), row.id)
    return render(request, "acked.html", row=row)


async def _found(request: Request) -> tuple[Row | None, Response]:
    """Return the incident that a link is about; None, and why not, for a link that cannot be used."""
    path, site = request.path_params, site_of(request)
    numbers = (path["episode"], path["until"])
    key = await asyncio.to_thread(site.master.link_key)
    if not key or not all(n.isdecimal() and n.isascii() and len(n) <= _MAX_DIGITS for n in numbers):
        return None, render(request, "refused.html", status=404, text=_FORGED)
    episode, until = map(int, numbers)
    if not is_signed(key, path["id"], episode, until, path["signature"]):
        return None, render(request, "refused.html", status=404, text=_FORGED)
    if until < time.time():
        return None, render(request, "refused.html", status=410, text=_LATE)
    found = await asyncio.to_thread(find, site.master, path["id"])
    if found is None:
        return None, render(request, "refused.html", status=404, text=_FORGED)
    if not found[0].is_open or found[0].episode != episode:
        return None, render(request, "refused.html", status=409, text=_OVER)
    return found[0], Response()


_PATH = "/a/{id}/{episode}/{until}/{signature}"

ROUTES = [public(_PATH, ask), public(_PATH, acknowledge, methods=["POST"])]
