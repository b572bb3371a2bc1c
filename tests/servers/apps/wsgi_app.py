"""A WSGI application."""

from __future__ import annotations

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

import voices

from alarm_mw.wsgi import AlarmMiddleware

voices.configure()


def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    body = voices.answer(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


app = application = AlarmMiddleware(answer, voices.RULES)
