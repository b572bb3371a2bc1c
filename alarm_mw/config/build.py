"""From settings to the engine that they describe."""

from __future__ import annotations

import os

from alarm_mw.config.literal_cache import LiteralCache
from alarm_mw.config.settings import Settings, limits_of
from alarm_mw.engine.engine import Engine
from alarm_mw.engine.flood_control.limits import read_rate
from alarm_mw.engine.memory import Memory
from alarm_mw.patterns.prefilter import Prefilter


def engine_of(settings: Settings, memory: Memory | None = None) -> Engine:
    """Return a new engine with its prefilter; takes some tenths of a second for a thousand rules that are new.

    `memory` is that of the engine before it.
    """
    rules = LiteralCache.of_user(os.environ).compiled(settings.rules)
    return Engine(
        rules,
        Prefilter(rules),
        [alarm.name for alarm in settings.alarms],
        left_out=settings.left_out,
        alarm_freq=settings.alarm_freq,
        alarm_msg_size=settings.alarm_msg_size,
        alarm_rate=None if settings.alarm_rate is None else read_rate(settings.alarm_rate),
        limits={alarm.name: limits_of(alarm) for alarm in settings.alarms},
        memory=memory,
    )
