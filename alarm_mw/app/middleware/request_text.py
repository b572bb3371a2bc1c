"""What an alarm says of its request: its fields, and the traceback below its line."""

from __future__ import annotations

import traceback
from pathlib import Path

from alarm_mw.app.middleware.request_log import cut_middle
from alarm_mw.model.printable import printable
from alarm_mw.requests import (
    Request,
    RequestRule,
    client_left,
    server_error,
    slower_than,
    unfinished_after,
    unhandled_exception,
)

#: How long a traceback may be, in bytes: with the alarm's line and the last lines, within the usual `alarm_msg_size`.
MAX_TRACEBACK = 4000

#: How much of a longer one is its beginning: where the call came from. The rest is its end: what failed.
HEAD = 1000

_OUR_CODE = str(Path(__file__).parents[2])


def fields(request: Request) -> dict[str, str]:
    """Return the facts that are known, as text made `printable`; the duration in seconds, sizes in bytes."""
    facts = {
        "method": request.method,
        "path": request.path,
        "status": _number(request.status),
        "duration": f"{request.duration:.6f}",
        "request_id": request.request_id,
        "request_size": _number(request.request_size),
        "response_size": _number(request.response_size),
        "exception": "" if request.exception is None else type(request.exception).__qualname__,
        "client": request.client,
    }
    return {name: printable(fact) for name, fact in facts.items() if fact}


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def summary(request: Request, limit: float | None) -> str:
    """Return the line for a request of a rule in the configuration; `limit` is the `slower_than` that it exceeded.

    What went worst is said; where nothing did, what was asked and answered.
    """
    line = next(filter(None, (rule(request) for rule in _worst_first(request, limit))), None)
    return line or f"Request: {request.method} {request.path} was answered with {_number(request.status) or 'nothing'}"


def _worst_first(request: Request, limit: float | None) -> list[RequestRule]:
    if request.unfinished_after is not None:
        return [unfinished_after(request.unfinished_after)]
    return [unhandled_exception, client_left, server_error, *([slower_than(limit)] if limit else [])]


def with_traceback(line: str, request: Request) -> str:
    """Return `line`, made `printable`, and below it the traceback of an exception that is a failure of the request.

    A traceback shows the code's lines and never the values of variables. It is indented: the exception's text, which a
    client may have chosen, must not be able to forge a line; and a rule that looks for ``^Traceback`` means the one
    that the server prints.
    """
    error = request.exception
    if error is None or not unhandled_exception.applies(request):
        return printable(line)
    below = bounded(_traceback(error)).split("\n")
    return "\n".join([printable(line), *(f"  {printable(each)}" for each in below)])


def _traceback(error: BaseException) -> str:
    """Return the traceback as Python prints it, without the middleware's own frames at its top."""
    frames = error.__traceback__
    while frames is not None and frames.tb_next and frames.tb_frame.f_code.co_filename.startswith(_OUR_CODE):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames)).rstrip("\n")


def bounded(text: str) -> str:
    """Return text in about `MAX_TRACEBACK` bytes at most: of a longer one the beginning and the end."""
    data = text.encode("utf-8", "surrogatepass")
    return text if len(data) <= MAX_TRACEBACK else cut_middle(data, MAX_TRACEBACK, HEAD).decode("utf-8", "replace")
