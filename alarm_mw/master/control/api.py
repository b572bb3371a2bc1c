"""The control API of a master: status, reload, silences, dead letters, metrics. Import it with the first request."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from alarm_mw.engine.incidents.measures.heartbeat import Beat
from alarm_mw.master.control.incidents import IncidentOrder
from alarm_mw.master.control.prometheus import CONTENT_TYPE
from alarm_mw.master.control.silences import SilenceOrder
from alarm_mw.master.control.status import Answers

#: Bytes that an order about dead letters may have.
MAX_BODY = 1024 * 1024


def control_routes(answers: Answers) -> list[Route]:
    """Return the control API."""
    api = _ControlApi(answers)
    return [
        Route("/status", api.status),
        _metrics_route(answers.metrics),
        Route("/reload", api.reload, methods=["POST"]),
        Route("/silences", api.silences),
        Route("/silences", api.put_silence, methods=["POST"]),
        Route("/silences", api.expire_silences, methods=["DELETE"]),
        Route("/dead", api.dead, methods=["POST"]),
        Route("/incidents", api.incidents),
        Route("/incidents", api.order, methods=["POST"]),
        Route("/history", api.history),
        Route("/heartbeat", api.heartbeat, methods=["POST"]),
        Route("/login-url", api.login, methods=["POST"]),
    ]


def metrics_app(render_metrics: Callable[[], bytes]) -> Starlette:
    """Return what shows metrics, and nothing else."""
    return Starlette(routes=[_metrics_route(render_metrics)])


class _ControlApi:
    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    async def status(self, _: Request) -> JSONResponse:
        return JSONResponse(await asyncio.to_thread(self._answers.status))

    async def reload(self, _: Request) -> JSONResponse:
        return JSONResponse(await self._answers.reload())

    async def silences(self, request: Request) -> JSONResponse:
        is_all = request.query_params.get("all") == "1"
        return JSONResponse(await asyncio.to_thread(self._answers.silences, is_all))

    async def put_silence(self, request: Request) -> JSONResponse:
        asked = request.query_params
        try:
            starts = _seconds(asked["starts"]) if "starts" in asked else None
            wanted = SilenceOrder(
                tuple(asked.getlist("target")),
                _seconds(asked["ends"]),
                starts,
                _user(request),
                asked.get("comment", ""),
                asked.get("id", ""),
            )
        except (KeyError, ValueError):
            return JSONResponse({"error": "expected target, starts and ends"}, 400)
        try:
            return JSONResponse(await asyncio.to_thread(self._answers.put_silence, wanted))
        except (ValueError, LookupError) as error:
            return _refused(error)

    async def expire_silences(self, request: Request) -> JSONResponse:
        names = request.query_params.getlist("target")
        try:
            return JSONResponse(await asyncio.to_thread(self._answers.expire_silences, names))
        except LookupError as error:
            return _refused(error)

    async def incidents(self, request: Request) -> Response:
        is_all = request.query_params.get("all") == "1"
        found = await asyncio.to_thread(self._answers.incidents, is_all)
        return Response(found, media_type="application/json")

    async def history(self, request: Request) -> JSONResponse:
        try:
            since = _seconds(request.query_params.get("since", "0"))
        except ValueError:
            return JSONResponse({"error": "expected seconds since the epoch"}, 400)
        return JSONResponse(await asyncio.to_thread(self._answers.history, since))

    async def order(self, request: Request) -> JSONResponse:
        asked = request.query_params
        try:
            seconds = _seconds(asked["seconds"]) if "seconds" in asked else None
            comment = asked.get("comment", "")
            wanted = IncidentOrder(asked["verb"], tuple(asked.getlist("id")), _user(request), seconds, comment)
        except (KeyError, ValueError):
            return JSONResponse({"error": "expected verb, id and seconds"}, 400)
        return JSONResponse(await asyncio.to_thread(self._answers.order, wanted))

    async def heartbeat(self, request: Request) -> JSONResponse:
        asked = request.query_params
        try:
            every, grace = (float(asked[name]) if name in asked else None for name in ("every", "grace"))
            beat = Beat(asked.get("name", ""), every, grace, asked.get("failed"), "last" in asked)
            return JSONResponse({"expected": await asyncio.to_thread(self._answers.heartbeat, beat)})
        except ValueError as error:
            return _refused(error)

    async def login(self, request: Request) -> JSONResponse:
        """Return a URL that logs the caller in to the page."""
        user = request.client.host if request.client is not None else ""
        role = "read" if request.query_params.get("role") == "read" else "act"
        return JSONResponse({"url": await asyncio.to_thread(self._answers.login, user, role)})

    async def dead(self, request: Request) -> Response:
        body = bytearray()
        try:
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY:
                    return JSONResponse({"error": f"more than {MAX_BODY} bytes"}, 413)
        except ClientDisconnect:
            return Response(status_code=400)
        done = await asyncio.to_thread(self._answers.dead, bytes(body))
        return Response(done, media_type="application/json")


def _user(request: Request) -> str:
    """Return who asks: on a unix socket the user's name, as the kernel says."""
    return request.client.host if request.client is not None else ""


def _refused(error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, HTTPStatus.BAD_REQUEST)


def _seconds(text: str) -> float:
    """Return a length of time; raise ValueError for what is none, as NaN, which no later status could show."""
    seconds = float(text)
    if not 0 <= seconds < math.inf:
        raise ValueError("no length of time")
    return seconds


def _metrics_route(render_metrics: Callable[[], bytes]) -> Route:
    async def get_metrics(_: Request) -> Response:
        return Response(await asyncio.to_thread(render_metrics), headers={"Content-Type": CONTENT_TYPE})

    return Route("/metrics", get_metrics)
