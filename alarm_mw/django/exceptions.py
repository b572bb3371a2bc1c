"""Tells of exceptions that no view has handled. Django answers them itself, so that nothing around it sees them."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from alarm_mw.app.client import skip, submit_line
from alarm_mw.app.middleware.request_text import fields, with_traceback
from alarm_mw.model.types import Reason
from alarm_mw.requests import Request, unhandled_exception
from alarm_mw.wsgi import is_by_alarm

if TYPE_CHECKING:
    from django.http import HttpRequest

SOURCE = "django"


def tell_of_exception(request: HttpRequest | None = None, **_: object) -> None:
    """Put the exception that is being handled to the rules: a line, and its traceback below.

    Connected to the signal ``got_request_exception``. Neither blocks nor raises.
    """
    error = sys.exc_info()[1]
    if request is None or not isinstance(error, Exception):
        return
    with suppress(Exception):  # whatever stands for a request here, its answer must not suffer
        if is_by_alarm(request.META):
            skip(SOURCE, Reason.ALARM_ORIGIN)
        else:
            _tell(facts(request, error))


def facts(request: HttpRequest, error: Exception) -> Request:
    """Return the facts of a request that an exception has ended; how long it took is not known."""
    client = request.META.get("REMOTE_ADDR") or ""
    return Request(request.method or "", request.path, 500, 0.0, error, client, header=request.headers.get)


def _tell(request: Request) -> None:
    known = {name: value for name, value in fields(request).items() if name != "duration"}
    submit_line(with_traceback(unhandled_exception(request) or "", request), source=SOURCE, fields=known)
