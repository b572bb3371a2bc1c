"""WSGI middleware (PEP 3333): puts every request that ended to request rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from time import perf_counter
from typing import TYPE_CHECKING
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import msgspec

from alarm_mw.requests import (
    Emit,
    Request,
    RequestRule,
    RequestRules,
    made_by_alarm,
    submit_from,
    tells_disconnect,
    unhandled_exception,
    upload_made,
)
from alarm_mw.transports.mark import ENVIRON_NAME, is_signed

if TYPE_CHECKING:  # exists for type checkers alone
    from _typeshed import OptExcInfo


class AlarmMiddleware:
    """Puts every request that ended to `rules`, and gives their lines to `emit`.

    A request ends when the server closes the response's body, or at the first exception on the way there. When the body
    is a list, a tuple or a file in the server's wrapper, nothing of the application is left to run: it ends when `app`
    returns, and the server gets that very object. Environ, chunks and exceptions pass unchanged. `emit` gives the line
    to the master unless told otherwise; what a rule or `emit` raises is logged once and never reaches the request.
    Requests that alarms made are not looked at.
    """

    __slots__ = ("_judge", "app")

    def __init__(
        self, app: WSGIApplication, rules: Sequence[RequestRule] = (unhandled_exception,), emit: Emit | None = None
    ) -> None:
        self.app = app
        self._judge = RequestRules(rules, emit or submit_from("wsgi")).judge

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Handle one request, as `app` does."""
        if is_signed(environ.get(ENVIRON_NAME, "")):
            with made_by_alarm("wsgi"):
                return self.app(environ, start_response)
        exchange = Exchange(
            self._judge,
            start_response,
            # Read now: routers and proxy fixes below us change the environ in place.
            environ.get("REQUEST_METHOD", ""),
            full_path(environ),
            environ.get("REMOTE_ADDR", ""),
            perf_counter(),
        )
        try:
            body = self.app(environ, exchange.watch)
        except BaseException as error:
            exchange.end(error)
            raise
        if type(body) in _PLAIN or is_file(body, environ):
            exchange.end(None)
            return body
        return WatchedBody(body, exchange.end)


class UploadCheck(AlarmMiddleware):
    """The rule `upload_made` as a middleware: an example of how to write one's own."""

    __slots__ = ()

    def __init__(self, app: WSGIApplication, emit: Emit | None = None) -> None:
        super().__init__(app, rules=(upload_made,), emit=emit)


class Exchange(msgspec.Struct):
    """A request under way; a struct, since one is made for every request."""

    judge: Callable[[Request], None]
    start_response: StartResponse
    method: str
    path: str
    client: str
    #: On the clock of `perf_counter`.
    began: float
    status_line: str = ""

    def watch(
        self, status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None, /
    ) -> Callable[[bytes], object]:
        """Remember the status that the server took: the ``start_response`` that the application gets."""
        if exc_info is None:
            write = self.start_response(status, headers)
        else:
            try:
                write = self.start_response(status, headers, exc_info)
            finally:
                del exc_info  # its traceback may come to hold this frame (PEP 3333, "The start_response() Callable")
        self.status_line = status
        return write

    def end(self, error: BaseException | None) -> None:
        """Put the request to the rules, ended by `error` or in order."""
        duration = perf_counter() - self.began
        left = error is not None and tells_disconnect(error)
        status = status_code(self.status_line)
        self.judge(Request(self.method, self.path, status, duration, error, self.client, left))


class WatchedBody:
    """A response's body that calls `end` once: at its first exception, when it is closed, or when it is dropped."""

    __slots__ = ("_body", "_end")

    def __init__(self, body: Iterable[bytes], end: Callable[[BaseException | None], None]) -> None:
        self._body = body
        self._end: Callable[[BaseException | None], None] | None = end

    def __iter__(self) -> Iterator[bytes]:
        try:
            # Not `yield from`: that closes an iterator which is the server's to close.
            for chunk in self._body:  # noqa: UP028
                yield chunk
        except GeneratorExit:  # the server stopped reading; it closes us next
            raise
        except BaseException as error:
            self._end_once(error)
            raise

    def close(self) -> None:
        """Close the body, where it can be closed."""
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        except BaseException as error:
            self._end_once(error)
            raise
        self._end_once(None)

    def __del__(self) -> None:
        """End the request for a server that never calls `close`."""
        self._end_once(None)

    def _end_once(self, error: BaseException | None) -> None:
        end, self._end = self._end, None
        if end is not None:
            end(error)


#: Nothing of the application runs after it returned one of these; and a server looks at their length.
_PLAIN = frozenset({list, tuple})


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


@lru_cache(maxsize=128)  # an application has few status lines, and parsing one costs as much as two rules
def status_code(status_line: str) -> int | None:
    """Return the number at the start of ``200 OK``; None where there is none."""
    try:
        return int(status_line[:3])
    except ValueError:  # nothing was started, or a mistake that the server will complain about
        return None
