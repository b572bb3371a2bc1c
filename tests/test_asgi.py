"""The ASGI middleware, driven by hand, by Starlette's test client and by uvicorn's own check."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from time import perf_counter
from typing import NoReturn

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from alarm_mw.app.middleware import request_log
from alarm_mw.asgi import AlarmMiddleware, UploadCheck, full_path
from alarm_mw.engine.request_rules import Decision
from alarm_mw.model.types import RequestConditions
from alarm_mw.requests import Emit, Request, client_left, server_error, unhandled_exception
from alarm_mw.testing import RequestRecorder

START: Message = {"type": "http.response.start", "status": 200, "headers": []}
BODY: Message = {"type": "http.response.body", "body": b"ok"}


async def ok(scope: Scope, receive: Receive, send: Send) -> None:
    await send(START)
    await send(BODY)


async def receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def discard(message: Message) -> None: ...


def http_scope(path: str = "/", **more: object) -> Scope:
    return {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b"", **more}


class Seen(RequestRecorder):
    def watch(self, app: ASGIApp) -> AlarmMiddleware:
        return AlarmMiddleware(app, rules=[self.rule], emit=self.emit)


@pytest.fixture
def seen() -> Seen:
    return Seen()


def run(app: ASGIApp, scope: Scope | None = None, send: Send = discard) -> None:
    asyncio.run(app(scope or http_scope(), receive, send))  # type: ignore[arg-type]  # ours are coroutines


def test_the_duration_is_that_of_the_application_in_seconds(seen: Seen) -> None:
    """The duration covers the application's run, and is no longer than the whole call."""
    inside: list[float] = []

    async def timed(scope: Scope, receive: Receive, send: Send) -> None:
        began = perf_counter()
        await ok(scope, receive, send)
        inside.append(perf_counter() - began)

    began = perf_counter()
    run(seen.watch(timed))
    assert inside[0] <= seen.request.duration <= perf_counter() - began


def test_the_application_gets_the_very_scope_and_receive() -> None:
    """Nothing is copied on the way to the application, so that servers can pass things on in the scope."""
    got: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.extend([scope, receive])

    scope = http_scope()
    run(AlarmMiddleware(app), scope)
    assert got[0] is scope
    assert got[1] is receive


HOST = (b"host", b"example.org")
LENGTH = (b"content-length", b"7")


class Once:
    """An iterable that is no iterator, and yet can be read once."""

    def __init__(self, *found: object) -> None:
        self._left = iter(found)

    def __iter__(self) -> Iterator[object]:
        return self._left


@pytest.mark.parametrize("closely", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda: iter([HOST, LENGTH]),
        lambda: Once(HOST, LENGTH),
        lambda: [iter(HOST), iter(LENGTH)],
        lambda: [HOST, iter(LENGTH)],
        lambda: iter([iter(HOST), iter(LENGTH)]),
    ],
)
def test_what_can_be_read_once_reaches_the_application(make: Callable[[], object], closely: bool, seen: Seen) -> None:
    """The specification has any iterable for headers and client: of one that is used up by reading, all is there."""
    got: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, value) for name, value in scope["headers"]]
        got.extend([headers, list(scope["client"]), list(scope["server"])])
        await ok(scope, receive, send)

    watched = seen.watch(app)
    if closely:
        watched.rules.follow(Decision([RequestConditions(request_larger_than=1, response_larger_than=1)]))
    run(watched, http_scope(headers=make(), client=iter(["192.0.2.7", 1]), server=iter(["a", 80])))
    assert got == [[HOST, LENGTH], ["192.0.2.7", 1], ["a", 80]]
    assert seen.request.client == "192.0.2.7"
    assert seen.request.header("host") == "example.org"


@pytest.mark.parametrize(
    "mistake",
    [
        {"headers": None},
        {"headers": 5},
        {"headers": [()]},
        {"headers": [(b"alarm-mw", 5)]},
        {"headers": [(b"content-length", "7")]},
        {"headers": [(b"content-length",)]},
        {"client": 5},
        {"headers": [5]},
    ],
)
def test_a_mistake_of_the_server_is_the_applications_business(mistake: Scope, seen: Seen) -> None:
    """A scope that breaks the specification reaches the application as it is, which may not mind."""
    got: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.append(dict(scope))
        await ok(scope, receive, send)

    watched = seen.watch(app)
    watched.rules.follow(Decision([RequestConditions(request_larger_than=1)]))
    run(watched, http_scope(**mistake))
    assert got == [http_scope(**mistake)]
    assert seen.request.client == ""


@pytest.mark.parametrize("scope", [{}, {"path": "/"}, {"type": None}])
def test_a_scope_without_a_type_is_the_applications_business(scope: Scope, seen: Seen) -> None:
    """What is no HTTP request gets to the application as it is, be it a mistake of the server."""
    got: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.append(scope)

    asyncio.run(seen.watch(app)(scope, receive, discard))
    assert got[0] is scope
    assert seen.requests == []


@pytest.mark.parametrize("kind", ["websocket", "lifespan", "something.new"])
def test_what_is_not_http_is_handed_on_untouched(kind: str, seen: Seen) -> None:
    """WebSockets, the lifespan and types yet to come get the very objects of the server, and no rule is asked."""
    got: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.extend([scope, receive, send])

    scope = {"type": kind}
    run(seen.watch(app), scope)
    assert got[0] is scope
    assert got[1] is receive
    assert got[2] is discard
    assert seen.requests == []


@pytest.mark.parametrize(
    "message",
    [
        {"type": "http.response.pathsend", "path": "/a"},
        {"type": "http.response.zerocopysend", "file": 3},
        {"type": "http.response.trailers", "headers": [], "more_trailers": False},
        {"type": "http.response.early_hint", "links": []},
        {"type": "http.response.push", "path": "/a", "headers": []},
    ],
    ids=lambda message: message["type"],
)
def test_messages_of_extensions_reach_the_server(message: Message, seen: Seen) -> None:
    """The server gets every message as the very object that was sent, in order."""
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for each in (START, BODY, message):
            await send(each)

    async def send(message: Message) -> None:
        sent.append(message)

    run(seen.watch(app), send=send)
    assert [id(each) for each in sent] == [id(START), id(BODY), id(message)]
    assert seen.request.status == 200


class OwnError(Exception):
    pass


async def failing(scope: Scope, receive: Receive, send: Send) -> NoReturn:
    raise OwnError("own")


def test_an_exception_after_the_start_keeps_the_status(seen: Seen) -> None:
    """A response that breaks off is told with the status it began with."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "status": 206})
        raise OwnError

    with pytest.raises(OwnError):
        run(seen.watch(app))
    assert seen.request.status == 206


def test_an_exception_is_not_kept_alive() -> None:
    """What an exception holds is free as soon as the server is done with it, without the garbage collector."""
    gone: list[weakref.ref[BaseException]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        error = OwnError()
        gone.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    async def serve() -> None:
        with suppress(OwnError):
            await AlarmMiddleware(app, emit=lambda *_: None)(http_scope(), receive, discard)

    asyncio.run(serve())
    assert gone[0]() is None


def test_a_cancelled_request_is_cancelled_and_no_alarm(seen: Seen) -> None:
    """Cancelling reaches the application and the server; rules see it, and the default one is silent."""

    async def main() -> None:
        started = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            started.set()
            await asyncio.Event().wait()

        middleware = AlarmMiddleware(seen.watch(app), emit=seen.emit)
        task = asyncio.create_task(middleware(http_scope(), receive, discard))
        await asyncio.wait_for(started.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)

    asyncio.run(main())
    assert isinstance(seen.request.exception, asyncio.CancelledError)
    assert seen.lines == []


async def refuse(message: Message) -> None:
    raise ConnectionResetError("the client has left")


def test_a_client_that_leaves_a_response_is_no_alarm(seen: Seen) -> None:
    """The error that a server raises from `send` after a disconnect passes on and wakes nobody."""
    with pytest.raises(ConnectionResetError):
        run(AlarmMiddleware(seen.watch(ok), emit=seen.emit), send=refuse)
    assert seen.request.disconnected
    assert seen.lines == []


def test_a_client_that_leaves_a_starlette_upload_is_no_alarm(seen: Seen) -> None:
    """Starlette's ClientDisconnect wakes nobody."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await StarletteRequest(scope, gone).body()

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(ClientDisconnect):
        run(AlarmMiddleware(seen.watch(app), emit=seen.emit))
    assert seen.request.disconnected
    assert seen.lines == []


def test_a_failure_of_the_applications_own_network_is_an_alarm(seen: Seen) -> None:
    """A connection error that is not the client's is the application's."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ConnectionResetError("database")

    with pytest.raises(ConnectionResetError):
        run(AlarmMiddleware(app, emit=seen.emit))
    assert len(seen.lines) == 1


def test_a_bug_after_the_client_left_is_an_alarm(seen: Seen) -> None:
    """An application that stumbles over a disconnect has a bug, and it is told."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send(START)
        except OSError as error:
            raise OwnError from error

    with pytest.raises(OwnError):
        run(AlarmMiddleware(app, emit=seen.emit), send=refuse)
    assert len(seen.lines) == 1


def test_requests_at_the_same_time_keep_their_facts_apart(seen: Seen) -> None:
    """Statuses do not get mixed up between requests that run at once."""

    async def main() -> None:
        barrier = asyncio.Barrier(20)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({**START, "status": int(scope["path"])})
            await barrier.wait()

        middleware = seen.watch(app)
        calls = (middleware(http_scope(str(200 + n)), receive, discard) for n in range(20))
        await asyncio.wait_for(asyncio.gather(*calls), 10)

    asyncio.run(main())
    assert sorted(request.path for request in seen.requests) == [str(200 + n) for n in range(20)]
    assert all(request.path == str(request.status) for request in seen.requests)


# --- what is found out only where it is asked for ---


def asking(app: ASGIApp, seen: Seen, *conditions: RequestConditions, last_lines: int = 0) -> AlarmMiddleware:
    """Return the middleware as a configuration with these conditions would have it."""
    middleware = AlarmMiddleware(app, [seen.rule], seen.emit, last_lines=last_lines)
    middleware.rules.follow(Decision(conditions))
    return middleware


SIZES = RequestConditions(response_larger_than=1_000_000)


def sending(*messages: Message) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


@pytest.mark.parametrize(
    ("messages", "size"),
    [
        ([START, BODY], 2),
        ([START, {"type": "http.response.body"}], 0),
        ([START, {**BODY, "more_body": True}, BODY, {"type": "http.response.trailers", "headers": []}], 4),
        ([START, {"type": "http.response.pathsend", "path": "/a"}], None),
        ([START, {"type": "http.response.zerocopysend", "file": 3}], None),
    ],
)
def test_the_bytes_of_the_response_are_counted(messages: list[Message], size: int | None, seen: Seen) -> None:
    """Where a rule asks for the response's size it is that of the body; of a file that the server sends, unknown."""
    sent: list[Message] = []

    async def keep(message: Message) -> None:
        sent.append(message)

    run(asking(sending(*messages), seen, SIZES), send=keep)
    assert [id(message) for message in sent] == [id(message) for message in messages]
    assert seen.request.response_size == size


def test_a_client_that_leaves_while_the_application_waits_for_it_is_told(seen: Seen) -> None:
    """What the server lets the application receive says that the client has left, unless all was sent by then."""

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(START)

    async def complete(scope: Scope, receive: Receive, send: Send) -> None:
        await ok(scope, receive, send)
        await receive()

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    for app in (waiting, complete):
        middleware = AlarmMiddleware(app, [client_left, seen.rule], seen.emit)
        asyncio.run(middleware(http_scope("/a"), gone, discard))
    assert [request.disconnected for request in seen.requests] == [True, False]
    assert seen.lines == ["Client hung up: GET /a"]


def test_a_bug_after_the_client_left_is_an_alarm_also_where_leaving_is_watched(seen: Seen) -> None:
    """That the client has left excuses no exception but those that say so."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise OwnError

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(OwnError):
        asyncio.run(AlarmMiddleware(app, [client_left, unhandled_exception], seen.emit)(http_scope(), gone, discard))
    assert [line.partition(":")[0] for line in seen.lines] == ["Unhandled exception in GET /"]


log = logging.getLogger("tests.asgi")


def test_requests_at_the_same_time_do_not_mix_their_lines(seen: Seen, logged: None) -> None:
    """Each request has its own lines, those of its tasks and of `asyncio.to_thread` included."""

    async def main() -> None:
        barrier = asyncio.Barrier(8)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            log.info("begin %s", scope["path"])
            await barrier.wait()
            await asyncio.to_thread(log.info, "in a thread of %s", scope["path"])
            await asyncio.create_task(in_a_task(scope))
            await ok(scope, receive, send)

        async def in_a_task(scope: Scope) -> None:
            log.info("in a task of %s", scope["path"])

        watched = asking(app, seen, last_lines=20)
        log.info("from outside")
        await asyncio.gather(*(watched(http_scope(f"/{n}"), receive, discard) for n in range(8)))
        log.info("from outside")

    asyncio.run(main())
    assert {request.path: request.last_lines for request in seen.requests} == {
        f"/{n}": f"begin /{n}\nin a thread of /{n}\nin a task of /{n}" for n in range(8)
    }


def test_nothing_is_remembered_where_it_is_not_asked_for(seen: Seen, logged: None) -> None:
    """Without `last_lines`, a request keeps nothing of what it logs."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        log.info("something")
        assert request_log.current.get() is None

    run(seen.watch(app))
    assert seen.request.last_lines == ""


def test_a_rule_may_ask_for_a_header(seen: Seen) -> None:
    """Headers are found by their names in small letters, several of one name as one, bytes as latin-1."""
    headers = [(b"x-a", b"1"), (b"x-a", b"2"), (b"x-b", b"\xe4"), (b"authorization", b"s3cret")]
    values: list[str | None] = []

    def rule(request: Request) -> None:
        values.extend(request.header(name) for name in ("x-a", "x-b", "x-c", "\u20ac"))
        assert "s3cret" not in repr(request)

    run(AlarmMiddleware(ok, [rule], seen.emit), http_scope(headers=headers))
    assert values == ["1, 2", "ä", None, None]


# --- a Starlette application ---


async def stream(request: StarletteRequest) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        for n in range(3):
            yield b"%d\n" % n

    return StreamingResponse(chunks())


async def with_background(request: StarletteRequest) -> Response:
    return PlainTextResponse("ok", background=BackgroundTask(fail))


async def fail() -> None:
    raise OwnError("in the background")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


def hello(request: StarletteRequest) -> Response:
    return PlainTextResponse("hello")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
    app.state.events = ["up"]
    yield {"given": "by lifespan"}
    app.state.events.append("down")


def starlette(seen: Seen) -> Starlette:
    return Starlette(
        routes=[
            Route("/hello", hello),
            Route("/stream", stream),
            Route("/background", with_background),
            WebSocketRoute("/echo", echo),
        ],
        middleware=[Middleware(AlarmMiddleware, rules=[seen.rule], emit=seen.emit)],
        lifespan=lifespan,
    )


def test_a_streamed_body_passes_in_its_chunks(seen: Seen) -> None:
    """A streaming response comes through whole, and is one request."""
    assert TestClient(starlette(seen)).get("/stream").text == "0\n1\n2\n"
    assert seen.request.status == 200


def test_a_background_task_belongs_to_its_request(seen: Seen) -> None:
    """An exception in a background task is told, with the status that the client got."""
    with pytest.raises(OwnError):
        TestClient(starlette(seen)).get("/background")
    assert isinstance(seen.request.exception, OwnError)
    assert seen.request.status == 200


@pytest.mark.parametrize("is_outside", [False, True])
def test_a_crash_in_a_view_is_one_server_error(is_outside: bool, seen: Seen) -> None:
    """The client gets 500 and the rule reports it, whether Starlette's own handler is outside or inside."""

    def crash(_request: StarletteRequest) -> Response:
        raise OwnError("in a view")

    app = Starlette(routes=[Route("/", crash)])
    wrapped: ASGIApp = app
    if is_outside:
        wrapped = AlarmMiddleware(app, rules=[server_error], emit=seen.emit)
    else:
        app.add_middleware(AlarmMiddleware, rules=[server_error], emit=seen.emit)
    assert TestClient(wrapped, raise_server_exceptions=False).get("/").status_code == 500
    assert [line.splitlines()[0] for line in seen.lines] == ["Server error 500 in GET /"]


def test_websocket_and_lifespan_work_behind_the_middleware(seen: Seen) -> None:
    """An application with both does not notice the middleware."""
    app = starlette(seen)
    with TestClient(app) as client, client.websocket_connect("/echo") as websocket:
        websocket.send_text("hi")
        assert websocket.receive_text() == "hi"
    assert app.state.events == ["up", "down"]
    assert seen.requests == []


def test_the_path_of_a_mounted_application_is_whole(seen: Seen) -> None:
    """Inside mounts, and behind a proxy's prefix, the path is what the client asked for."""
    inner = Mount("/inner", routes=[Route("/hello", hello)], middleware=[Middleware(AlarmMiddleware, [seen.rule])])
    app = Starlette(routes=[Mount("/outer", routes=[inner])])
    assert TestClient(app, root_path="/proxy").get("/proxy/outer/inner/hello").text == "hello"
    assert seen.request.path == "/proxy/outer/inner/hello"


def test_the_path_is_read_before_a_router_changes_the_scope(seen: Seen) -> None:
    """A router that rewrites the scope in place does not change what the rules see."""

    async def rewriting(scope: Scope, receive: Receive, send: Send) -> None:
        scope.update(path="/rest", root_path="/elsewhere", method="HEAD")
        await ok(scope, receive, send)

    run(seen.watch(rewriting), http_scope("/a"))
    assert (seen.request.method, seen.request.path) == ("GET", "/a")


@pytest.mark.parametrize(
    ("root", "path", "whole"),
    [
        ("", "/a", "/a"),
        ("/r", "/r/a", "/r/a"),
        ("/r", "/r", "/r"),
        ("/r", "/a", "/r/a"),
        ("/r", "/rest", "/r/rest"),
        ("/r/", "/r/a", "/r/a"),
        (None, "/a", "/a"),
    ],
)
def test_the_path_holds_its_root_path_once(root: str | None, path: str, whole: str) -> None:
    """Whether or not a server puts the root path in front of the path, it is there once."""
    assert full_path(http_scope(path, root_path=root)) == whole


SEGMENT = st.text(st.characters(exclude_characters="/"), min_size=1)


@given(st.lists(SEGMENT, max_size=3), st.lists(SEGMENT, max_size=3))
def test_the_whole_path_lies_below_its_root(roots: list[str], rest: list[str]) -> None:
    """For any characters, the specification's path is kept as it is, and any other is put below its root."""
    root, path = "".join(f"/{part}" for part in roots), "".join(f"/{part}" for part in rest)
    assert full_path(http_scope(root + path, root_path=root)) == root + path
    whole = full_path(http_scope(path, root_path=root))
    assert whole == root or whole.startswith(f"{root}/")
    assert whole.endswith(path)


@pytest.mark.parametrize("client", [None, (None, None), ("", 0), []])
def test_an_unknown_client_is_empty(client: object, seen: Seen) -> None:
    """A server behind a unix socket knows no client's address."""
    run(seen.watch(ok), http_scope(client=client))
    assert seen.request.client == ""


def test_emit_may_be_any_callable() -> None:
    """`emit` may return what it likes."""
    emit: Emit = lambda line, _: len(line)  # noqa: E731  # the type is what is tested
    assert TestClient(UploadCheck(ok, emit)).post("/upload").text == "ok"


def test_uvicorn_takes_the_middleware_for_asgi_3() -> None:
    """A server that looks at the application to find its interface finds ASGI 3."""
    config = uvicorn.Config(AlarmMiddleware(ok), log_config=None)
    config.load()
    assert config.interface == "asgi3"
