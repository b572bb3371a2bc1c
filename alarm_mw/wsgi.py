"""WSGI middleware (PEP 3333): applies request rules to every request that has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from time import perf_counter
from typing import TYPE_CHECKING
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from alarm_mw.app.middleware.evaluation import RequestRules, made_by_alarm
from alarm_mw.app.middleware.exchange import Exchange
from alarm_mw.requests import Emit, RequestRule, content_length, unhandled_exception, upload_made
from alarm_mw.transports.own_requests import ENVIRON_NAME, is_ours

if TYPE_CHECKING:  # exists for type checkers alone
    from _typeshed import OptExcInfo


class AlarmMiddleware:
    """Applies `rules`, and those of the configuration, to every request that has ended.

    A request ends when the server closes the response's body, or at the first exception on the way there. When the body
    is a list, a tuple or a file in the server's wrapper, nothing of the application is left to run: it ends when `app`
    returns, and the server gets that very object. Environ, chunks and exceptions pass unchanged. `emit` gets the
    lines of `rules`, by default to give them to the master; what a rule or `emit` raises is logged once and never
    reaches the request. Requests that alarms made are ignored.

    With `last_lines`, an alarm shows that many of the last records that the request has logged, at most 1000; raises
    `ValueError` for another number.
    """

    __slots__ = ("app", "rules")

    def __init__(
        self,
        app: WSGIApplication,
        rules: Sequence[RequestRule] = (unhandled_exception,),
        emit: Emit | None = None,
        *,
        last_lines: int = 0,
    ) -> None:
        self.app = app
        self.rules = RequestRules("wsgi", rules, emit, last_lines)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Handle one request, as `app` does."""
        if ENVIRON_NAME in environ and is_by_alarm(environ):
            with made_by_alarm("wsgi"):
                return self.app(environ, start_response)
        rules, app = self.rules, self.app
        path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        needs = rules.current_needs()
        exchange = WsgiExchange(
            rules,
            needs,
            environ,
            start_response,
            environ.get("REQUEST_METHOD", ""),
            path if path.isascii() else full_path(environ),
            environ.get("REMOTE_ADDR", ""),
            perf_counter(),
        )
        if not needs.is_plain:
            exchange.look_closely()
            app = partial(_call_closely, app, exchange)
        try:
            body = app(environ, exchange.watch)
        except BaseException as error:
            # No headers were sent yet, unless the application used `write`, so the server answers with 500.
            exchange.status = None
            exchange.end(error)
            raise
        # Nothing of the application runs after it returned one of these; and a server looks at a list's length.
        if type(body) is list or type(body) is tuple or is_file(body, environ):
            exchange.end(None)
            return body
        return WatchedBody(body, exchange)


class UploadCheck(AlarmMiddleware):
    """The rule `upload_made` as a middleware: an example of how to write one's own."""

    __slots__ = ()

    def __init__(self, app: WSGIApplication, emit: Emit | None = None) -> None:
        super().__init__(app, rules=(upload_made,), emit=emit)


class WsgiExchange(Exchange):
    """A request under way, as WSGI has it."""

    def watch(
        self,
        status: str,
        response_headers: list[tuple[str, str]] | None = None,
        exc_info: OptExcInfo | None = None,
        *,
        headers: list[tuple[str, str]] | None = None,
    ) -> Callable[[bytes], object]:
        """Remember the status that the server took: the ``start_response`` that the application gets.

        PEP 3333 has positional arguments alone. Applications give keywords all the same, since servers take them: by
        the names of the PEP, and `headers` as wsgiref, gunicorn and waitress have it.
        """
        if response_headers is None:
            response_headers = headers  # where that is missing as well, the server says so
        if exc_info is None:
            write = self.answer(status, response_headers)
        else:
            try:
                write = self.answer(status, response_headers, exc_info)
            finally:
                del exc_info  # its traceback may come to hold this frame (PEP 3333, "The start_response() Callable")
        try:
            self.status = _STATUS_CODES[status]
        except (KeyError, TypeError):  # another one, or a mistake that the server lets pass
            self.status = status_code(status)
        return write if self.response_size is None else partial(self._write, write)

    def _write(self, write: Callable[[bytes], object], data: bytes, /) -> object:
        self.count(len(data))
        return write(data)

    def client_host(self) -> str:
        """Return the client's address; empty where the server knows none."""
        return str(self.client)

    def header(self, name: str) -> str | None:
        """Return the value of a request header by its name in small letters."""
        key = name.upper().replace("-", "_")
        value = self.facts_of_server.get(key if key in _WITHOUT_PREFIX else f"HTTP_{key}")
        return value if isinstance(value, str) else None

    def announced_size(self) -> int | None:
        """Return the bytes of the request's body, as the client announced them."""
        value = self.facts_of_server.get("CONTENT_LENGTH")
        return content_length(value) if value else None

    def count_list(self, body: Iterable[bytes]) -> None:
        """Count the bytes of a body that is whole already."""
        with suppress(TypeError):  # what is in it is no bytes, which the server will complain about
            self.count(sum(map(len, body)))


#: PEP 3333 has these two headers without ``HTTP_``.
_WITHOUT_PREFIX = frozenset({"CONTENT_LENGTH", "CONTENT_TYPE"})


class WatchedBody:
    """A response's body that ends its exchange once: at its first exception, when closed, or when dropped."""

    __slots__ = ("_body", "_exchange", "_is_cut_off")

    def __init__(self, body: Iterable[bytes], exchange: WsgiExchange) -> None:
        self._body = body
        self._exchange: WsgiExchange | None = exchange
        self._is_cut_off = False

    def __iter__(self) -> Iterator[bytes]:
        chunk = b""
        try:
            # Not `yield from`: that closes an iterator which is the server's to close.
            for chunk in self._body:
                yield chunk
        except GeneratorExit:  # the server stopped reading; it closes us next
            self._is_cut_off = True
            raise
        except BaseException as error:
            if not chunk and self._exchange is not None:
                self._exchange.status = None  # headers wait for the first bytes (PEP 3333, "Buffering and Streaming")
            self._end(error)
            raise

    def close(self) -> None:
        """Close the body, where it can be closed."""
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        except BaseException as error:
            self._end(error)
            raise
        self._end(None)

    def __del__(self) -> None:
        """End the request for a server that never calls `close`."""
        self._end(None)

    def _end(self, error: BaseException | None) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.has_left = self._is_cut_off and exchange.method != "HEAD"
            exchange.end(error)


def _call_closely(
    app: WSGIApplication, exchange: WsgiExchange, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    """Call the application, and find out what `Exchange.look_closely` has begun to ask."""
    with exchange:
        body = app(environ, start_response)
    if type(body) is list or type(body) is tuple:
        exchange.count_list(body)
        return body
    if is_file(body, environ):
        exchange.response_size = None
        return body
    return LookedAtBody(body, exchange)


class LookedAtBody:
    """A response's body whose bytes are counted, and that logs as part of its request."""

    __slots__ = ("_body", "_exchange")

    def __init__(self, body: Iterable[bytes], exchange: WsgiExchange) -> None:
        self._body = body
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        """Yield the chunks, each made in the request's context and none of the server's code run in it."""
        with self._exchange:
            chunks = iter(self._body)
        while True:
            with self._exchange:
                try:
                    chunk = next(chunks)
                except StopIteration:
                    return
            self._exchange.count_list((chunk,))
            yield chunk

    def close(self) -> None:
        """Close the body, where it can be closed."""
        if hasattr(self._body, "close"):
            with self._exchange:
                self._body.close()


def is_by_alarm(environ: WSGIEnvironment) -> bool:
    """Return whether one of our actions made this request."""
    path = str(environ.get("SCRIPT_NAME", "")) + str(environ.get("PATH_INFO", ""))
    value, method, host = (str(environ.get(name, "")) for name in (ENVIRON_NAME, "REQUEST_METHOD", "HTTP_HOST"))
    return is_ours(value, method, host, path.encode("latin-1", "replace"))


def is_file(body: Iterable[bytes], environ: WSGIEnvironment) -> bool:
    """Return whether `body` is a file in the server's ``wsgi.file_wrapper``.

    The server recognises it by its type or identity and sends it from the kernel: it must get that very object. So the
    request ends when the file is returned; nothing of the application runs after that but the file's ``close``.
    """
    wrapper = environ.get("wsgi.file_wrapper")
    if isinstance(wrapper, type):
        return isinstance(body, wrapper)
    # uWSGI's is a function that gives the file itself back.
    return wrapper is not None and hasattr(body, "read")


def full_path(environ: WSGIEnvironment) -> str:
    r"""Return ``SCRIPT_NAME`` and ``PATH_INFO`` as UTF-8 text, a byte that is none as ``\xff``."""
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    if path.isascii():
        return path
    # Servers hand over bytes as latin-1 (PEP 3333, "Unicode Issues"); one that does not must not break the request.
    return path.encode("latin-1", "backslashreplace").decode("utf-8", "backslashreplace")


def status_code(status_line: str) -> int | None:
    """Return the number at the start of ``200 OK``; None where there is none."""
    try:
        return int(status_line[:3])
    except (TypeError, ValueError):  # a mistake that the server will complain about, or let pass
        return None


#: An application has few status lines, and parsing one costs as much as two rules.
_STATUS_CODES = {f"{status.value} {status.phrase}": status.value for status in HTTPStatus}
