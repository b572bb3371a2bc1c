"""Health checks and metrics, for monitoring systems."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from alarm_mw.web.security.guards import api, public
from alarm_mw.web.site import site_of

#: Prometheus' text format.
_METRICS = "text/plain; version=0.0.4; charset=utf-8"


async def _healthy(_: Request) -> Response:
    return PlainTextResponse("OK\n")


async def _metrics(request: Request) -> Response:
    found = await asyncio.to_thread(site_of(request).master.metrics)
    return Response(found, headers={"Content-Type": _METRICS})


ROUTES = [
    public("/-/healthy", _healthy),
    public("/-/ready", _healthy),
    api("/metrics", _metrics),
]
