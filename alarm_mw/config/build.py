"""From settings to the engine that they describe."""

from __future__ import annotations

from alarm_mw.config.settings import Settings
from alarm_mw.engine.engine import Engine
from alarm_mw.engine.rules import compile_rule
from alarm_mw.engine.screen import Screen


def engine_of(settings: Settings) -> Engine:
    """Return a new engine with its screen; may take a second for thousands of rules."""
    rules = [compile_rule(rule) for rule in settings.rules]
    return Engine(
        rules,
        Screen.compile(rules),
        [alarm.name for alarm in settings.alarms],
        left_out=settings.left_out,
        alarm_freq=settings.alarm_freq,
        alarm_msg_size=settings.alarm_msg_size,
    )
