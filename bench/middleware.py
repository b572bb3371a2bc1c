"""What a middleware adds to a request, in process: ours beside a pass-through, and beside others that are installed.

``python bench/middleware.py``, with the options of `harness`. All contestants take turns in one process, round by
round, around an app that answers at once; the server is a loop. Told are microseconds that each adds to the bare
application. None of the ten rules matches.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from time import perf_counter
from typing import Any

from harness import Case, Metric, Options, Section, run
from starlette.middleware.base import BaseHTTPMiddleware

from alarm_mw import asgi, wsgi
from alarm_mw.engine.request_rules import Decision
from alarm_mw.model.types import RequestConditions
from alarm_mw.requests import client_left, server_error, slower_than, unhandled_exception

METRICS = {"request": Metric("µs a request")}
#: Requests of a round: few, so that some rounds are not interrupted by anything.
REQUESTS = 500

TEN_RULES = Decision(
    [
        RequestConditions(methods=("POST",), path="^/upload$"),
        RequestConditions(methods=("DELETE",), path="^/orders/"),
        RequestConditions(methods=("POST", "PUT"), path="^/admin"),
        RequestConditions(statuses=((500, 599),)),
        RequestConditions(statuses=((429, 429),)),
        RequestConditions(slower_than=2.0),
        RequestConditions(slower_than=0.5, path="^/pay"),
        RequestConditions(exception=""),
        RequestConditions(exception="Timeout"),
        RequestConditions(methods=("PUT",), path="/secret"),
    ]
)
SIZES = Decision([*TEN_RULES.conditions, RequestConditions(request_larger_than=10_000_000)])

HEADERS = {
    "host": "shop.example",
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64)",
    "accept": "*/*",
    "accept-encoding": "gzip, deflate, br",
    "cookie": "session=0123456789abcdef",
    "connection": "keep-alive",
}


def with_rules(middleware: Any, decision: Decision) -> Any:
    """Return the middleware as a configuration with these conditions would have it."""
    middleware.rules.follow(decision)
    return middleware


# --- WSGI ---

ENVIRON: dict[str, Any] = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "PATH_INFO": "/orders/42",
    "QUERY_STRING": "",
    "SERVER_NAME": "shop.example",
    "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "192.0.2.7",
    "wsgi.url_scheme": "http",
    **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in HEADERS.items()},
}


def wsgi_app(environ: Any, start_response: Any) -> Iterable[bytes]:
    """Answer at once."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


def wsgi_pass_through(app: Any) -> Any:
    """Do the least that sees a status."""

    def middleware(environ: Any, start_response: Any) -> Iterable[bytes]:
        def start(status: str, headers: Any, exc_info: Any = None) -> Any:
            return start_response(status, headers)

        answer: Iterable[bytes] = app(environ, start)
        return answer

    return middleware


def serve_wsgi(app: Any) -> float:
    """Return the microseconds of a request."""

    def start_response(status: str, headers: Any, exc_info: Any = None) -> None: ...

    began = perf_counter()
    for _ in range(REQUESTS):
        for _chunk in app(ENVIRON, start_response):
            pass
    return (perf_counter() - began) / REQUESTS * 1e6


# --- ASGI ---

SCOPE: dict[str, Any] = {
    "type": "http",
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/orders/42",
    "raw_path": b"/orders/42",
    "root_path": "",
    "query_string": b"",
    "headers": [(name.encode(), value.encode()) for name, value in HEADERS.items()],
    "client": ("192.0.2.7", 4711),
    "server": ("shop.example", 80),
}
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
BODY = {"type": "http.response.body", "body": b"ok"}


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    """Answer at once."""
    await send(START)
    await send(BODY)


def asgi_pass_through(app: Any) -> Any:
    """Do the least that sees a status."""

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        async def watch(message: Any) -> None:
            await send(message)

        await app(scope, receive, watch)

    return middleware


def serve_asgi(app: Any) -> float:
    """Return the microseconds of a request."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None: ...

    async def loop() -> float:
        began = perf_counter()
        for _ in range(REQUESTS):
            await app(SCOPE, receive, send)
        return (perf_counter() - began) / REQUESTS * 1e6

    return asyncio.run(loop())


# --- contestants ---

OWN_RULES = [unhandled_exception, server_error, slower_than(2.0), client_left]


def ours(module: Any, app: Any) -> dict[str, Any]:
    """Return our middleware with rules of both kinds, and with what has its price."""
    middleware = module.AlarmMiddleware
    counted = Decision([RequestConditions(response_larger_than=10_000_000)])
    return {
        "ours, default rule": middleware(app),
        "ours, 10 configured rules": with_rules(middleware(app), TEN_RULES),
        "ours, one on the request's size": with_rules(middleware(app), SIZES),
        "ours, 4 functions": middleware(app, OWN_RULES),
        "ours, response bytes counted": with_rules(middleware(app), counted),
        "ours, last_lines=20": middleware(app, last_lines=20),
    }


def others(kind: str, app: Any) -> dict[str, Any]:
    """Return the peers that are installed."""
    found: dict[str, Any] = {}
    for name, module, attribute in (
        ("sentry-sdk", f"sentry_sdk.integrations.{kind}", f"Sentry{kind.capitalize()}Middleware"),
        ("opentelemetry", f"opentelemetry.instrumentation.{kind}", "OpenTelemetryMiddleware"),
    ):
        try:
            found[name] = getattr(importlib.import_module(module), attribute)(app)
        except ImportError:
            continue
    if kind == "asgi":
        found["Starlette's BaseHTTPMiddleware"] = BaseHTTPMiddleware(app, dispatch=pass_on)
    return found


async def pass_on(request: Any, call_next: Any) -> Any:
    """Do nothing, in Starlette's way."""
    return await call_next(request)


def sections(options: Options) -> Iterator[Section]:
    """Compare both kinds."""
    for kind, serve, pass_through, app, module in (
        ("WSGI", serve_wsgi, wsgi_pass_through, wsgi_app, wsgi),
        ("ASGI", serve_asgi, asgi_pass_through, asgi_app, asgi),
    ):
        contestants = {"bare app": app, "pass-through": pass_through(app), **ours(module, app)}
        peers = others(kind.lower(), app)
        cases = [Case(name, partial(one_round, serve, each)) for name, each in {**contestants, **peers}.items()]
        notes = [f"{name} is not installed" for name in ("sentry-sdk", "opentelemetry") if name not in peers]
        title = f"A request through {kind} middleware, added to the bare app"
        yield Section(title, METRICS, cases, "pass-through", base="bare app", warm_up=2, rounds=300, notes=notes)


def one_round(serve: Callable[[Any], float], app: Any) -> dict[str, float | None]:
    """Return the figure of a round."""
    return {"request": serve(app)}


if __name__ == "__main__":
    run("middleware", sections, packages=["sentry-sdk", "opentelemetry-instrumentation"])
