"""An alarm in uWSGI's short form: ``PLUGIN:ARGS``."""

from __future__ import annotations

import re

from alarm_mw.config.part import FindAction
from alarm_mw.config.settings import Alarm
from alarm_mw.model.errors import OptionError
from alarm_mw.model.interfaces import secrets
from alarm_mw.model.keyvalue import split
from alarm_mw.model.masking import mask
from alarm_mw.model.types import Where


def read_alarm(name: str, action: str, where: Where, find_action: FindAction) -> Alarm:
    """Return the alarm of ``PLUGIN:ARGS``; raise `OptionError` when something is wrong with it."""
    plugin, colon, args = action.partition(":")
    if not colon:
        raise OptionError("expected PLUGIN:ARGS, but there is no colon after the plugin's name")
    if not re.fullmatch(r"[\w.-]+", plugin):
        raise OptionError("expected PLUGIN:ARGS, but there is no plugin's name right before the first colon")
    kind = find_action(plugin)
    try:
        return Alarm(name, plugin, kind.from_uwsgi(args), where=where)
    except OptionError as error:
        # Should it quote them.
        hidden = [value for key, value in split(args) if key in secrets(kind.Options)]
        raise OptionError(*(mask(text, hidden) for text in error.texts)) from None
