"""Delivery: how each alarm reaches its receiver, and the dead letters that did not."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
from msgspec import structs
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from alarm_mw.config.settings import Alarm
from alarm_mw.delivery import last_deliveries
from alarm_mw.delivery.dead_letters import Order
from alarm_mw.delivery.last_deliveries import LastDelivery
from alarm_mw.delivery.outbox.incident_rows import Reader
from alarm_mw.delivery.outbox.limits import State
from alarm_mw.model.interfaces import MASK, SECRET
from alarm_mw.model.types import Where
from alarm_mw.web.master import Master
from alarm_mw.web.pages.now import noted
from alarm_mw.web.rendering import render, show
from alarm_mw.web.security.guards import form, page
from alarm_mw.web.site import caller, site_of

#: How many dead letters one page shows, the newest.
MAX_LETTERS = 200

#: How many of the latest deliveries of an alarm its latency is taken from.
_LATEST = 200


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm, and how it is delivered."""

    name: str
    action: str
    #: Its options, with secrets masked.
    target: str
    waiting: int
    dead: int
    #: Since the state directory was made, and since midnight as far as is remembered.
    delivered: int
    today: int
    #: Seconds from the firing to the delivery, of the latest ones: half of them took no longer.
    latency: float | None
    #: Seconds since the epoch; 0: never, as far as is remembered.
    last: float
    #: How the receiver fails; empty while it does not.
    failing: Mapping[str, Any]
    #: Since when an attempt goes on that takes long; 0 for none.
    long_since: float
    is_configured: bool
    #: When a drill was delivered last; 0: never, or nobody asks for that.
    drilled: float = 0.0
    #: Nothing was delivered for longer than `[drill]` allows.
    is_unused: bool = False


async def delivery(request: Request) -> Response:
    """Show lanes and dead letters."""
    master = site_of(request).master
    alarm = request.query_params.get("alarm", "")
    lanes = await asyncio.to_thread(lanes_of, master)
    alarms = (alarm,) if alarm else ()
    found = await asyncio.to_thread(master.dead, Order(verb="list", alarms=alarms, limit=MAX_LETTERS))
    return await show(
        request,
        "delivery.html",
        "delivery_live.html",
        active="delivery",
        lanes=lanes,
        letters=list(reversed(found.letters)),
        count=found.count,
        alarm=alarm,
        said=_SAID.get(request.query_params.get("said", ""), ""),
    )


_SAID = {
    "tested": "A test alarm is on its way.",
    "retried": "What waits is tried now.",
    "put_back": "The letters are tried again.",
    "dropped": "The letters are dropped.",
}


def lanes_of(master: Master) -> list[Lane]:
    """Return the alarms, those that fail first. May block."""
    status, settings = master.status(), master.settings()
    with master.reading() as reader:
        midnight = time.mktime((*time.localtime()[:3], 0, 0, 0, 0, 0, -1))
        rows = reader.query(
            "SELECT alarm, SUM(done >= ? AND state = 'delivered'), MAX(CASE state WHEN 'delivered' THEN done END),"
            " SUM(state = 'dead') FROM firings GROUP BY alarm",
            (midnight,),
        )
        figures = {cast("str", alarm): (today, last, dead) for alarm, today, last, dead in rows}
        configured = {alarm.name: alarm for alarm in settings.alarms}
        names = [*configured, *(name for name in status["alarms"] if name not in configured)]
        lanes = [
            _lane(name, configured.get(name), status, figures.get(name, (0, 0, 0)), latency=_latency(reader, name))
            for name in names
        ]
        if settings.drill.seconds is not None:
            known = last_deliveries.read(reader.query)
            lanes = [_watched(lane, known.get(lane.name), settings.drill.seconds) for lane in lanes]
    return sorted(lanes, key=lambda lane: (not lane.failing, not lane.dead, lane.name))


def _watched(lane: Lane, known: LastDelivery | None, warn_after: float) -> Lane:
    """Return an alarm with when it was last seen to work."""
    if known is None:
        return lane
    last, is_unused = max(lane.last, known.delivered), known.idle(time.time()) > warn_after
    return structs.replace(lane, last=last, drilled=known.drilled, is_unused=is_unused)


def _lane(
    name: str,
    alarm: Alarm | None,
    status: Mapping[str, Any],
    figures: tuple[object, object, object],
    *,
    latency: float | None,
) -> Lane:
    today, last, dead = figures
    row = status["alarms"].get(name)
    return Lane(
        name=name,
        action="" if alarm is None else alarm.plugin,
        target="" if alarm is None else ", ".join(shown_options(alarm.options)),
        waiting=row["waiting"] if row else 0,
        delivered=row["delivered"] if row else 0,
        dead=cast("int", dead or 0),
        today=cast("int", today or 0),
        latency=latency,
        last=cast("float", last or 0.0),
        failing=status["failing"].get(name, {}),
        long_since=status["long_since"].get(name, 0.0),
        is_configured=alarm is not None,
    )


def _latency(reader: Reader, alarm: str) -> float | None:
    rows = reader.query(
        "SELECT done - taken FROM firings WHERE state = ? AND alarm = ? AND taken > 0 ORDER BY seq DESC LIMIT ?",
        (str(State.DELIVERED), alarm, _LATEST),
    )
    times = sorted(cast("float", seconds) for (seconds,) in rows)
    return max(times[len(times) // 2], 0.0) if times else None


def shown_options(options: msgspec.Struct) -> Iterator[str]:
    """Yield the options that were given, as ``name = value``, with secrets masked; not their place in a file."""
    for field in msgspec.structs.fields(type(options)):
        value = getattr(options, field.name)
        if isinstance(value, Where):
            continue
        if value in (field.default, None, "", (), {}) or value == _default(field):
            continue
        yield f"{field.encode_name} = {as_toml(masked(value) if is_secret(field.type) else value)}"


def as_toml(value: object) -> str:
    """Return a value about as TOML has it; values of tables in it that are their defaults are left out."""
    if isinstance(value, msgspec.Struct):
        inner = ", ".join(shown_options(value))
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{name} = {as_toml(each)}' for name, each in value.items())} }}"
    if isinstance(value, tuple | list | set | frozenset):
        items = list(value)
        if items and all(isinstance(each, tuple) and len(each) == 2 and isinstance(each[0], str) for each in items):  # noqa: PLR2004  # pairs
            return as_toml(dict(items))
        return f"[{', '.join(map(as_toml, items))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else json.dumps(str(value), ensure_ascii=False)


def masked(value: object) -> str:
    """Return what is shown of a secret value: of a URL the receiver's host."""
    host = urlsplit(value).hostname if isinstance(value, str) and "://" in value else None
    return MASK if not host else f"{str(value).partition('://')[0]}://{host}/{MASK}"


def _default(field: msgspec.structs.FieldInfo) -> object:
    return None if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def is_secret(kind: object) -> bool:
    """Return whether an annotation says that values are to be masked."""
    return SECRET in getattr(kind, "__metadata__", ()) or any(map(is_secret, getattr(kind, "__args__", ())))


async def act(request: Request) -> Response:
    """Send a test alarm, or try what waits now."""
    alarm, verb = request.path_params["alarm"], request.path_params["verb"]
    master, by = site_of(request).master, caller(request).name
    if verb == "test":
        if not await asyncio.to_thread(master.test, alarm, by):
            return render(request, "refused.html", status=404, text="There is no such alarm.")
        noted(request, "sent a test alarm by", alarm)
    elif verb == "retry":
        await asyncio.to_thread(master.retry_now, alarm)
        noted(request, "retried what waits for", alarm)
    else:
        return render(request, "refused.html", status=404, text="There is no such page.")
    return RedirectResponse(f"/delivery?said={'tested' if verb == 'test' else 'retried'}", 303)


async def letters(request: Request) -> Response:
    """Ask once, with their number, and then retry or drop dead letters."""
    fields, master = await form(request), site_of(request).master
    verb = fields.get("verb", [""])[0]
    ids = tuple(int(number) for number in fields.get("id", []) if number.isdecimal() and len(number) < 19)  # noqa: PLR2004
    ids = () if "all" in fields else ids
    alarms = tuple(filter(None, fields.get("alarm", [])))
    if verb not in ("retry", "drop") or not (ids or "all" in fields):
        return render(request, "refused.html", status=400, text="Select letters, and what is to be done with them.")
    if "yes" not in fields:
        order = Order(verb="list", ids=ids, alarms=alarms, limit=1)
        count = (await asyncio.to_thread(master.dead, order)).count
        return render(
            request, "confirm.html", verb=verb, ids=ids, alarms=alarms, count=count, csrf=caller(request).csrf
        )
    order = Order(verb="retry" if verb == "retry" else "drop", ids=ids, alarms=alarms)
    answer = await asyncio.to_thread(master.dead, order)
    noted(request, "retried" if verb == "retry" else "dropped", f"{answer.count} dead letters")
    if answer.refused:
        return render(request, "refused.html", status=409, text="; ".join(answer.refused[:10]))
    return RedirectResponse(f"/delivery?said={'put_back' if verb == 'retry' else 'dropped'}", 303)


ROUTES = [
    page("/delivery", delivery),
    page("/delivery/letters", letters, methods=["POST"]),
    page("/delivery/{alarm}/{verb}", act, methods=["POST"]),
]
