"""Creates the actions of a configuration, including those of other packages."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import cast

from alarm_mw import actions
from alarm_mw.config.settings import Alarm, Settings
from alarm_mw.model.errors import ConfigError, Problem
from alarm_mw.model.interfaces import Action, ActionContext, secrets
from alarm_mw.model.masking import mask
from alarm_mw.model.types import Place


def make_action(alarm: Alarm, context: ActionContext, find_action: Callable[[str], type[Action]]) -> Action:
    """Return the action of an alarm; one that does not ship with this package has an event loop of its own.

    Raises `ConfigError` with the alarm's place when it cannot be made.
    """
    try:
        action = find_action(alarm.plugin)(alarm.options, context)
    except (Exception, SystemExit) as error:  # code of others may raise anything
        hidden = (str(getattr(alarm.options, name)) for name in secrets(type(alarm.options)))
        said = mask(f"{type(error).__name__}: {error}", hidden)
        text = f"alarm {alarm.name!r}: the alarm plugin {alarm.plugin!r} cannot be used: {said}"
        raise ConfigError([Problem(alarm.where, text)]) from error
    is_ours = type(action).__module__.startswith(f"{__name__.partition('.')[0]}.")
    return action if is_ours else _apart(action, alarm.name)


def place_of(alarm: Alarm, settings: Settings, server: str, link_key: bytes = b"") -> Place:
    """Return where an alarm's messages come from: this machine, as its fleet calls it, and the server of this name."""
    host = os.uname().nodename if settings.fleet is None else settings.fleet.host
    return Place(host, server, dict(alarm.labels), settings.web.url, link_key)


def _apart(action: Action, alarm: str) -> Action:
    from alarm_mw.master.runtime.foreign import ForeignAction  # noqa: PLC0415  # asyncio takes 20 ms, of a server's start

    return cast("Action", ForeignAction(action, alarm))


def unmakable(settings: Settings, find_action: Callable[[str], type[Action]] = actions.find) -> tuple[Problem, ...]:
    """Return a problem for each alarm whose action cannot be created. The actions are not opened."""
    problems: list[Problem] = []
    for alarm in settings.alarms:
        try:
            make_action(alarm, ActionContext(alarm.name, lambda _: None), find_action)
        except ConfigError as error:
            problems += error.problems
    return tuple(problems)
