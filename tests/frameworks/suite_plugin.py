"""A pytest plugin for frameworks' own suites: writes down each outcome, and may put the middleware around all apps.

``SUITE_REPORT`` names the file to write, ``SUITE_WRAPPED`` says whether apps are wrapped: twice, once as by default and
once with everything that the middleware can be asked for. It runs in the framework's suite, not in ours.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import inspect
import json
import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

import alarm_mw
from alarm_mw import asgi, wsgi
from alarm_mw.engine.request_rules import Decision
from alarm_mw.model.types import RequestConditions
from alarm_mw.requests import Request, client_left, server_error, slower_than, unfinished_after, unhandled_exception
from alarm_mw.testing import Alarms

#: Flask's suite was written for a pytest that had it under this name.
_MONKEYPATCH: Any = importlib.import_module("_pytest.monkeypatch")
_MONKEYPATCH.notset = _MONKEYPATCH.NOTSET

_outcomes: dict[str, str] = {}
_seen: dict[str, int] = {"requests": 0, "facts": 0}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep a test's outcome: the first of its phases that did not pass, or `passed`."""
    expected = "x" if hasattr(report, "wasxfail") else ""
    if _outcomes.get(report.nodeid, "passed") == "passed":
        _outcomes[report.nodeid] = expected + report.outcome


def pytest_sessionfinish() -> None:
    Path(os.environ["SUITE_REPORT"]).write_text(json.dumps({"outcomes": _outcomes, **_seen}), encoding="utf-8")


def _count(request: Request) -> None:
    """Look at every fact, as a rule may."""
    _seen["requests"] += 1
    _seen["facts"] += len(repr(request)) + len(request.request_id) + (request.request_size or 0)


def _discard(line: str, _: object) -> None:
    line.encode()


RULES = (_count, client_left, unhandled_exception, server_error, slower_than(60), unfinished_after(60))
SIZES = Decision([RequestConditions(response_larger_than=1, request_larger_than=1)])


def around_wsgi(app: WSGIApplication) -> WSGIApplication:
    """Return the app in two middlewares, of which the outer one looks closely."""
    outer = wsgi.AlarmMiddleware(wsgi.AlarmMiddleware(app, emit=_discard), RULES, _discard, last_lines=20)
    outer.rules.follow(SIZES)
    return outer


def around_asgi(app: Any) -> Any:
    """Return the app in two middlewares, of which the outer one looks closely."""
    outer = asgi.AlarmMiddleware(asgi.AlarmMiddleware(app, emit=_discard), RULES, _discard, last_lines=20)
    outer.rules.follow(SIZES)
    return outer


def _wrap_werkzeug() -> None:
    """Whatever a test calls through Werkzeug's client or `run_wsgi_app`."""
    module: Any = importlib.import_module("werkzeug.test")
    run = module.run_wsgi_app

    @functools.wraps(run)
    def run_wrapped(app: WSGIApplication, environ: WSGIEnvironment, buffered: bool = False) -> Any:  # noqa: FBT002  # Werkzeug's
        return run(around_wsgi(app), environ, buffered)

    module.run_wsgi_app = run_wrapped


def _wrap_flask() -> None:
    """Every Flask app, by whatever it is called."""
    flask = importlib.import_module("flask")

    def call(self: Any, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return around_wsgi(self.wsgi_app)(environ, start_response)

    flask.Flask.__call__ = call


def _wrap_starlette() -> None:
    """Every Starlette app, and whatever its test client calls."""
    single = importlib.import_module("asgiref.compatibility").guarantee_single_callable
    client = importlib.import_module("starlette.testclient")

    def around(app: Any) -> Any:
        is_endpoint = inspect.isclass(app) and hasattr(app, "__await__")  # a class whose call takes all three arguments
        return around_asgi(app if is_endpoint else single(app))

    _wrap_asgi_class(importlib.import_module("starlette.applications").Starlette)
    _wrap_given(client.TestClient, "__init__", around)


def _wrap_wsgi_class(of: Any) -> None:
    """Every object of a class whose objects are WSGI apps."""
    call: Callable[..., Iterable[bytes]] = of.__call__

    @functools.wraps(call)
    def call_wrapped(self: Any, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return around_wsgi(functools.partial(call, self))(environ, start_response)

    of.__call__ = call_wrapped


def _wrap_asgi_class(of: Any) -> None:
    """Every object of a class whose objects are ASGI apps."""
    call: Callable[..., Awaitable[None]] = of.__call__

    @functools.wraps(call)
    async def call_wrapped(self: Any, scope: Any, receive: Any, send: Any) -> None:
        await around_asgi(functools.partial(call, self))(scope, receive, send)

    of.__call__ = call_wrapped


def _wrap_given(of: Any, method: str, around: Callable[[Any], Any]) -> None:
    """Every app that is given to a method as its first argument."""
    given = getattr(of, method)

    @functools.wraps(given)
    def with_wrapped(self: Any, app: Any, *rest: Any, **options: Any) -> Any:
        return given(self, around(app), *rest, **options)

    setattr(of, method, with_wrapped)


def _wrap_falcon() -> None:
    """Every Falcon app, WSGI's and ASGI's."""
    _wrap_wsgi_class(importlib.import_module("falcon").App)
    _wrap_asgi_class(importlib.import_module("falcon.asgi").App)


def _wrap_webob() -> None:
    """Every response, which is an app as well, and whatever a request is sent to."""
    webob = importlib.import_module("webob")
    _wrap_wsgi_class(webob.Response)
    _wrap_given(webob.Request, "call_application", around_wsgi)


def _wrap_bottle() -> None:
    """Every Bottle app."""
    _wrap_wsgi_class(importlib.import_module("bottle").Bottle)


def _wrap_a2wsgi() -> None:
    """Wrap the apps on both sides of the bridges between WSGI and ASGI."""
    a2wsgi = importlib.import_module("a2wsgi")
    _wrap_given(a2wsgi.WSGIMiddleware, "__init__", around_wsgi)
    _wrap_asgi_class(a2wsgi.WSGIMiddleware)
    _wrap_given(a2wsgi.ASGIMiddleware, "__init__", around_asgi)
    _wrap_wsgi_class(a2wsgi.ASGIMiddleware)


def _wrap_asgiref() -> None:
    """Wrap the app inside of the bridge from WSGI, and whatever a test communicates with."""
    single = importlib.import_module("asgiref.compatibility").guarantee_single_callable
    bridge = importlib.import_module("asgiref.wsgi").WsgiToAsgi
    communicator = importlib.import_module("asgiref.testing").ApplicationCommunicator
    _wrap_given(bridge, "__init__", around_wsgi)
    _wrap_given(communicator, "__init__", lambda app: around_asgi(single(app)))


class _CountingHandler(alarm_mw.AlarmHandler):
    """Counts the records that have come through."""

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        _seen["requests"] += 1


def _put_handler_first() -> None:
    """Put the handler before all others of the root logger, with a rule for every line: each record is formatted."""
    tests: Any = importlib.import_module("test.test_logging")
    begin: Callable[[Any], None] = tests.BaseTest.setUp
    alarms = Alarms(log_alarms=["a ."], alarm_freq=0)
    alarms.__enter__()
    atexit.register(alarms.__exit__, None, None, None)

    def begin_with_handler(self: Any) -> None:
        begin(self)
        logging.root.handlers.insert(0, _CountingHandler())

    tests.BaseTest.setUp = begin_with_handler


_WRAP = {
    "logging": [_put_handler_first],
    "werkzeug": [_wrap_werkzeug],
    "flask": [_wrap_werkzeug, _wrap_flask],
    "starlette": [_wrap_starlette],
    "falcon": [_wrap_falcon],
    "webob": [_wrap_webob],
    "bottle": [_wrap_bottle],
    "a2wsgi": [_wrap_a2wsgi],
    "asgiref": [_wrap_asgiref],
}

for wrap in _WRAP.get(os.environ["SUITE_WRAPPED"], []):
    wrap()
