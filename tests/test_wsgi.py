"""The WSGI middleware, driven by hand, by wsgiref's server and by Flask, and checked by wsgiref.validate."""

from __future__ import annotations

import contextvars
import io
import logging
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import perf_counter
from typing import Any, NoReturn
from wsgiref.handlers import SimpleHandler
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.util import FileWrapper, setup_testing_defaults, shift_path_info
from wsgiref.validate import validator

import flask
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.engine.request_rules import Decision
from alarm_mw.model.types import RequestConditions
from alarm_mw.requests import Request, client_left
from alarm_mw.testing import RequestRecorder
from alarm_mw.wsgi import AlarmMiddleware, full_path, status_code


def headers() -> list[tuple[str, str]]:
    """Return a new list: a server may add to it."""
    return [("Content-Type", "text/plain")]


def ok(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", headers())
    return [b"ok"]


def lazy(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    start_response("202 Accepted", headers())
    yield b"o"
    yield b"k"


class OwnError(Exception):
    pass


def failing(environ: WSGIEnvironment, start_response: StartResponse) -> NoReturn:
    raise OwnError("own")


class Body:
    """A body that counts how often it is closed, and fails where it is told to."""

    def __init__(self, *, fails_at: str = "") -> None:
        self.fails_at = fails_at
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        yield b"first"
        if self.fails_at == "iteration":
            raise OwnError("iteration")
        yield b"second"

    def close(self) -> None:
        self.closed += 1
        if self.fails_at == "close":
            raise OwnError("close")


def returning(body: Iterable[bytes]) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", headers())
        return body

    return app


class Seen(RequestRecorder):
    def watch(self, app: WSGIApplication) -> AlarmMiddleware:
        return AlarmMiddleware(app, rules=[self.rule], emit=self.emit)


@pytest.fixture
def seen() -> Seen:
    return Seen()


def environ_of(path: str = "/", **more: object) -> WSGIEnvironment:
    environ: WSGIEnvironment = {"SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": "", "REMOTE_ADDR": "192.0.2.7"}
    environ.update({name.replace("__", "."): value for name, value in more.items()})
    setup_testing_defaults(environ)
    return environ


def start(status: str, headers: list[tuple[str, str]], exc_info: object = None, /) -> Callable[[bytes], object]:
    return lambda _: None


def call(app: WSGIApplication, environ: WSGIEnvironment | None = None) -> Iterable[bytes]:
    return app(environ or environ_of(), start)


def close(body: Iterable[bytes]) -> None:
    body.close()  # type: ignore[attr-defined]  # the bodies under test have one


class Server(SimpleHandler):
    """wsgiref's server for one request, with a sendfile that says it was used, and without a date."""

    origin_server = False
    sent_file = False
    failure: object = None

    def sendfile(self) -> bool:
        self.sent_file = True
        return False

    def log_exception(self, exc_info: object) -> None:
        self.failure = exc_info


def serve(app: WSGIApplication, environ: WSGIEnvironment | None = None) -> tuple[Server, str]:
    output = io.BytesIO()
    server = Server(io.BytesIO(), output, io.StringIO(), environ or environ_of())
    server.run(app)
    return server, output.getvalue().decode()


def test_the_duration_lasts_until_the_body_is_closed_in_seconds(seen: Seen) -> None:
    """The duration covers the making of the body, and is no longer than the whole exchange."""
    inside: list[float] = []

    def timed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        began = perf_counter()
        yield from lazy(environ, start_response)
        inside.append(perf_counter() - began)

    began = perf_counter()
    serve(seen.watch(timed))
    assert inside[0] <= seen.request.duration <= perf_counter() - began


@pytest.mark.parametrize("app", [ok, lazy, returning(Body()), returning((b"a", b"b"))])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_the_middleware_keeps_to_pep_3333_on_both_sides(app: WSGIApplication, method: str, seen: Seen) -> None:
    """wsgiref.validate has nothing to complain about around the middleware and inside of it."""
    checked = validator(seen.watch(validator(app)))
    _, with_it = serve(checked, environ_of(REQUEST_METHOD=method))
    _, without = serve(app, environ_of(REQUEST_METHOD=method))
    assert with_it.partition("\r\n\r\n")[2] == without.partition("\r\n\r\n")[2]
    assert seen.request.exception is None
    assert "200" in with_it or "202" in with_it


@pytest.mark.parametrize("app", [ok, lazy, returning(Body())])
def test_the_response_is_the_same_to_the_byte(app: WSGIApplication, seen: Seen) -> None:
    """A client cannot tell that there is a middleware: the Content-Length that a server computes stays, too."""
    assert serve(seen.watch(app))[1] == serve(app)[1]
    assert ("Content-Length: 2" in serve(seen.watch(app))[1]) == (app is ok)


def test_the_application_gets_the_very_environ() -> None:
    """Nothing is copied on the way to the application, so that servers and frameworks can pass things on in it."""
    got: list[object] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        got.append(environ)
        return ok(environ, start_response)

    environ = environ_of()
    call(AlarmMiddleware(app), environ)
    assert got[0] is environ


@pytest.mark.parametrize("body", [[b"ok"], (b"ok",), []])
def test_a_list_reaches_the_server_as_it_is(body: list[bytes] | tuple[bytes, ...], seen: Seen) -> None:
    """Nothing can happen after a list or a tuple was returned: the server gets it, and the request has ended."""
    assert call(seen.watch(returning(body))) is body
    assert seen.request.status == 200


def test_a_request_ends_when_its_body_is_closed(seen: Seen) -> None:
    """Neither returning a body nor reading it to its end is the end of the request; closing it is, once."""
    body = Body()
    watched = call(seen.watch(returning(body)))
    assert list(watched) == [b"first", b"second"]
    assert seen.requests == []
    close(watched)
    assert body.closed == 1
    assert seen.request.exception is None


def test_closing_twice_ends_the_request_once(seen: Seen) -> None:
    """A second close is handed on, and is no second request."""
    body = Body()
    watched = call(seen.watch(returning(body)))
    close(watched)
    close(watched)
    assert body.closed == 2
    assert len(seen.requests) == 1


def test_a_status_that_comes_with_the_first_chunk_is_seen(seen: Seen) -> None:
    """An application that starts its response only when it is read has a status, too."""
    serve(seen.watch(lazy))
    assert seen.request.status == 202


def test_a_body_that_is_never_read_ends_when_closed(seen: Seen) -> None:
    """A server that closes the body without reading it, as for HEAD, ends the request."""
    watched = call(seen.watch(returning(Body())))
    close(watched)
    assert seen.request.status == 200


def test_a_body_that_is_dropped_halfway_ends_the_request(seen: Seen) -> None:
    """A server that gives up reading, since the client left, closes the body once; that is no failure."""
    body = Body()
    watched = call(seen.watch(returning(body)))
    chunks = iter(watched)
    next(chunks)
    del chunks
    assert body.closed == 0
    close(watched)
    assert body.closed == 1
    assert seen.request.exception is None


class ClosingIterator:
    """An iterator with a close of its own, as Werkzeug's."""

    def __init__(self) -> None:
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return b"more"

    def close(self) -> None:
        self.closed += 1


def test_an_iterator_is_closed_by_the_server_alone(seen: Seen) -> None:
    """Giving up on the chunks does not close the application's iterator a second time."""
    body = ClosingIterator()
    watched = call(seen.watch(returning(body)))
    chunks = iter(watched)
    next(chunks)
    del chunks
    close(watched)
    assert body.closed == 1


def test_a_server_that_never_closes_ends_the_request_by_dropping_it(seen: Seen) -> None:
    """A request is seen even where the server forgets to close its body."""
    watched = call(seen.watch(returning(Body())))
    assert list(watched) == [b"first", b"second"]
    del watched
    assert seen.request.status == 200


def test_a_body_without_close_can_be_closed(seen: Seen) -> None:
    """A body that has no close of its own ends its request, too."""
    watched = call(seen.watch(returning({b"only": None}.keys())))
    assert list(watched) == [b"only"]
    close(watched)
    assert seen.request.status == 200


def test_an_exception_while_the_body_is_read_is_told_once(seen: Seen) -> None:
    """A body that breaks off is a failed request, though it is closed in order afterwards."""
    body = Body(fails_at="iteration")
    watched = call(seen.watch(returning(body)))
    with pytest.raises(OwnError):
        list(watched)
    close(watched)
    assert body.closed == 1
    assert isinstance(seen.request.exception, OwnError)
    assert seen.request.status == 200


def test_an_exception_while_the_body_is_closed_is_told(seen: Seen) -> None:
    """Whatever the application does in close belongs to its request."""
    watched = call(seen.watch(returning(Body(fails_at="close"))))
    list(watched)
    with pytest.raises(OwnError):
        close(watched)
    assert isinstance(seen.request.exception, OwnError)


def test_a_forgotten_return_is_an_alarm(seen: Seen) -> None:
    """An application that returns None fails in the server as without us, and it is told."""
    watched = call(AlarmMiddleware(lambda *_: None, emit=seen.emit))  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(TypeError):
        list(watched)
    assert len(seen.lines) == 1


def test_an_exception_of_a_body_is_not_kept_alive() -> None:
    """What an exception holds is free as soon as the server is done with it, without the garbage collector."""
    gone: list[weakref.ref[BaseException]] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        yield b"first"
        error = OwnError()
        gone.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    watched = call(AlarmMiddleware(app, emit=lambda *_: None))
    with suppress(OwnError):
        list(watched)
    assert gone[0]() is None


def test_write_is_the_servers_own(seen: Seen) -> None:
    """The old way of writing a body, through what start_response returns, works."""

    def writing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", headers())
        write(b"written ")
        return [b"and returned"]

    assert serve(seen.watch(writing))[1].endswith("written and returned")


def test_an_error_page_replaces_the_status(seen: Seen) -> None:
    """An application that starts again with exc_info, before anything was sent, has its second status."""

    def recovering(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            start_response("200 OK", headers())
            failing(environ, start_response)
        except OwnError:
            start_response("503 Service Unavailable", headers(), sys.exc_info())
            return [b"sorry"]

    _, response = serve(validator(seen.watch(recovering)))
    assert "503 Service Unavailable" in response
    assert seen.request.status == 503


def test_an_error_after_the_headers_were_sent_is_raised_by_the_server(seen: Seen) -> None:
    """The server raises what exc_info holds, as PEP 3333 says; the status is the one that the client got."""

    def too_late(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", headers())
        yield b"first"
        try:
            failing(environ, start_response)
        except OwnError:
            start_response("503 Service Unavailable", headers(), sys.exc_info())
        yield b"never"

    _, response = serve(seen.watch(too_late))
    assert response.endswith("first")
    assert seen.request.status == 200
    assert isinstance(seen.request.exception, OwnError)


def test_exc_info_is_not_kept_alive() -> None:
    """What exc_info held is free as soon as the server is done with it, as PEP 3333 asks of every caller."""
    gone: list[weakref.ref[BaseException]] = []

    def raising(status: str, headers: object, exc_info: tuple[object, BaseException, object], /) -> NoReturn:
        try:
            raise exc_info[1]
        finally:
            del exc_info

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> NoReturn:
        try:
            failing(environ, start_response)
        except OwnError as error:
            gone.append(weakref.ref(error))
            start_response("503 Service Unavailable", headers(), sys.exc_info())
        raise AssertionError

    with suppress(OwnError):
        AlarmMiddleware(app, rules=[])(environ_of(), raising)  # type: ignore[arg-type]  # never called with less
    assert gone[0]() is None


def test_start_response_is_called_as_the_application_called_it(seen: Seen) -> None:
    """A server whose start_response takes two arguments gets two."""
    got: list[tuple[object, ...]] = []

    def strict(*args: object) -> Callable[[bytes], object]:
        got.append(args)
        return lambda _: None

    seen.watch(ok)(environ_of(), strict)
    assert got == [("200 OK", headers())]


@pytest.mark.parametrize("name", ["response_headers", "headers"])
@pytest.mark.parametrize("error", [None, OwnError("own")])
def test_start_response_takes_keywords(name: str, error: Exception | None, seen: Seen) -> None:
    """What gunicorn, waitress and uvicorn take is taken: keywords by the names of PEP 3333, and `headers`."""
    got: list[tuple[object, ...]] = []
    exc_info = error and (type(error), error, None)

    def app(environ: WSGIEnvironment, start_response: Any) -> Iterable[bytes]:
        start_response(status="500 Oh", **{name: headers()}, exc_info=exc_info)
        start_response("500 Oh", headers(), exc_info=exc_info)
        return [b"ok"]

    def server(*args: object) -> Callable[[bytes], object]:
        got.append(args)
        return lambda _: None

    seen.watch(app)(environ_of(), server)
    assert got == [("500 Oh", headers(), *([exc_info] if exc_info else []))] * 2
    assert seen.request.status == 500


@pytest.mark.parametrize(("chunks", "status"), [(None, 500), ([], 500), ([b"a"], 200)])
def test_an_exception_before_the_first_bytes_is_a_crash(chunks: list[bytes] | None, status: int, seen: Seen) -> None:
    """`start_response` alone sends nothing: the server still answers with 500, and after the first bytes it cannot."""

    def body() -> Iterator[bytes]:
        yield from chunks or ()
        raise OwnError

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", headers())
        if chunks is None:
            raise OwnError
        return body()

    with pytest.raises(OwnError):
        b"".join(seen.watch(app)(environ_of(), lambda *_: lambda _: None))
    assert seen.request.status == status


def test_a_status_that_the_server_refuses_is_a_crash(seen: Seen) -> None:
    """A mistake in the status is for the server to name; the request has crashed."""

    def refusing(status: object, headers: object, exc_info: object = None, /) -> NoReturn:
        raise AssertionError(status)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(["200"], headers())  # type: ignore[arg-type]  # the mistake under test
        return [b""]

    with pytest.raises(AssertionError, match="200"):
        seen.watch(app)(environ_of(), refusing)
    assert seen.request.status == 500


@pytest.mark.parametrize(("line", "code"), [("200 OK", 200), ("404", 404), ("", None), ("OK", None)])
def test_the_status_is_the_number_at_the_start(line: str, code: int | None) -> None:
    """A status line without a number has no status."""
    assert status_code(line) == code


# --- files ---


def file_app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", headers())
    wrap: Callable[[io.BytesIO], Iterable[bytes]] = environ["wsgi.file_wrapper"]
    return wrap(io.BytesIO(b"content"))


def test_a_server_recognises_its_file_wrapper(seen: Seen) -> None:
    """A file in the server's wrapper still goes out by sendfile, and its request has ended."""
    server, response = serve(seen.watch(file_app))
    assert server.sent_file
    assert response.endswith("content")
    assert seen.request.status == 200


def test_a_body_that_is_no_file_does_not_go_out_by_sendfile(seen: Seen) -> None:
    """A watched body is not taken for a file."""
    assert not serve(seen.watch(lazy))[0].sent_file


def test_a_wrapper_that_is_a_function_is_recognised(seen: Seen) -> None:
    """A wrapper like uWSGI's gives the file itself back, and looks for that very file."""
    file = io.BytesIO(b"content")
    body = call(seen.watch(returning(file)), environ_of(wsgi__file_wrapper=lambda file, *_: file))
    assert body is file
    assert seen.request.status == 200


def test_a_file_without_a_wrapper_is_a_body_like_any_other(seen: Seen) -> None:
    """A server that knows no files reads one as a body, and its request ends when it is closed."""
    watched = call(seen.watch(returning(io.BytesIO(b"content"))))
    assert list(watched) == [b"content"]
    assert seen.requests == []
    close(watched)
    assert len(seen.requests) == 1


def test_another_servers_wrapper_is_a_body_like_any_other(seen: Seen) -> None:
    """Without a wrapper of the server's, a file is read as a body and its request ends when it is closed."""
    watched = call(seen.watch(returning(FileWrapper(io.BytesIO(b"content")))))
    assert list(watched) == [b"content"]
    assert seen.requests == []
    close(watched)
    assert len(seen.requests) == 1


# --- paths ---


@pytest.mark.parametrize(
    ("script", "path", "whole"),
    [("", "/a", "/a"), ("/m", "/a", "/m/a"), ("/m", "", "/m"), ("", "/ä".encode().decode("latin-1"), "/ä")],
)
def test_the_path_is_whole_and_is_text(script: str, path: str, whole: str) -> None:
    """The mount point is part of the path, and bytes that servers hand over as latin-1 are the text they spell."""
    assert full_path({"SCRIPT_NAME": script, "PATH_INFO": path}) == whole


def test_a_path_without_its_variables_is_empty() -> None:
    """PEP 3333 lets a server leave out what is empty."""
    assert full_path({}) == ""


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_survives_the_way_through_the_environ(path: str) -> None:
    """Any path of valid UTF-8 comes out as it was."""
    assert full_path({"PATH_INFO": path.encode().decode("latin-1")}) == path


@given(st.binary())
def test_every_path_of_bytes_is_text_that_can_be_sent(path: bytes) -> None:
    """Bytes that are no UTF-8 are shown instead of failing."""
    full_path({"PATH_INFO": path.decode("latin-1")}).encode("utf-8")


@given(st.text())
def test_no_environ_of_a_broken_server_fails(path: str) -> None:
    """A server that does not hand over bytes as latin-1 does not break the request."""
    assert isinstance(full_path({"PATH_INFO": path}), str)


def test_the_path_is_read_before_a_router_shifts_it(seen: Seen) -> None:
    """A router that moves the path to the script name in place does not change what the rules see."""

    def router(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        shift_path_info(environ)
        environ.update(REQUEST_METHOD="HEAD", PATH_INFO="/x", REMOTE_ADDR="198.51.100.1")
        return ok(environ, start_response)

    call(seen.watch(router), environ_of("/a/b"))
    assert (seen.request.method, seen.request.path, seen.request.client) == ("GET", "/a/b", "192.0.2.7")


# --- what is found out only where it is asked for ---


def asking(app: WSGIApplication, seen: Seen, *conditions: RequestConditions, last_lines: int = 0) -> AlarmMiddleware:
    """Return the middleware as a configuration with these conditions would have it."""
    middleware = AlarmMiddleware(app, [seen.rule], seen.emit, last_lines=last_lines)
    middleware.rules.follow(Decision(conditions))
    return middleware


SIZES = RequestConditions(response_larger_than=1_000_000)


@pytest.mark.parametrize(
    ("app", "size"),
    [
        (ok, 2),
        (lazy, 2),
        (returning((b"a", b"bc")), 3),
        (returning(Body()), 11),
        (returning([]), 0),
    ],
)
def test_the_bytes_of_the_response_are_counted(app: WSGIApplication, size: int, seen: Seen) -> None:
    """Where a rule asks for the response's size it is that of the body, and the response is the same."""
    plain, watched = serve(validator(app))[1], serve(validator(asking(validator(app), seen, SIZES)))[1]
    assert watched == plain
    assert seen.request.response_size == size


def test_written_bytes_are_counted(seen: Seen) -> None:
    """What goes through `write` belongs to the response's size, and to the response."""

    def writing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", headers())(b"written ")
        return [b"and returned"]

    assert serve(asking(writing, seen, SIZES))[1].endswith("written and returned")
    assert seen.request.response_size == len("written and returned")


def test_a_file_still_goes_out_by_sendfile_and_has_no_size(seen: Seen) -> None:
    """Counting does not take a file out of the server's hands; how much of it is sent is not known."""
    server, response = serve(asking(file_app, seen, SIZES))
    assert server.sent_file
    assert response.endswith("content")
    assert seen.request.response_size is None


def test_bytes_are_not_counted_where_no_rule_asks(seen: Seen) -> None:
    """Without a rule on sizes, the server gets a body's chunks without our looking at them."""
    serve(seen.watch(lazy))
    assert seen.request.response_size is None


@pytest.mark.parametrize("app", [returning([1, 2]), returning(None)])  # type: ignore[arg-type,list-item]  # the mistakes under test
def test_a_body_that_is_none_fails_as_without_us(app: WSGIApplication, seen: Seen) -> None:
    """A mistake in the body is the server's to name, and counting adds none."""
    failures = [type(serve(each)[0].failure[1]) for each in (app, asking(app, seen, SIZES))]  # type: ignore[index]  # both have failed
    assert failures[0] is failures[1]


def test_a_server_that_stops_reading_says_that_the_client_left(seen: Seen) -> None:
    """A body that is closed in the middle is one that nobody received; of a HEAD request nothing is expected."""
    app = AlarmMiddleware(returning(Body()), [client_left, seen.rule], seen.emit)
    for method in ("GET", "HEAD"):
        watched = call(app, environ_of("/a", REQUEST_METHOD=method))
        next(iter(watched))
        close(watched)
    assert [request.disconnected for request in seen.requests] == [True, False]
    assert seen.lines == ["Client hung up: GET /a"]


log = logging.getLogger("tests.wsgi")


def test_the_last_lines_that_the_request_logged_are_remembered(seen: Seen, logged: None) -> None:
    """A request knows its own last log records, those of a streamed body included, and none from outside of it."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", headers())
        for n in range(5):
            log.info("step %d", n)
            yield b"x"

    log.info("before")
    watched = call(asking(app, seen, last_lines=3))
    for _ in watched:
        log.info("from the server, between two chunks")
    close(watched)
    log.info("after")
    assert seen.request.last_lines == "step 2\nstep 3\nstep 4"


def test_requests_in_threads_do_not_mix_their_lines(seen: Seen, logged: None) -> None:
    """Each of many requests at the same time has its own lines, those of a thread that it gave its context included."""
    barrier = threading.Barrier(8, timeout=10)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        barrier.wait()
        log.info("begin %s", environ["PATH_INFO"])
        barrier.wait()
        thread = threading.Thread(
            target=contextvars.copy_context().run, args=(log.info, "in a thread of %s", path(environ))
        )
        thread.start()
        thread.join()
        return ok(environ, start_response)

    def path(environ: WSGIEnvironment) -> str:
        return str(environ["PATH_INFO"])

    watched = asking(app, seen, last_lines=20)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: call(watched, environ_of(f"/{n}")), range(8)))
    assert {r.path: r.last_lines for r in seen.requests} == {
        f"/{n}": f"begin /{n}\nin a thread of /{n}" for n in range(8)
    }


# --- the rest ---


def broken_rule(request: Request) -> NoReturn:
    raise LookupError


@pytest.mark.parametrize("app", [lazy, returning(Body())])
def test_a_broken_rule_does_not_reach_a_body(app: WSGIApplication) -> None:
    """The response is the same with a rule that fails."""
    assert serve(AlarmMiddleware(app, rules=[broken_rule]))[1] == serve(app)[1]


def test_requests_at_the_same_time_keep_their_facts_apart(seen: Seen) -> None:
    """Statuses do not get mixed up between threads."""
    barrier = threading.Barrier(8, timeout=10)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(f"{environ['PATH_INFO']} OK", headers())
        barrier.wait()
        return [b""]

    watched = seen.watch(app)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: call(watched, environ_of(str(200 + n))), range(8)))
    assert sorted(request.path for request in seen.requests) == [str(200 + n) for n in range(8)]
    assert all(request.path == str(request.status) for request in seen.requests)


def test_a_flask_application_is_watched_to_its_end(seen: Seen) -> None:
    """A streamed Flask response that fails halfway is told, with the status it began with."""
    app = flask.Flask(__name__)

    @app.get("/stream")
    def stream() -> flask.Response:
        def chunks() -> Iterator[bytes]:
            yield b"first"
            raise OwnError

        return flask.Response(chunks())

    response = serve(seen.watch(app), environ_of("/stream"))[1]
    assert response.endswith("first")
    assert isinstance(seen.request.exception, OwnError)
    assert seen.request.status == 200


WITHOUT_A_MASTER = """
from alarm_mw.wsgi import UploadCheck

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"ok"]

print(UploadCheck(app)({"REQUEST_METHOD": "POST", "PATH_INFO": "/upload"}, lambda status, headers: print(status)))
"""


def test_without_a_master_the_application_runs_all_the_same() -> None:
    """A middleware that finds nobody to give its line to leaves the request alone."""
    command = [sys.executable, "-W", "error", "-c", WITHOUT_A_MASTER]
    result = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True)
    assert result.stdout == "200 OK\n[b'ok']\n"
    assert "Traceback" not in result.stderr
