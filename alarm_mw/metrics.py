"""Metrics that the application names and counts, kept by the master: for the monitor `metric`, and for who asks.

Numbers are whole. A name is up to 200 ASCII characters without blanks; it is begun by its first use, with 0. Names
that begin with ``source.`` and ``alarm.`` are those of the ledger's columns, which a monitor finds in the place of the
application's.
"""

from __future__ import annotations

import re
from typing import Final

from alarm_mw.app.current_master import current
from alarm_mw.transports.wire import MetricChange

#: The largest number that can be sent.
MAX_VALUE: Final = 2**63 - 1

_NAME = re.compile(r"[!-~]{1,200}")


def inc(name: str, value: int = 1) -> bool:
    """Add `value` to a metric, and return whether the master took it, or will.

    Neither blocks nor raises; may be called from any thread and from signal handlers. What the master cannot take at
    the moment goes with the next change.
    """
    return _change(name, value, adds=True)


def dec(name: str, value: int = 1) -> bool:
    """Take `value` off a metric, as `inc` adds it."""
    return inc(name, -value)


def set(name: str, value: int) -> bool:  # noqa: A001  # uWSGI's word for it
    """Put `value` in the place of a metric, on the conditions of `inc`."""
    return _change(name, value, adds=False)


def get(name: str) -> int:
    """Return what a metric stands at; 0 for one that nobody has changed.

    Under ``alarm-mw run`` the master is asked, which may block for some seconds, and changes that are on their way to
    it are not in the answer yet. Raises `NotRunningError` where no master answers.
    """
    return current().metrics().get(name, 0)


def _change(name: object, value: object, *, adds: bool) -> bool:
    """Do it if it can be sent: who counts does not expect an exception, whatever it counts."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return False
    if not isinstance(value, int) or abs(value) > MAX_VALUE:
        return False
    return current().change_metric(MetricChange(name, int(value), adds))
