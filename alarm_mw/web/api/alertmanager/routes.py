"""The routes of Alertmanager's API v2."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from alarm_mw.engine.matchers import parse_matchers
from alarm_mw.model.version import VERSION
from alarm_mw.texts.facts import rfc3339
from alarm_mw.web.api.alertmanager.alerts import Selection, alerts, external, flag, groups
from alarm_mw.web.api.alertmanager.schema import (
    GettableSilence,
    PostableAlert,
    PostableSilence,
    Receiver,
    SilenceMatcher,
    SilenceStatus,
)
from alarm_mw.web.master import WantedSilence
from alarm_mw.web.security.guards import api, body
from alarm_mw.web.site import caller, site_of

#: Bytes of a request's body.
MAX_BODY = 1024 * 1024

#: The order in which silences are listed.
_STATES = ("active", "pending", "expired")


async def _status(request: Request) -> Response:
    master = site_of(request).master
    names = [alarm.name for alarm in master.settings().alarms] or ["none"]
    receivers = "".join(f"- name: {json.dumps(name)}\n" for name in names)
    version = dict.fromkeys(("revision", "branch", "buildUser", "buildDate", "goVersion"), "")
    return JSONResponse(
        {
            "cluster": {"status": "disabled", "peers": []},
            "versionInfo": {"version": f"alarm_mw {VERSION}", **version},
            # What Alertmanager's clients can read of our configuration: where alerts may go.
            "config": {"original": f"route:\n  receiver: {json.dumps(names[0])}\nreceivers:\n{receivers}"},
            "uptime": rfc3339(master.started),
        }
    )


async def _receivers(request: Request) -> Response:
    return _json([Receiver(alarm.name) for alarm in site_of(request).master.settings().alarms])


async def _alerts(request: Request) -> Response:
    try:
        selection = Selection.of(request.query_params)
    except ValueError as error:
        return _bad(error)
    return _json(await asyncio.to_thread(alerts, site_of(request).master, selection))


async def _post_alerts(request: Request) -> Response:
    try:
        posted = msgspec.json.decode(await body(request, MAX_BODY), type=tuple[PostableAlert, ...])
        now = time.time()
        found = [external(alert, now) for alert in posted]
        unknown = await asyncio.to_thread(site_of(request).master.receive, found)
    except (ValueError, TimeoutError) as error:  # msgspec's is one
        return _bad(error)
    if len(unknown) == len({alert.name for alert in found}) and found:
        return _bad(LookupError(f"no monitor 'alerts' of the configuration takes {', '.join(unknown)}"))
    return Response(status_code=200)


async def _groups(request: Request) -> Response:
    try:
        selection = Selection.of(request.query_params)
    except ValueError as error:
        return _bad(error)
    return _json(groups(await asyncio.to_thread(alerts, site_of(request).master, selection), selection))


async def _silences(request: Request) -> Response:
    asked = request.query_params
    try:
        matchers = parse_matchers(asked.getlist("filter"))
        states = {state for state in _STATES if flag(asked, state)}
    except ValueError as error:
        return _bad(error)
    found = await asyncio.to_thread(site_of(request).master.silences, True)
    shown = [_shown(silence) for silence in sorted(found, key=_place) if silence["state"] in states]
    return _json([each for each in shown if all(matcher.matches(_values(each)) for matcher in matchers)])


def _place(silence: Mapping[str, Any]) -> tuple[int, float]:
    return _STATES.index(silence["state"]), silence["ends"]


def _values(silence: GettableSilence) -> dict[str, str]:
    """Return what filters look at: the values of a silence's matchers, by their names."""
    return {matcher.name: matcher.value for matcher in silence.matchers}


async def _silence(request: Request) -> Response:
    name = request.path_params["name"]
    found = await asyncio.to_thread(site_of(request).master.silences, True)
    silence = next((each for each in found if each["id"] == name), None)
    return Response(status_code=404) if silence is None else _json(_shown(silence))


async def _post_silence(request: Request) -> Response:
    try:
        wanted = msgspec.json.decode(await body(request, MAX_BODY), type=PostableSilence)
        silence = _wanted(wanted, caller(request).name)
        name = await asyncio.to_thread(site_of(request).master.put_silence, silence)
    except LookupError as error:
        return JSONResponse(f"there is no such silence: {error}", 404)
    except (ValueError, TimeoutError) as error:  # msgspec's is one
        return _bad(error)
    return JSONResponse({"silenceID": name})


async def _expire_silence(request: Request) -> Response:
    name = request.path_params["name"]
    try:
        await asyncio.to_thread(site_of(request).master.expire_silences, [name])
    except LookupError as error:
        return JSONResponse(str(error), 404)
    return Response(status_code=200)


def _wanted(silence: PostableSilence, by: str) -> WantedSilence:
    """Return a silence that is wanted; its author is who says so, with the name by which they were let in."""
    starts, ends = silence.starts_at.timestamp(), silence.ends_at.timestamp()
    mark = f" ({by})"
    author = silence.created_by if silence.created_by in {by, ""} else f"{silence.created_by.removesuffix(mark)}{mark}"
    return WantedSilence(
        [matcher.text() for matcher in silence.matchers],
        ends,
        author or by,
        silence.comment,
        starts if starts > time.time() else None,
        silence.id,
    )


def _shown(silence: Mapping[str, Any]) -> GettableSilence:
    return GettableSilence(
        id=silence["id"],
        status=SilenceStatus(silence["state"]),
        matchers=tuple(map(SilenceMatcher.of, parse_matchers(silence["matchers"]))),
        starts_at=rfc3339(silence["starts"]),
        ends_at=rfc3339(silence["ends"]),
        updated_at=rfc3339(silence["updated"]),
        created_by=silence["author"],
        comment=silence["comment"],
    )


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _bad(error: Exception) -> JSONResponse:
    """Return an answer to a request that is wrong: a text, as Alertmanager has it."""
    return JSONResponse(str(error), 400)


ROUTES = [
    api("/api/v2/status", _status),
    api("/api/v2/receivers", _receivers),
    api("/api/v2/alerts", _alerts),
    api("/api/v2/alerts", _post_alerts, methods=["POST"]),
    api("/api/v2/alerts/groups", _groups),
    api("/api/v2/silences", _silences),
    api("/api/v2/silences", _post_silence, methods=["POST"]),
    api("/api/v2/silence/{name}", _silence),
    api("/api/v2/silence/{name}", _expire_silence, methods=["DELETE"]),
]
