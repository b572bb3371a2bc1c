"""Detects whether the running code is alarm code, whose records the rules ignore."""

from __future__ import annotations

from contextvars import ContextVar

#: True in the worker thread, on the event loop and inside every action, whatever they call.
in_alarm_code: ContextVar[bool] = ContextVar("alarm_mw_in_alarm_code", default=False)

#: The parent of our own loggers.
OUR_LOGGER = "alarm_mw"
_LENGTH = len(OUR_LOGGER)
_ENDS = ("", ".")

#: Bound once, because every record uses it.
_is_in_alarm_code = in_alarm_code.get


def is_by_alarm(logger: str) -> bool:
    """Return whether a record of this logger, created now, comes from alarm code."""
    return _is_in_alarm_code() or (logger[:_LENGTH] == OUR_LOGGER and logger[_LENGTH : _LENGTH + 1] in _ENDS)
