"""Monitors wait for conditions other than lines: one module or package each, named as in the configuration.

To add the monitor ``foo``, create ``foo.py`` with a class ``FooMonitor`` that implements `alarm_mw.interfaces.Monitor`.
"""

from __future__ import annotations

from alarm_mw.model.interfaces import Monitor
from alarm_mw.model.plugins import Registry

_registry: Registry[Monitor] = Registry(
    kind="monitor",
    noun="monitor",
    package=__name__,
    path=tuple(__path__),
    interface=("Options", "from_uwsgi", "run"),
)

names = _registry.names
own_names = _registry.own_names
find = _registry.find
