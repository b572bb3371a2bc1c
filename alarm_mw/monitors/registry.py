"""Finds a monitor by the name that the configuration uses."""

from __future__ import annotations

from alarm_mw import monitors
from alarm_mw.interfaces import Monitor
from alarm_mw.plugins import Registry

#: Modules of this package that serve monitors and are none.
_HELPERS = frozenset(
    {
        "crashdump",
        "endings",
        "processes",
        "queues",
        "registry",
        "shared_reader",
        "sock_diag",
        "sockets",
        "sources",
    }
)

_registry: Registry[Monitor] = Registry(
    kind="monitor",
    noun="monitor",
    package=monitors,
    helpers=_HELPERS,
    interface=("Options", "from_uwsgi", "run"),
)

names = _registry.names
find = _registry.find
