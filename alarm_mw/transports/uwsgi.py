"""A way to uWSGI's own master, for an application that runs inside uWSGI: its alarms, its log, its rules."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping
from typing import Protocol, cast

from alarm_mw.engine.request_rules import NOTHING, Decision
from alarm_mw.model.errors import NotRunningError
from alarm_mw.model.measures import HEARTBEAT
from alarm_mw.model.types import Record
from alarm_mw.transports.wire import MetricChange

#: Names the alarm that lines fire; where it is not set they are printed, for uWSGI's ``log-alarm`` to judge.
ALARM_VARIABLE = "ALARM_MW_UWSGI_ALARM"

#: Where uWSGI puts what its workers print.
STDERR = 2

#: uWSGI's own ``alarm-msg-size``, in bytes, where its configuration says nothing.
MSG_SIZE = 8192


class Uwsgi(Protocol):
    """What is used of uWSGI's module; see https://uwsgi-docs.readthedocs.io/en/latest/PythonModule.html."""

    opt: Mapping[str, object]

    def alarm(self, name: str, message: str) -> None:
        """Fire an alarm."""
        ...


def find_uwsgi() -> Uwsgi | None:
    """Return uWSGI's module inside uWSGI, else None.

    uWSGI makes it before it loads the application. A file ``uwsgi.py``, as applications have them, is another thing:
    it is not imported here, nor taken for it.
    """
    module = sys.modules.get("uwsgi")
    is_theirs = hasattr(module, "alarm") and not hasattr(module, "__file__")
    return cast("Uwsgi", module) if is_theirs else None


class UwsgiClient:
    """A `Client` whose master is uWSGI's. There is no ledger: uWSGI counts nothing."""

    def __init__(self, uwsgi: Uwsgi) -> None:
        self._uwsgi = uwsgi
        self._alarm = os.environ.get(ALARM_VARIABLE)
        self._msg_size = min(MSG_SIZE, _number(uwsgi.opt.get("alarm-msg-size"), MSG_SIZE))

    def prefilter(self) -> None:
        """Leave it to uWSGI, which has the rules."""

    def decision(self) -> Decision:
        """Return the one of no conditions: uWSGI's rules are regexps."""
        return NOTHING

    def submit(self, record: Record, alarm: str | None = None) -> bool:
        """Fire an alarm, or print a line as the application would; blocks as printing does."""
        if record.source == HEARTBEAT:
            return False
        name = alarm or self._alarm
        return self._fire(name, record.message + record.context) if name else self._print(record)

    def count(self, source: str, outcome: str, n: int = 1) -> None:
        """Count nothing."""

    def change_metric(self, change: MetricChange) -> bool:  # noqa: ARG002  # a Client's
        """Return False: these metrics are not uWSGI's."""
        return False

    def metrics(self) -> dict[str, int]:
        """Raise `NotRunningError`."""
        raise NotRunningError("inside uWSGI metrics are uWSGI's own: uwsgi.metric_inc(), uwsgi.metric_get()")

    def prints_are_read(self) -> bool:
        """Return True: that is what uWSGI's ``log-alarm`` looks at."""
        return True

    def shutdown(self, timeout: float) -> bool:  # noqa: ARG002  # a Client's
        """Return True: nothing is kept here."""
        return True

    def forget(self) -> None:
        """Hold nothing."""

    def _fire(self, name: str, message: bytes) -> bool:
        # uWSGI copies longer messages than its buffer regardless.
        data = message.removesuffix(b"\n")[: self._msg_size]
        try:
            text = message.removesuffix(b"\n").decode()
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text and self._trigger is not None:
            self._trigger(name.encode(), data, len(data))
        else:
            shown = message.replace(b"\0", b"\\x00").decode("utf-8", "backslashreplace")
            data = shown.encode().removesuffix(b"\n")[: self._msg_size]
            self._uwsgi.alarm(name, data.decode("utf-8", "ignore"))
        return True

    @functools.cached_property
    def _trigger(self) -> Callable[[bytes, bytes, int], object] | None:
        """What ``uwsgi.alarm`` calls: that function takes text alone. None where this uWSGI does not have it."""
        import ctypes  # noqa: PLC0415  # for messages that are no text

        try:
            trigger = ctypes.CDLL(None).uwsgi_alarm_trigger
        except (AttributeError, OSError):
            return None
        trigger.argtypes, trigger.restype = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t), None
        return cast("Callable[[bytes, bytes, int], object]", trigger)

    def _print(self, record: Record) -> bool:
        lines = record.message.splitlines()
        if lines and set(lines) <= set(record.echoes):
            return True  # the application's own handler prints it
        message = record.message if record.message.endswith(b"\n") else record.message + b"\n"
        try:
            # uWSGI judges what arrives in one write.
            return os.write(STDERR, message) == len(message)
        except OSError:
            return False


def _number(value: object, default: int) -> int:
    return int(value) if isinstance(value, bytes) and value.isdigit() else default
