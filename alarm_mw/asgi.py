"""ASGI 3 middleware: applies request rules to every HTTP request that has ended.

Follows the ASGI specification, HTTP & WebSocket format 2.5. WebSockets and the lifespan pass untouched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from time import perf_counter
from types import NoneType
from typing import TYPE_CHECKING

from alarm_mw.app.middleware.evaluation import RequestRules, made_by_alarm
from alarm_mw.app.middleware.exchange import Exchange
from alarm_mw.requests import Emit, RequestRule, content_length, unhandled_exception, upload_made
from alarm_mw.transports.own_requests import ASGI_HEADER, is_ours

if TYPE_CHECKING:  # an application on another framework must not load Starlette
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class AlarmMiddleware:
    """Applies `rules`, and those of the configuration, to every HTTP request that has ended.

    A request ends when `app` returns or raises: after its response and its background tasks. Scope, messages and
    exceptions pass unchanged. `emit` gets the lines of `rules`, by default to give them to the master; what a rule or
    `emit` raises is logged once and never reaches the request. Requests that alarms made are ignored.

    With `last_lines`, an alarm shows that many of the last records that the request has logged, at most 1000; raises
    `ValueError` for another number.
    """

    __slots__ = ("app", "rules")

    def __init__(
        self,
        app: ASGIApp,
        rules: Sequence[RequestRule] = (unhandled_exception,),
        emit: Emit | None = None,
        *,
        last_lines: int = 0,
    ) -> None:
        self.app = app
        self.rules = RequestRules("asgi", rules, emit, last_lines)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection, as `app` does."""
        if scope.get("type") != "http":
            await self.app(scope, receive, send)
            return
        # Two comparisons where a server has lists or tuples, as they all do.
        if type(scope.get("headers")) not in _REREADABLE or type(scope.get("client")) not in _REREADABLE:
            make_rereadable(scope)
        if is_by_alarm(scope):
            with made_by_alarm("asgi"):
                await self.app(scope, receive, send)
            return
        rules, app = self.rules, self.app
        needs = rules.current_needs()
        exchange = AsgiExchange(
            rules,
            needs,
            scope,
            send,
            scope.get("method", ""),
            full_path(scope) if scope.get("root_path") else scope.get("path", ""),
            scope.get("client"),
            perf_counter(),
        )
        if not needs.is_plain:
            exchange.look_closely()
            app = partial(_call_closely, app, exchange)
        try:
            await app(scope, receive, exchange.watch)
        except BaseException as error:
            exchange.end(error)
            raise
        exchange.end(None)


class UploadCheck(AlarmMiddleware):
    """The rule `upload_made` as a middleware: an example of how to write one's own."""

    __slots__ = ()

    def __init__(self, app: ASGIApp, emit: Emit | None = None) -> None:
        super().__init__(app, rules=(upload_made,), emit=emit)


class AsgiExchange(Exchange):
    """A request under way, as ASGI has it."""

    async def watch(self, message: Message) -> None:
        """Remember the status: the ``send`` that the application gets."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        try:
            await self.answer(message)
        except OSError:  # the specification's sign that the client has left
            self.send_failed = True
            raise

    def client_host(self) -> str:
        """Return the client's address; empty where the server knows none (a unix socket)."""
        try:
            return (self.client[0] or "") if self.client else ""
        except (KeyError, TypeError):  # a mistake of the server that the application lets pass
            return ""

    def header(self, name: str) -> str | None:
        """Return the value of a request header by its name in small letters; several of one name as one."""
        wanted = name.encode("latin-1", "replace")
        values = [value for key, value in self.facts_of_server.get("headers", ()) if key == wanted]
        return b", ".join(values).decode("latin-1") if values else None

    def announced_size(self) -> int | None:
        """Return the bytes of the request's body, as the client announced them."""
        try:
            value = dict(self.facts_of_server.get("headers", ())).get(b"content-length")
            return content_length(value.decode("latin-1")) if value else None
        except (AttributeError, TypeError, ValueError):  # as above
            return None


async def _call_closely(app: ASGIApp, exchange: AsgiExchange, scope: Scope, receive: Receive, send: Send) -> None:
    """Call the application, and find out what `Exchange.look_closely` has begun to ask."""
    is_complete = False

    async def counting(message: Message) -> None:
        nonlocal is_complete
        await send(message)
        if message["type"] == "http.response.body":
            exchange.count(len(message.get("body", b"")))
            is_complete = not message.get("more_body", False)
        elif message["type"] in _UNCOUNTED:
            exchange.response_size = None

    async def looking() -> Message:
        message = await receive()
        if message["type"] == "http.disconnect" and not is_complete:
            exchange.has_left = True
        return message

    with exchange:
        await app(scope, looking if exchange.needs.awaits_leaving else receive, counting)


#: Of `headers` and `client` in a scope: what reading does not use up.
_REREADABLE = frozenset({list, tuple, str, NoneType})

#: Extensions by which the server sends a file: how much of it is not seen here.
_UNCOUNTED = frozenset({"http.response.pathsend", "http.response.zerocopysend"})


def is_by_alarm(scope: Scope) -> bool:
    """Return whether one of our actions made this request."""
    try:
        # A loop: a generator expression would double the price of what every request pays.
        for pair in scope.get("headers") or ():
            # By its index: to unpack an iterator would use it up.
            if pair[0] == ASGI_HEADER and _is_ours(pair[1].decode("latin-1"), scope):
                return True
    except (AttributeError, LookupError, TypeError):  # a pair that is an iterator, or a mistake of the server
        return has_iterators(scope) and is_by_alarm(scope)
    return False


def _is_ours(value: str, scope: Scope) -> bool:
    host = next((pair[1] for pair in scope["headers"] if pair[0] == b"host"), b"")
    return is_ours(value, scope["method"], host.decode("latin-1"), scope["path"].encode("utf-8", "surrogateescape"))


def has_iterators(scope: Scope) -> bool:
    """Put lists in the place of iterators among the pairs of headers, and return whether there are any."""
    pairs = scope["headers"]
    if not isinstance(pairs, (list, tuple)) or not any(isinstance(pair, Iterator) for pair in pairs):
        return False
    scope["headers"] = [list(pair) if isinstance(pair, Iterator) else pair for pair in pairs]
    return True


def make_rereadable(scope: Scope) -> None:
    """Put lists in the place of headers and of a client that may be used up by reading.

    The specification has any iterable, also for each pair of headers.
    """
    for name in ("headers", "client"):
        facts = scope.get(name)
        if type(facts) not in _REREADABLE and isinstance(facts, Iterable):
            scope[name] = list(facts)


def full_path(scope: Scope) -> str:
    """Return the path with its mount point.

    The specification has ``root_path`` at the front of ``path``; older servers and routers leave it out.
    """
    path: str = scope.get("path", "")
    root: str = scope.get("root_path") or ""
    if not root or path == root or path.startswith(root.rstrip("/") + "/"):
        return path
    return root + path
