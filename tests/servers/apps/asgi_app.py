"""An ASGI application, on Starlette."""

from __future__ import annotations

import voices
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from alarm_mw.asgi import AlarmMiddleware

voices.configure()


async def answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse(voices.answer(request.url.path))


app = Starlette(
    routes=[Route("/{path:path}", answer)],
    middleware=[Middleware(AlarmMiddleware, rules=voices.RULES)],
)
