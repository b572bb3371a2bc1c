"""Tells whether the running code is alarm code, whose records the rules do not look at."""

from __future__ import annotations

from contextvars import ContextVar

#: True in the worker thread, on the event loop and inside every action, whatever they call.
in_alarm_code: ContextVar[bool] = ContextVar("alarm_mw_in_alarm_code", default=False)

#: The parent of our own loggers.
OUR_LOGGER = "alarm_mw"
_OUR_CHILDREN = OUR_LOGGER + "."


def is_by_alarm(logger: str) -> bool:
    """Return whether a record of this logger, made here and now, is made by alarm code."""
    return in_alarm_code.get() or logger == OUR_LOGGER or logger.startswith(_OUR_CHILDREN)
