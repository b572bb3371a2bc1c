"""What one source of configuration says, checked as far as it can be without the others."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from alarm_mw.config.settings import Alarm, Follow, Watch
from alarm_mw.model.errors import OptionError
from alarm_mw.model.interfaces import Action, secrets
from alarm_mw.model.keyvalue import split
from alarm_mw.model.masking import mask_values
from alarm_mw.model.types import Route, Rule, Where

#: Looks up an action by its name; raises `OptionError`.
FindAction = Callable[[str], type[Action]]


class Declared(msgspec.Struct, frozen=True):
    """An alarm's name, which rules may use even if the rest of the alarm is wrong."""

    name: str
    where: Where
    #: The alarm, unless something is wrong with it.
    alarm: Alarm | None
    #: What uWSGI tolerates is a mistake, such as a second alarm of this name.
    is_strict: bool
    #: Its action needs something that is not installed, and the alarm is ``optional = true``.
    is_left_out: bool = False


class Written(msgspec.Struct, frozen=True):
    """A rule, and the place of its alarms' names."""

    rule: Rule
    names_at: Where
    #: An unknown alarm is a mistake; else it is ignored with a warning.
    is_strict: bool = True
    #: What is wrong if it has no alarm by a route either; empty where it has alarms, or needs none.
    alarmless: str = ""


class Watched(msgspec.Struct, frozen=True):
    """A monitor, and the place of its alarms' names."""

    #: None for one that is wrong in itself.
    watch: Watch | None
    alarms: tuple[str, ...]
    names_at: Where
    #: An unknown alarm is a mistake; else it is ignored with a warning.
    is_strict: bool = True


class Part(msgspec.Struct):
    """The alarms, rules, monitors and numbers of one file, of the flags, or of the keywords."""

    alarms: list[Declared] = msgspec.field(default_factory=list)
    rules: list[Written] = msgspec.field(default_factory=list)
    routes: list[Route] = msgspec.field(default_factory=list)
    monitors: list[Watched] = msgspec.field(default_factory=list)
    #: Logs to follow.
    follow: list[Follow] = msgspec.field(default_factory=list)
    #: Programs of mules.
    mules: list[str] = msgspec.field(default_factory=list)
    #: Names and values that are added to all messages.
    labels: tuple[tuple[str, str], ...] = ()
    #: The alarms that fire if something is wrong with the program itself, and the places of their names.
    own_alarms: list[tuple[str, Where]] = msgspec.field(default_factory=list)
    #: The alarms that fire if a machine of the fleet falls silent, and the places of their names.
    fleet_alarms: list[tuple[str, Where]] = msgspec.field(default_factory=list)
    #: Other fields of `Settings` that it sets, by name.
    fields: dict[str, Any] = msgspec.field(default_factory=dict)
    #: Where nothing else is said, a printed traceback is one record: not with uWSGI's options.
    has_whole_tracebacks: bool = False
    #: Fields of `Upkeep`, by name.
    upkeep: dict[str, Any] = msgspec.field(default_factory=dict)


#: The type and the description of each number in `Settings`.
NUMBERS: dict[str, tuple[object, str]] = {
    "alarm_freq": (Annotated[float, msgspec.Meta(ge=0, le=1e9)], "a number of seconds, 0 or more"),
    "alarm_msg_size": (Annotated[int, msgspec.Meta(ge=1, le=2**30)], "a whole number of bytes, 1 to 1073741824"),
}


def read_number(name: str, value: object, *, is_text: bool) -> float:
    """Return the value of `alarm_freq` or `alarm_msg_size`; `is_text` lets a string be read as a number.

    Raises `ValueError` with a sentence for the user.
    """
    kind, expected = NUMBERS[name]
    try:
        number: float = msgspec.convert(value, kind, strict=not is_text)
    except msgspec.ValidationError:
        raise ValueError(f"expected {expected}, got {value!r}") from None
    return number


class Entry(msgspec.Struct, frozen=True):
    """A key, its value and where it stands."""

    key: str
    value: str
    where: Where
    #: The line as it stands in the file, to find columns; empty where there is none.
    source: str = ""

    @property
    def option(self) -> str:
        """The key as the tables of options have it: ``-`` and ``_`` are the same."""
        return self.key.replace("_", "-")


def read_alarm(name: str, action: str, where: Where, find_action: FindAction) -> Alarm:
    """Return the alarm of ``PLUGIN:ARGS``; raise `OptionError` if it is wrong."""
    plugin, colon, args = action.partition(":")
    if not colon:
        raise OptionError("expected PLUGIN:ARGS, but there is no colon after the plugin's name")
    if not re.fullmatch(r"[\w.-]+", plugin):
        raise OptionError("expected PLUGIN:ARGS, but there is no plugin's name right before the first colon")
    kind = find_action(plugin)
    try:
        return Alarm(name, plugin, kind.from_uwsgi(args), where=where)
    except OptionError as error:
        # In case the message quotes them.
        hidden = [value for key, value in split(args) if key in secrets(kind.Options)]
        raise OptionError(*(mask_values(text, hidden) for text in error.texts)) from None
