"""A request under way, for both middlewares: what is known of it so far, and what is done when it ends."""

from __future__ import annotations

from contextvars import Token
from time import perf_counter
from typing import Any

import msgspec

from alarm_mw.app.middleware import request_log, request_watchdog
from alarm_mw.app.middleware.evaluation import Needs, RequestRules
from alarm_mw.app.middleware.request_log import RequestLog
from alarm_mw.requests import Request, is_disconnect

#: Status of a request whose exception leaves the application before a response: what the server or the framework
#: around the middleware answers then.
CRASHED = 500


class Exchange(msgspec.Struct):
    """A request under way; a struct, since one is made for every request."""

    rules: RequestRules
    needs: Needs
    #: The server's: an ``environ`` or a ``scope``.
    facts_of_server: Any
    #: The server's: a ``start_response`` or a ``send``.
    answer: Any
    # These are read before the application runs: routers and proxy fixes change an environ or a scope in place.
    method: str
    path: str
    #: As the server has it: ``REMOTE_ADDR`` or the scope's ``client``.
    client: Any
    #: On the clock of `perf_counter`.
    began: float
    status: int | None = None
    #: The client has left before the response's end.
    has_left: bool = False
    #: The server did not take a message.
    send_failed: bool = False
    #: Bytes of the response's body so far; None where they are not counted.
    response_size: int | None = None
    log: RequestLog | None = None
    outside: Token[RequestLog | None] | None = None
    running: request_watchdog.Running | None = None

    def client_host(self) -> str:
        """Return the client's address without the port; empty where it is not known."""
        raise NotImplementedError

    def header(self, name: str) -> str | None:
        """Return the value of a request header by its name in small letters."""
        raise NotImplementedError

    def announced_size(self) -> int | None:
        """Return the bytes of the request's body, as the client announced them: the quickest way to the header."""
        raise NotImplementedError

    def end(self, error: BaseException | None) -> None:
        """Apply the rules to the request, ended by `error` or in order, if it may concern one of them."""
        duration = perf_counter() - self.began
        if self.running is not None:
            request_watchdog.remove(self.running)
        needs = self.needs
        received = self.announced_size() if needs.measures_requests else 0
        sent = self.response_size or 0
        if (
            error is not None
            or self.has_left
            or needs.concerns(self.method, self.path, self.status, duration, received or 0, sent)
        ):
            self.rules.judge(self.facts(duration, error))

    def facts(self, duration: float, error: BaseException | None = None, limit: float | None = None) -> Request:
        """Return what is known so far, of a request that has ended or has not ended within `limit` seconds."""
        has_left = self.has_left if error is None else self._says_left(error)
        return Request(
            self.method,
            self.path,
            CRASHED if self.status is None and isinstance(error, Exception) and not has_left else self.status,
            duration,
            error,
            self.client_host(),
            has_left,
            self.response_size,
            limit,
            self.header,
            str if self.log is None else self.log.text,
        )

    def _says_left(self, error: BaseException) -> bool:
        """Return whether an exception says only that the client has left: what else is raised then is a failure."""
        return is_disconnect(error) or (self.send_failed and isinstance(error, OSError))

    def look_closely(self) -> None:
        """Begin to watch what shows only before the request's end, where a rule needs it."""
        if self.needs.counts:
            self.response_size = 0
        if self.needs.last_lines:
            self.log = RequestLog(self.needs.last_lines)
        if self.needs.limits:
            self.running = request_watchdog.Running(self.needs.limits, self._report_unfinished)
            request_watchdog.add(self.running)

    def _report_unfinished(self, limit: float) -> None:
        self.rules.judge(self.facts(perf_counter() - self.began, limit=limit))

    def count(self, size: int) -> None:
        """Count bytes of the response's body, where that is asked for."""
        if self.response_size is not None:
            self.response_size += size

    def __enter__(self) -> None:
        """Remember what is logged from now on as this request's, where that is asked for."""
        if self.log is not None:
            self.outside = request_log.current.set(self.log)

    def __exit__(self, *_: object) -> None:
        """Remember no more until the next time."""
        if self.outside is not None:
            request_log.current.reset(self.outside)
            self.outside = None
