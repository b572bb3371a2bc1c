"""Whoever has seen a request of an action cannot hide requests of his own behind its mark."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from alarm_mw import asgi, wsgi
from alarm_mw.transports.own_requests import ASGI_HEADER, ENVIRON_NAME, mark

#: Returns the lines that a request raises, which has this mark, method and path.
Ask = Callable[[str, str, str], list[str]]


def ask_wsgi(made: str, method: str, path: str) -> list[str]:
    lines: list[str] = []

    def app(_environ: object, start_response: Any) -> list[bytes]:
        start_response("500 Internal Server Error", [])
        return [b"x"]

    watched = wsgi.AlarmMiddleware(app, rules=[lambda request: request.path], emit=lambda line, _: lines.append(line))
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "HTTP_HOST": "shop", ENVIRON_NAME: made}
    body: Any = watched(environ, lambda *_: lambda _: None)
    assert b"".join(body) == b"x"
    if hasattr(body, "close"):
        body.close()
    return lines


def ask_asgi(made: str, method: str, path: str) -> list[str]:
    lines: list[str] = []

    async def app(_scope: object, _receive: object, send: Any) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})

    async def receive() -> dict[str, object]:
        return {"type": "http.request"}

    async def send(_message: object) -> None:
        pass

    watched = asgi.AlarmMiddleware(app, rules=[lambda request: request.path], emit=lambda line, _: lines.append(line))
    headers = [(b"host", b"shop"), (ASGI_HEADER, made.encode())]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "client": None}
    asyncio.run(watched(scope, receive, send))
    return lines


@pytest.mark.parametrize("ask", [ask_wsgi, ask_asgi])
def test_a_mark_hides_one_request_and_no_other(ask: Ask) -> None:
    """The action's own request is passed over; the same again, and another one with its mark, are not."""
    made = mark("1.a", "POST", "shop", b"/hook")
    assert ask(made, "POST", "/steal") == ["/steal"]
    assert ask(made, "GET", "/hook") == ["/hook"]
    assert ask(made, "POST", "/hook") == []
    assert ask(made, "POST", "/hook") == ["/hook"]
