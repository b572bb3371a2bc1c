"""What a plugin implements, and what it is given."""

from __future__ import annotations

from alarm_mw.model.interfaces import (
    MASK,
    SECRET,
    Action,
    ActionContext,
    Execution,
    Monitor,
    MonitorContext,
    PluginOptions,
    Processes,
)

__all__ = [
    "MASK",
    "SECRET",
    "Action",
    "ActionContext",
    "Execution",
    "Monitor",
    "MonitorContext",
    "PluginOptions",
    "Processes",
]
