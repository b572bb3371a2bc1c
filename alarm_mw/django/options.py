"""``settings.ALARM_MW``: the keywords of `alarm_mw.init`, and the management commands that have alarms."""

from __future__ import annotations

import difflib
import inspect
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import structs

from alarm_mw.app.client import init
from alarm_mw.config.load import from_keywords
from alarm_mw.config.settings import Settings
from alarm_mw.config.sources import Sources
from alarm_mw.master.runtime.making import unmakable
from alarm_mw.model.errors import ConfigError, Problem
from alarm_mw.model.types import Where

SETTING: Final = "ALARM_MW"

KEYWORDS: Final = (*inspect.signature(init).parameters,)
COMMANDS: Final = "commands"

#: A place inside of the keywords: ``init(alarms["jabber"])``.
_KEYWORD = re.compile(r"init\((\w+)(.*)\)")


def load(options: object) -> Settings | None:
    """Return the settings that the setting makes; None if it is missing and no file is found.

    Raises `ConfigError` with every problem found. Reads files, and so may block.
    """
    found = Sources.found(os.environ)
    if options is None and not (found.toml_files or found.ini_files):
        return None
    given = {} if options is None else options
    if problems := (*_shape(given),):
        raise ConfigError(problems)
    assert isinstance(given, Mapping)
    keywords: dict[str, Any] = {str(name): value for name, value in given.items() if name != COMMANDS}
    settings = from_keywords(**keywords)
    if impossible := unmakable(settings):
        raise ConfigError(impossible)
    return settings


def mistakes(error: ConfigError) -> tuple[Problem, ...]:
    """Return the problems, with places as they are written in Django's settings."""
    return tuple(structs.replace(problem, where=_in_settings(problem.where)) for problem in error.problems)


def _in_settings(where: Where) -> Where:
    found = _KEYWORD.fullmatch(where.file)
    return where if found is None else structs.replace(where, file=f'{SETTING}["{found[1]}"]{found[2]}')


def _shape(options: object) -> Iterator[Problem]:
    if not isinstance(options, Mapping):
        yield Problem(Where(SETTING), f"expected a dictionary, got {type(options).__name__}")
        return
    known = [*KEYWORDS, COMMANDS]
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            meant = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
            yield Problem(Where(SETTING), f"unknown key {name!r} ({meant})")
    commands = options.get(COMMANDS, ())
    if not isinstance(commands, (list, tuple)) or not all(isinstance(name, str) for name in commands):
        yield Problem(Where(f'{SETTING}["{COMMANDS}"]'), "expected a list of management commands")
