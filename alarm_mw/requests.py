"""The facts of a request that ended, and the ready rules that read them."""

from __future__ import annotations

import math
import re
import traceback
from collections.abc import Callable, Mapping

import msgspec

from alarm_mw.engine.request_rules import CompiledConditions, Header, no_header
from alarm_mw.model.types import RequestConditions


class Request(msgspec.Struct, frozen=True):
    """The facts of a request that ended, or of one that has not ended in time.

    A rule may ask for a header; nothing of the headers but the request's id gets into an alarm. The query string and
    the bodies are not here at all. Not to be kept after the rule has returned: it holds the server's environ or scope.
    A struct instead of a frozen dataclass: 0.07 µs instead of 0.7.
    """

    #: As the client sent it: ``GET``, ``POST``, …
    method: str
    #: The whole path, mount point included, percent-decoded; may hold any character.
    path: str
    #: The status code of the response; 500 for an exception before a response was started; None when none was started
    #: for another cause: a cancellation, a worker's exit, a client that left.
    status: int | None
    #: Seconds from the call of the application until the request ended, or until now.
    duration: float
    #: What the application raised to the server, `asyncio.CancelledError` and the like included.
    exception: BaseException | None
    #: The client's address as the server gave it, without the port; empty where unknown.
    client: str
    #: The client has left before the response's end; with an exception: that one says no more than this.
    disconnected: bool = False
    #: Bytes of the response's body; None where no rule asked for them, or where they were not seen (a file).
    response_size: int | None = None
    #: The limit in seconds in which it did not end; None: it has ended.
    unfinished_after: float | None = None
    #: Returns the value of a request header by its name in small letters, or None.
    header: Header = no_header
    #: Returns what the request has logged, as far as that is remembered.
    log: Callable[[], str] = str

    @property
    def request_size(self) -> int | None:
        """Bytes of the request's body, as ``Content-Length`` has it; None where the client did not say."""
        return content_length(self.header("content-length"))

    @property
    def request_id(self) -> str:
        """The header ``X-Request-ID``, else the trace id of ``traceparent``; empty where there is neither."""
        own = self.header("x-request-id") or ""
        return own if _REQUEST_ID.fullmatch(own) else trace_id(self.header("traceparent") or "")

    @property
    def last_lines(self) -> str:
        """The last lines that the request has logged, where the middleware remembers them; else empty."""
        return self.log()

    def __repr__(self) -> str:
        """Return the facts, without what could show a secret."""
        shown = (f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name not in {"header", "log"})
        return f"Request({', '.join(shown)})"


_LENGTH = re.compile("[0-9]{1,18}")


def content_length(value: str | None) -> int | None:
    """Return the number of a header ``Content-Length``; None where it is none."""
    return int(value) if value and _LENGTH.fullmatch(value) else None


#: What can stand in a line of text without being able to disguise it.
_REQUEST_ID = re.compile("[!-~]{1,128}")
_TRACEPARENT = re.compile("(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


def trace_id(traceparent: str) -> str:
    """Return the trace id of a ``traceparent`` header; empty where the header is none.

    Follows W3C Trace Context, section 3.2: version 00 ends after its flags, later ones may go on after a dash.
    """
    match = _TRACEPARENT.fullmatch(traceparent)
    return match[2] if match and not (match[1] == "00" and match[3]) else ""


#: Reads the facts of a request and returns the alarm line, or None. Must not block: the request waits for it.
RequestRule = Callable[[Request], str | None]

#: Takes an alarm line, with a traceback in lines below it, and its fields. Must not block: the request waits for it.
Emit = Callable[[str, Mapping[str, str]], object]


class ReadyRule:
    """Conditions, as a rule of the configuration has them, with an alarm line of their own.

    The middleware knows from the conditions which requests it need not look at.
    """

    def __init__(self, asked: RequestConditions, line: Callable[[Request], str]) -> None:
        self.conditions = CompiledConditions(asked)
        self._line = line
        self.__doc__, self.__name__ = line.__doc__, line.__name__

    def __call__(self, request: Request) -> str | None:
        """Return the alarm line if the conditions hold, else None."""
        return self._line(request) if self.applies(request) else None

    def __repr__(self) -> str:
        """Return the name."""
        return f"<request rule {self.__name__}>"

    def applies(self, request: Request) -> bool:
        """Return whether the conditions hold."""
        return self.conditions.hold(request, request.header)


def _when(asked: RequestConditions) -> Callable[[Callable[[Request], str]], ReadyRule]:
    return lambda line: ReadyRule(asked, line)


@_when(RequestConditions(exception=""))
def unhandled_exception(request: Request) -> str:
    """Report an exception that the application raised to the server.

    Not of a request that was canceled, of a worker that must exit (neither is an `Exception`), or of a client that
    left.
    """
    what = "".join(traceback.format_exception_only(request.exception)).strip()
    return f"Unhandled exception in {request.method} {request.path}: {what}"


@_when(RequestConditions(statuses=((500, 999),)))
def server_error(request: Request) -> str:
    """Report a response with a status of 500 or above, which is what frameworks and servers make of an exception.

    Beside `unhandled_exception`, a middleware reports an exception by that rule alone.

    Not where the exception was that the client has left: nobody got that response.
    """
    return f"Server error {request.status} in {request.method} {request.path}"


def slower_than(seconds: float) -> ReadyRule:
    """Return a rule that reports a request that took more than `seconds`.

    The line names the limit and not the duration, which is in the fields: repeats of it are the same message,
    and a limiter can hold them back.
    """

    def slow_request(request: Request) -> str:
        return f"Slow request: {request.method} {request.path} took more than {seconds:g} s"

    return ReadyRule(RequestConditions(slower_than=seconds), slow_request)


@_when(RequestConditions(disconnected=True))
def client_left(request: Request) -> str:
    """Report a client that hung up before it had the whole response, as far as the server lets that be known."""
    return f"Client hung up: {request.method} {request.path}"


def unfinished_after(seconds: float) -> ReadyRule:
    """Return a rule that reports a request while it is still running after `seconds`, once.

    A thread of its own sees to that, so it is reported though the request blocks the event loop, and before the server
    kills the worker for it. Raises `ValueError` for a limit that is not above zero.
    """
    if not 0 < seconds < math.inf:
        raise ValueError(f"unfinished_after: expected seconds above 0, got {seconds!r}")

    def unfinished_request(request: Request) -> str:
        return f"Request has not ended: {request.method} {request.path} is still running after {seconds:g} s"

    return ReadyRule(RequestConditions(unfinished_after=seconds), unfinished_request)


def upload_made(request: Request) -> str | None:
    """Report a ``POST /upload``: an example of how to write one's own."""
    if request.method == "POST" and request.path == "/upload":
        return "TERRIBLE ALARM! An upload has been made!"
    return None


#: What Starlette, Werkzeug and uvicorn raise to the application when the client has left.
_DISCONNECTS = frozenset({"ClientDisconnect", "ClientDisconnected"})


def is_disconnect(exception: BaseException) -> bool:
    """Return whether `exception` is a framework's way of saying that the client has left.

    Recognized by the name of its class, so that no framework must be imported.
    """
    return type(exception).__name__ in _DISCONNECTS
