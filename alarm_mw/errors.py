"""The errors of this package. `alarm_mw.model.errors` draws their tree."""

from __future__ import annotations

from alarm_mw.model.errors import (
    ActionError,
    AlarmError,
    ConfigError,
    MissingError,
    NotRunningError,
    OptionError,
    PatternError,
    Problem,
    RuleTimeout,
)

__all__ = [
    "ActionError",
    "AlarmError",
    "ConfigError",
    "MissingError",
    "NotRunningError",
    "OptionError",
    "PatternError",
    "Problem",
    "RuleTimeout",
]
