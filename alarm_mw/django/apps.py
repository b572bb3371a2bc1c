"""The application's configuration: what happens when Django starts."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from django.apps import AppConfig
from django.conf import settings
from django.core import checks, signals
from django.core.exceptions import ImproperlyConfigured

from alarm_mw.app import current_master
from alarm_mw.app.client import skip, submit_line
from alarm_mw.app.middleware.request_text import fields, with_traceback
from alarm_mw.django.options import SETTING, load, mistakes
from alarm_mw.model.errors import ConfigError, Problem
from alarm_mw.model.types import Reason
from alarm_mw.requests import Request, unhandled_exception
from alarm_mw.transports.places import SOCKET_VARIABLE
from alarm_mw.wsgi import is_by_alarm

if TYPE_CHECKING:
    from django.http import HttpRequest

#: Management commands that are servers.
SERVERS: Final = frozenset({"runserver", "runserver_plus"})


def has_alarms(
    argv: Sequence[str],
    environ: Mapping[str, str],
    modules: Collection[str],
    *,
    is_command: bool,
    options: object,
) -> bool:
    """Return whether this process may start a worker thread.

    A server, a worker or a script may. A management command may if it is in ``commands`` of the `options`, or is a
    server, except for the process that only waits for changed files (``RUN_MAIN`` is Django's). Tests may not.
    """
    if "pytest" in modules:
        return False
    if not is_command:
        return True
    command = argv[1] if len(argv) > 1 else ""
    if command in SERVERS:
        return environ.get("RUN_MAIN") == "true" or "--noreload" in argv
    return isinstance(options, Mapping) and command in options.get("commands", ())


SOURCE = "django"


def report_exception(request: HttpRequest | None = None, **_: object) -> None:
    """Apply the rules to the exception that is being handled: a line, and its traceback below.

    Connected to the signal ``got_request_exception``. Neither blocks nor raises.
    """
    error = sys.exc_info()[1]
    if request is None or not isinstance(error, Exception):
        return
    with suppress(Exception):  # nothing here may break the response
        if is_by_alarm(request.META):
            skip(SOURCE, Reason.ALARM_ORIGIN)
        else:
            _submit(facts(request, error))


def facts(request: HttpRequest, error: Exception) -> Request:
    """Return the facts of a request that ended with an exception; its duration is unknown."""
    client = request.META.get("REMOTE_ADDR") or ""
    return Request(request.method or "", request.path, 500, 0.0, error, client, header=request.headers.get)


def _submit(request: Request) -> None:
    known = {name: value for name, value in fields(request).items() if name != "duration"}
    submit_line(with_traceback(unhandled_exception(request) or "", request), source=SOURCE, fields=known)


class AlarmConfig(AppConfig):  # type: ignore[misc]  # Django ships no types
    """Starts nothing; the first record starts the worker thread, in the process that has it."""

    name = "alarm_mw.django"
    label = "alarm_mw"
    verbose_name = "Alarms"

    def ready(self) -> None:
        """Connect to unhandled exceptions, and prepare a worker thread if there is no master."""
        checks.register(check_settings)
        signals.got_request_exception.connect(report_exception, dispatch_uid=__name__)
        if SOCKET_VARIABLE not in os.environ:
            prepare(getattr(settings, SETTING, None))


def prepare(options: object) -> None:
    """Let the first record of this process, or of a child, start a worker thread; raise `ImproperlyConfigured`."""
    if not has_alarms(sys.argv, os.environ, set(sys.modules), is_command=_is_command(), options=options):
        current_master.decline()
        return
    try:
        found = load(options)
    except ConfigError as error:
        raise ImproperlyConfigured("\n".join(map(str, mistakes(error)))) from None
    if found is not None:
        current_master.prepare(found)


def check_settings(**_: object) -> list[checks.CheckMessage]:
    """Return what is wrong with ``settings.ALARM_MW``, for ``manage.py check``."""
    try:
        load(getattr(settings, SETTING, None))
    except ConfigError as error:
        return [_message(problem) for problem in mistakes(error)]
    return []


def _message(problem: Problem) -> checks.CheckMessage:
    hint = f"See the configuration of alarm-mw, or run `alarm-mw check` on the file that {SETTING} names."
    return checks.Error(str(problem), hint=hint, id="alarm_mw.E001")


def _is_command() -> bool:
    """Return whether Django was started by ``manage.py`` or ``django-admin``."""
    return any(
        frame.f_globals.get("__name__") == "django.core.management" for frame, _line in traceback.walk_stack(None)
    )
