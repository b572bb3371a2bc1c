"""Alarms for Python web applications: any line that an app prints or logs can wake a person.

Importing this package starts nothing and loads nothing until a name is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alarm_mw import asgi, excepthooks, loguru, metrics, signals, testing, wsgi
    from alarm_mw.app.client import alarm, capture_stdio, init
    from alarm_mw.app.current_master import shutdown
    from alarm_mw.app.heartbeat import heartbeat
    from alarm_mw.app.launch.supervise import supervise
    from alarm_mw.app.workers.mules import mule_get_msg
    from alarm_mw.app.workers.subscriber import on_signal
    from alarm_mw.handler import AlarmHandler
    from alarm_mw.structlog import AlarmProcessor

__all__ = [
    "AlarmHandler",
    "AlarmProcessor",
    "alarm",
    "asgi",
    "capture_stdio",
    "excepthooks",
    "heartbeat",
    "init",
    "loguru",
    "metrics",
    "mule_get_msg",
    "on_signal",
    "shutdown",
    "signals",
    "supervise",
    "testing",
    "wsgi",
]

_HOMES = {
    "AlarmHandler": "handler",
    "AlarmProcessor": "structlog",
    "alarm": "app.client",
    "capture_stdio": "app.client",
    "heartbeat": "app.heartbeat",
    "init": "app.client",
    "mule_get_msg": "app.workers.mules",
    "on_signal": "app.workers.subscriber",
    "shutdown": "app.current_master",
    "supervise": "app.launch.supervise",
}

#: Modules that can be named without an import of their own, and that ``from alarm_mw import *`` leaves out.
_MODULES = frozenset({"errors", "interfaces", "types"})


def __getattr__(name: str) -> object:
    """Load a public name at its first use (PEP 562)."""
    if name in _HOMES:
        value: object = getattr(importlib.import_module(f"alarm_mw.{_HOMES[name]}"), name)
    elif name in __all__ or name in _MODULES:
        value = importlib.import_module(f"alarm_mw.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Show the public names as well, loaded or not."""
    return sorted({*globals(), *__all__})
