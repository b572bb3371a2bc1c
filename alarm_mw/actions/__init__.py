"""What an alarm does: one module or package per action, named as in the configuration."""

from __future__ import annotations

from alarm_mw.model.interfaces import Action
from alarm_mw.model.plugins import Registry

_registry: Registry[Action] = Registry(
    kind="action",
    noun="alarm plugin",
    package=__name__,
    path=tuple(__path__),
    interface=("Options", "concurrency", "from_uwsgi", "deliver", "__aenter__", "__aexit__"),
)

names = _registry.names
find = _registry.find
