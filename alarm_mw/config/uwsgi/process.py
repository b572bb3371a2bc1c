"""uWSGI's options for processes, as far as alarms feel them: ``uid``, ``chdir``, ``env``, …, ``socket-timeout``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from alarm_mw.config.execution import ineffective, unusable
from alarm_mw.config.report import Report
from alarm_mw.config.uwsgi.entry import Entry
from alarm_mw.model.interfaces import Execution
from alarm_mw.model.types import Where

SOCKET_TIMEOUT = "socket-timeout"
#: The options whose last value counts.
_SINGLE = frozenset({"uid", "gid", "chdir", "umask"})
PROCESS_OPTIONS = _SINGLE | {"env", "unenv", SOCKET_TIMEOUT}


def read_socket_timeout(entries: Iterable[Entry], report: Report) -> float | None:
    """Return the seconds that requests of alarms may take where these say nothing of it; the last one counts."""
    timeout = None
    for entry in entries:
        if entry.option == SOCKET_TIMEOUT:
            if re.fullmatch("[0-9]{1,9}", entry.value):
                timeout = float(entry.value)
            else:
                report.wrong(entry.where, f"{entry.key}: expected a whole number of seconds, got {entry.value!r}")
    return timeout


def read_execution(entries: Iterable[Entry], report: Report) -> Execution:
    """Return as whom and where commands and mules run; what is wrong goes to `report`."""
    values: dict[str, str] = {}
    places: dict[str, Where] = {}
    #: None for a variable that is removed.
    variables: dict[str, str | None] = {}
    for entry in entries:
        name, equals, value = entry.value.partition("=")
        if entry.option == "umask" and not re.fullmatch("[0-7]{1,4}", entry.value):
            report.wrong(entry.where, f"{entry.key}: expected an octal number such as 027, got {entry.value!r}")
        elif entry.option in _SINGLE:
            values[entry.option] = os.path.abspath(entry.value) if entry.option == "chdir" else entry.value
            places[entry.option] = entry.where
        elif entry.option == "env":
            variables[name] = value if equals else None
        elif entry.option == "unenv":
            variables[entry.value] = None
    execution = Execution(
        **values,
        env={name: value for name, value in variables.items() if value is not None},
        unenv=tuple(name for name, value in variables.items() if value is None),
    )
    for key, text in unusable(execution):
        report.wrong(places[key], f"{key}: {text}")
    for key, text in ineffective(execution):
        report.warn(places[key], f"{key}: {text}")
    return execution
