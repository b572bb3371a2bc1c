"""The application's configuration: what happens when Django starts."""

from __future__ import annotations

import os
import sys
import traceback

from django.apps import AppConfig
from django.conf import settings
from django.core import checks, signals
from django.core.exceptions import ImproperlyConfigured

from alarm_mw.app import current_master
from alarm_mw.django.exceptions import tell_of_exception
from alarm_mw.django.options import SETTING, load, mistakes
from alarm_mw.django.programs import has_alarms
from alarm_mw.model.errors import ConfigError, Problem
from alarm_mw.transports.places import SOCKET_VARIABLE


class AlarmConfig(AppConfig):  # type: ignore[misc]  # Django ships no types
    """Starts nothing: the first record does, in the process that has it."""

    name = "alarm_mw.django"
    label = "alarm_mw"
    verbose_name = "Alarms"

    def ready(self) -> None:
        """Hear of unhandled exceptions, and prepare a worker thread where there is no master."""
        checks.register(check_settings)
        signals.got_request_exception.connect(tell_of_exception, dispatch_uid=__name__)
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
    hint = f"See the configuration of alarm-mw, or ask `alarm-mw check` where {SETTING} names a file."
    return checks.Error(str(problem), hint=hint, id="alarm_mw.E001")


def _is_command() -> bool:
    """Return whether Django was started by ``manage.py`` or ``django-admin``."""
    return any(
        frame.f_globals.get("__name__") == "django.core.management" for frame, _line in traceback.walk_stack(None)
    )
