"""Settings as JSON and back: what the command line has checked is what every master of a run uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from alarm_mw.actions import registry
from alarm_mw.config.part import FindAction
from alarm_mw.config.settings import Alarm, Settings


def to_json(settings: Settings) -> dict[str, object]:
    """Return the settings in the types of JSON. Holds secrets."""
    values: dict[str, object] = msgspec.to_builtins(replace(settings, warnings=()))
    return values


def from_json(values: Mapping[str, Any], find_action: FindAction = registry.find) -> Settings:
    """Return the settings that `to_json` was given; raise `msgspec.ValidationError` for anything else."""
    plain = msgspec.convert({**values, "alarms": []}, Settings)
    return replace(plain, alarms=tuple(_alarms(values["alarms"], find_action)))


def _alarms(values: Sequence[Mapping[str, Any]], find_action: FindAction) -> list[Alarm]:
    return [
        replace(
            msgspec.convert({**alarm, "options": {}}, Alarm),
            options=msgspec.convert(alarm["options"], find_action(alarm["plugin"]).Options),
        )
        for alarm in values
    ]
