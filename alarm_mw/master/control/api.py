"""What only the control socket answers: status, incidents, reload, metrics. Import it with the first request.

All else is the page and its API (`web.app`), which are there as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from alarm_mw.master.control.prometheus import CONTENT_TYPE
from alarm_mw.master.control.status import Answers


class ControlApp:
    """The application of the control socket; loads the page and its API when somebody asks for them."""

    def __init__(self, answers: Answers, make_page: Callable[[], ASGIApp]) -> None:
        routes = _control_routes(answers)
        self._paths = frozenset(route.path for route in routes)
        self._own = Starlette(routes=routes)
        self._make_page = make_page
        self._page: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer (ASGI)."""
        if scope["path"] in self._paths:
            await self._own(scope, receive, send)
            return
        if self._page is None:
            self._page = self._make_page()
        await self._page(scope, receive, send)


def _control_routes(answers: Answers) -> list[Route]:
    api = _ControlApi(answers)
    return [
        Route("/status", api.status),
        _metrics_route(answers.metrics),
        Route("/reload", api.reload, methods=["POST"]),
        Route("/incidents", api.incidents),
        Route("/fleet", api.fleet),
        Route("/heartbeat", api.heartbeat, methods=["POST"]),
        Route("/drilled", api.drilled, methods=["POST"]),
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

    async def incidents(self, request: Request) -> Response:
        is_all = request.query_params.get("all") == "1"
        found = await asyncio.to_thread(self._answers.incidents, is_all)
        return Response(found, media_type="application/json")

    async def fleet(self, _: Request) -> Response:
        return Response(await asyncio.to_thread(self._answers.fleet), media_type="application/json")

    async def heartbeat(self, request: Request) -> JSONResponse:
        from alarm_mw.engine.incidents.measures.heartbeat import Beat  # noqa: PLC0415  # few configurations expect some

        asked = request.query_params
        try:
            every, grace = (float(asked[name]) if name in asked else None for name in ("every", "grace"))
            beat = Beat(asked.get("name", ""), every, grace, asked.get("failed"), "last" in asked)
            return JSONResponse({"expected": await asyncio.to_thread(self._answers.heartbeat, beat)})
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)

    async def drilled(self, request: Request) -> JSONResponse:
        """Take note of the alarms that have delivered a drill."""
        alarms = request.query_params.getlist("alarm")
        return JSONResponse({"watched": await asyncio.to_thread(self._answers.drilled, alarms)})

    async def login(self, request: Request) -> JSONResponse:
        """Return a URL that logs the caller in to the page."""
        user = request.client.host if request.client is not None else ""
        role = "read" if request.query_params.get("role") == "read" else "act"
        return JSONResponse({"url": await asyncio.to_thread(self._answers.login, user, role)})


def _metrics_route(render_metrics: Callable[[], bytes]) -> Route:
    async def get_metrics(_: Request) -> Response:
        return Response(await asyncio.to_thread(render_metrics), headers={"Content-Type": CONTENT_TYPE})

    return Route("/metrics", get_metrics)
