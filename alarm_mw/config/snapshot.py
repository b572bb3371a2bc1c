"""Settings as JSON and back: what the command line has checked is what every master of a run uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import structs

from alarm_mw import actions, monitors
from alarm_mw.config.part import FindAction
from alarm_mw.config.settings import Alarm, Settings, Watch
from alarm_mw.model.interfaces import Action, Monitor


def to_json(settings: Settings) -> dict[str, object]:
    """Return the settings in the types of JSON. Holds secrets."""
    values: dict[str, object] = msgspec.to_builtins(structs.replace(settings, warnings=()))
    return values


def from_json(
    values: Mapping[str, Any],
    find_action: FindAction = actions.find,
    find_monitor: Callable[[str], type[Monitor]] = monitors.find,
) -> Settings:
    """Return the settings that `to_json` was given; raise `msgspec.ValidationError` for anything else."""
    plain = msgspec.convert({**values, "alarms": [], "monitors": []}, Settings)
    return structs.replace(
        plain,
        alarms=tuple(_restored(each, Alarm, find_action(each["plugin"])) for each in values["alarms"]),
        monitors=tuple(_restored(each, Watch, find_monitor(each["monitor"])) for each in values["monitors"]),
    )


E = TypeVar("E", Alarm, Watch)


def _restored(entry: Mapping[str, Any], kind: type[E], plugin: type[Action | Monitor]) -> E:
    """Return an entry with the options of its plugin."""
    options = msgspec.convert(entry["options"], plugin.Options)
    return structs.replace(msgspec.convert({**entry, "options": {}}, kind), options=options)
