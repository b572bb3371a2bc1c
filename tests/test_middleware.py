"""What both middlewares promise, each driven by hand as its interface has it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, Protocol
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.util import setup_testing_defaults

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from alarm_mw import asgi, wsgi
from alarm_mw.requests import Request, server_error, unfinished_after, unhandled_exception
from alarm_mw.testing import Alarms, RequestRecorder

#: What an application does with a request: it returns status and body, or raises.
Answer = Callable[[], tuple[int, bytes]]


class Interface(Protocol):
    """WSGI or ASGI: how an application is made, and how a server calls one."""

    #: The module with the middleware.
    module: Any

    def app(self, answer: Answer) -> Any:
        """Return an application."""

    def get(self, app: Any, path: str, *, method: str, query: str, headers: Mapping[str, str]) -> bytes:
        """Make a request, and return the body of the response."""


class Wsgi:
    module = wsgi

    def app(self, answer: Answer) -> Any:
        def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            status, body = answer()
            start_response(f"{status} Status", [])
            return [body]

        return app

    def get(self, app: Any, path: str, *, method: str, query: str, headers: Mapping[str, str]) -> bytes:
        environ: WSGIEnvironment = {"SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": query}
        environ.update({f"HTTP_{name.upper()}": value for name, value in headers.items()})
        environ.update(REQUEST_METHOD=method, REMOTE_ADDR="192.0.2.7")
        setup_testing_defaults(environ)
        return b"".join(app(environ, lambda *_: lambda _: None))


class Asgi:
    module = asgi

    def app(self, answer: Answer) -> Any:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            status, body = answer()
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": body})

        return app

    def get(self, app: Any, path: str, *, method: str, query: str, headers: Mapping[str, str]) -> bytes:
        sent: list[bytes] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message.get("body", b""))

        scope: Scope = {"type": "http", "method": method, "path": path, "query_string": query.encode()}
        scope["headers"] = [(name.encode(), value.encode()) for name, value in headers.items()]
        scope["client"] = ("192.0.2.7", 4711)
        asyncio.run(app(scope, receive, send))
        return b"".join(sent)


class Site:
    """An application behind the middleware of one interface."""

    def __init__(self, interface: Interface) -> None:
        self.interface = interface
        self.seen = RequestRecorder()
        self.middleware = interface.module.AlarmMiddleware

    def app(self, answer: Answer = lambda: (200, b"ok")) -> Any:
        return self.interface.app(answer)

    def watched(self, answer: Answer = lambda: (200, b"ok")) -> Any:
        """Return an application whose requests are in `seen`."""
        return self.middleware(self.app(answer), rules=[self.seen.rule], emit=self.seen.emit)

    def get(
        self,
        app: Any,
        path: str = "/",
        *,
        method: str = "GET",
        query: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        return self.interface.get(app, path, method=method, query=query, headers=headers or {})


@pytest.fixture(params=[Wsgi(), Asgi()], ids=["wsgi", "asgi"])
def site(request: pytest.FixtureRequest) -> Site:
    return Site(request.param)


class OwnError(Exception):
    pass


def fail() -> NoReturn:
    raise OwnError("own")


#: A rule for each crash, and one for their share.
CRASHES = """
alarms = { each = "log:", share = "log:" }
rules = [
    { request = { status = "5xx" }, alarms = ["each"] },
    { name = "errors", request = { status = "5xx" }, ratio = ">5%", at_least = 3, within = "1h", alarms = ["share"] },
]
"""


def broken_rule(request: Request) -> NoReturn:
    raise LookupError


def test_a_rule_gets_the_facts_of_the_request(site: Site) -> None:
    """Method, path, status and client are what the server said; there was no exception."""
    site.get(site.watched(), "/a", method="PUT")
    request = site.seen.request
    assert (request.method, request.path, request.status) == ("PUT", "/a", 200)
    assert (request.client, request.exception, request.disconnected) == ("192.0.2.7", None, False)


def test_the_query_string_is_in_no_fact(site: Site) -> None:
    """Secrets in a query string, a header or a cookie do not get into an alarm."""
    site.get(site.watched(), "/a", query="key=s3cret", headers={"authorization": "s3cret", "cookie": "a=s3cret"})
    assert site.seen.request.path == "/a"
    assert site.seen.request.header("cookie") == "a=s3cret"
    assert "s3cret" not in repr(site.seen.request)


def test_an_exception_reaches_the_server_as_it_was(site: Site) -> None:
    """The server gets the very exception, its traceback still ending in the application."""
    error = OwnError("own")

    def answer() -> NoReturn:
        raise error

    with pytest.raises(OwnError) as caught:
        site.get(site.watched(answer))
    assert caught.value is error
    assert traceback.extract_tb(error.__traceback__)[-1].line == "raise error"
    assert error.__context__ is None
    assert site.seen.request.exception is error


def test_a_crash_before_the_response_has_status_500(site: Site) -> None:
    """A server answers it with 500, so a rule for server errors reports it, with the same exception raised on."""
    with pytest.raises(OwnError):
        site.get(site.middleware(site.app(fail), [server_error, site.seen.rule], site.seen.emit), "/a")
    assert [line.splitlines()[0] for line in site.seen.lines] == ["Server error 500 in GET /a"]
    assert site.seen.fields[0]["status"] == "500"
    assert site.seen.request.status == 500


@pytest.mark.parametrize("error", [SystemExit(), asyncio.CancelledError(), ClientDisconnect()])
def test_what_is_no_crash_has_no_status(error: BaseException, site: Site) -> None:
    """A worker's exit, a cancellation and a client that left are no server errors."""

    def answer() -> NoReturn:
        raise error

    with pytest.raises(type(error)):
        site.get(site.middleware(site.app(answer), [server_error, site.seen.rule], site.seen.emit))
    assert site.seen.request.status is None
    assert site.seen.lines == []


def test_a_crash_is_one_alarm(site: Site) -> None:
    """Rules for exceptions and for server errors, side by side, do not both report it."""
    with pytest.raises(OwnError):
        site.get(site.middleware(site.app(fail), [server_error, unhandled_exception], site.seen.emit))
    assert len(site.seen.lines) == 1
    assert site.seen.lines[0].startswith("Unhandled exception in GET /: ")


def test_a_crash_counts_for_conditions_on_the_status(site: Site, tmp_path: Path) -> None:
    """The configuration's rules for 5xx fire once for a crash, and a ratio counts it among all requests."""
    config = tmp_path / "alarms.toml"
    config.write_text(CRASHES)
    with Alarms(config) as alarms:
        for answer in (fail, lambda: (200, b"ok"), lambda: (200, b"ok")):
            with suppress(OwnError):
                site.get(site.middleware(site.app(answer), []), "/a")
        [crash] = alarms.fired("each")
        [share] = alarms.fired("share")
    assert crash.text.startswith("Unhandled exception in GET /a: ")
    assert share.text.startswith("errors: 33.3 % of 3 ")


def test_by_default_an_unhandled_exception_is_reported(site: Site) -> None:
    """Without any rules given, an exception of the application is an alarm."""
    with pytest.raises(OwnError):
        site.get(site.middleware(site.app(fail), emit=site.seen.emit), "/a")
    assert len(site.seen.lines) == 1
    assert site.seen.lines[0].startswith("Unhandled exception in GET /a: ")
    assert site.seen.lines[0].endswith("OwnError: own")


def test_a_broken_rule_does_not_reach_the_request(site: Site) -> None:
    """The response is the same with a rule that fails."""
    assert site.get(site.middleware(site.app(), rules=[broken_rule])) == b"ok"


def test_a_broken_rule_does_not_replace_the_exception(site: Site) -> None:
    """The server gets the application's exception and not the rule's."""
    with pytest.raises(OwnError):
        site.get(site.middleware(site.app(fail), rules=[broken_rule]))


def test_a_newline_in_the_path_forges_no_second_line(site: Site) -> None:
    """A path that decodes to a newline is one line, and shows it."""
    app = site.middleware(site.app(), rules=[lambda request: f"Seen: {request.path}"], emit=site.seen.emit)
    site.get(app, "/a\nTERRIBLE ALARM")
    assert site.seen.lines == [r"Seen: /a\x0aTERRIBLE ALARM"]


def test_a_request_that_does_not_end_is_reported_while_it_runs(site: Site) -> None:
    """One that hangs in the application, or keeps the event loop from running, is reported once by another thread."""
    reported = threading.Event()

    def emit(line: str, fields: Mapping[str, str]) -> None:
        site.seen.emit(line, fields)
        reported.set()

    def answer() -> tuple[int, bytes]:
        assert reported.wait(10)
        return 200, b"ok"

    app = site.middleware(site.app(answer), [unfinished_after(0.05), site.seen.rule], emit)
    assert site.get(app, "/a") == b"ok"
    assert site.seen.lines == ["Request has not ended: GET /a is still running after 0.05 s"]
    assert float(site.seen.fields[0]["duration"]) >= 0.05
    assert (site.seen.request.status, site.seen.request.unfinished_after) == (200, None)


@pytest.mark.parametrize(
    ("method", "path", "lines"),
    [
        ("POST", "/upload", ["TERRIBLE ALARM! An upload has been made!"]),
        ("GET", "/upload", []),
        ("POST", "/other", []),
    ],
)
def test_upload_check_reports_an_upload(method: str, path: str, lines: list[str], site: Site) -> None:
    """A `POST /upload` is the alarm, in exactly these words, and the response stays the same."""
    app = site.interface.module.UploadCheck(site.app(), site.seen.emit)
    assert site.get(app, path, method=method) == b"ok"
    assert site.seen.lines == lines


@pytest.mark.parametrize("number", [-1, 1001, 20.0, "20"])
def test_only_so_many_lines_can_be_remembered(number: Any, site: Site) -> None:
    """What a request keeps is bounded; and what is no number must not be found out by the first request."""
    with pytest.raises(ValueError, match="from 0 to 1000"):
        site.middleware(site.app(), last_lines=number)


def test_the_middleware_does_not_load_starlette(site: Site) -> None:
    """An application on another framework does not pay for Starlette."""
    code = f"import sys, {site.interface.module.__name__}; sys.exit('starlette' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False, timeout=60).returncode == 0
