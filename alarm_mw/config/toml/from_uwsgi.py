"""Converts settings that come from uWSGI's options to TOML that makes the same settings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from alarm_mw.config.settings import Alarm, Settings, Watch
from alarm_mw.config.tables.tables import is_name
from alarm_mw.model.errors import ConfigError, PatternError, Problem
from alarm_mw.model.interfaces import Execution
from alarm_mw.model.types import Rule, Syntax, Where
from alarm_mw.patterns.syntax import pcre

_HEAD = """\
# Made by `alarm-mw migrate`. References in the ini file, such as $(VARIABLE) and %(name), are replaced by their values.
"""
_ALARMS = """\
# [alarms.NAME.delivery] sets retries and time limits: attempt_timeout, give_up_after, backoff_first, backoff_max.
# `optional = true` disables an alarm if its action is not installed. Passwords and keys are written in plain text here;
# "${VARIABLE}" in a string takes one from the environment.
"""
_MESSAGES = """\
# Messages as uWSGI sends them, byte for byte. Without this key, messages are written for people.
messages = "uwsgi"
"""
_RULES = """\
# syntax = "pcre" is uWSGI's syntax, PCRE on bytes. Without it a regexp is Python's, on text. Both kinds of rules can
# also require a `level` and a `logger`, and search whole records with `multiline = true`. A rule with a `name` and with
# `resolve` or `resolve_after` reports a beginning and an end instead of each match; one with `absent_for` or `schedule`
# reports that it does not match.
"""
_BYTES = r"# \xNN here is a byte in the ini file that is not UTF-8."
_BYTE = re.compile("[\udc80-\udcff]")


def to_toml(settings: Settings, file: str) -> str:
    """Return a TOML document that makes these settings, secrets included; only places and warnings differ.

    The names that stand before the regexp of an exclusion are not written, since they mean nothing. Raises
    `ConfigError` with everything that TOML cannot hold; `file` is what its problems name where they have no place.
    """
    writer = _Writer(Where(file))
    sections = [
        _HEAD,
        writer.numbers(settings),
        writer.execution(settings.execution),
        *([_ALARMS] if settings.alarms else []),
        *map(writer.alarm, settings.alarms),
        *([_RULES] if settings.rules else []),
        *map(writer.rule, settings.rules),
        *map(writer.monitor, settings.monitors),
    ]
    if writer.problems:
        raise ConfigError(writer.problems)
    return "\n".join(section for section in sections if section)


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes one section after the other, and notes what cannot be written."""

    file: Where
    problems: list[Problem] = field(default_factory=list)

    def numbers(self, settings: Settings) -> str:
        """Return the keys above all tables that do not have their default values."""
        defaults = Settings()
        numbers = "".join(
            self._line(key, getattr(settings, key), self.file)
            for key in ("alarm_freq", "alarm_msg_size", "mules")
            if getattr(settings, key) != getattr(defaults, key)
        )
        return numbers + (_MESSAGES if settings.alarms else "")

    def execution(self, execution: Execution) -> str:
        """Return the table `[execution]`; nothing if it has the default values."""
        lines = self._options(execution, self.file, "execution: ")
        return f"[execution]\n{lines}" if lines else ""

    def alarm(self, alarm: Alarm) -> str:
        """Return the table of an alarm."""
        if not is_name(alarm.name):
            self._wrong(alarm.where, f"alarm {alarm.name!r}", "a name in TOML is text without spaces and commas")
        head = f"[alarms.{write_key(alarm.name)}]\naction = {write_value(alarm.plugin)}\n"
        owner = f"alarm {alarm.name!r}: "
        delivery = self._options(alarm.delivery, alarm.where, owner)
        table = f"\n[alarms.{write_key(alarm.name)}.delivery]\n{delivery}" if delivery else ""
        return head + self._options(alarm.options, alarm.where, owner) + table

    def monitor(self, watch: Watch) -> str:
        """Return the table of a monitor."""
        head = f"[[monitors]]\nmonitor = {write_value(watch.monitor)}\nalarms = {write_value(watch.alarms)}\n"
        return head + self._options(watch.options, watch.where, "")

    def rule(self, rule: Rule) -> str:
        """Return the table of a rule."""
        pattern = self._pattern(rule)
        lines = ["[[rules]]\n", f"{_BYTES}\n" if pattern != rule.pattern else ""]
        lines.append(self._line("exclude" if rule.excludes else "pattern", pattern, rule.where))
        if rule.syntax is not Syntax.PYTHON:
            lines.append(f'syntax = "{rule.syntax}"\n')
        if not rule.excludes:
            lines.append(f"alarms = {write_value(rule.alarms)}\n")
        return "".join(lines)

    def _pattern(self, rule: Rule) -> str:
        r"""Return the regexp with ``\xNN`` for bytes that are not UTF-8, if the meaning stays the same."""
        pattern = _BYTE.sub(lambda byte: f"\\x{ord(byte[0]) & 0xFF:02x}", rule.pattern)
        if pattern == rule.pattern or _same_meaning(pattern, rule.pattern):
            return pattern
        return rule.pattern

    def _options(self, options: msgspec.Struct, where: Where, owner: str) -> str:
        return "".join(self._line(key, value, where, owner) for key, value in _given(options))

    def _line(self, key: str, value: object, where: Where, owner: str = "") -> str:
        try:
            return f"{write_key(key)} = {write_value(value)}\n"
        except ValueError as error:
            self._wrong(where, f"{owner}{key}", str(error))
            return ""

    def _wrong(self, where: Where, what: str, text: str) -> None:
        self.problems.append(Problem(where, f"{what}: {text}"))


def _given(options: msgspec.Struct) -> Iterator[tuple[str, object]]:
    """Yield the keys and values of options that do not have their default values."""
    for option in msgspec.structs.fields(options):
        value = getattr(options, option.name)
        if option.required or value != _default(option):
            yield option.encode_name, msgspec.to_builtins(value)


def _default(option: msgspec.structs.FieldInfo) -> object:
    make: Callable[[], object] | object = option.default_factory
    return make() if callable(make) else option.default


def _same_meaning(one: str, other: str) -> bool:
    try:
        return pcre.parse(one) == pcre.parse(other)
    except PatternError:
        return False


_BARE = re.compile(r"[A-Za-z0-9_-]+")

#: The text that a string in single quotes can contain: it has no escapes, so regexps stay readable.
_LITERAL = re.compile(r"[^'\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]*")

_SURROGATE = re.compile("[\ud800-\udfff]")


def write_value(value: object) -> str:
    """Return a string, number, boolean, array or table as the right side of ``key = value``.

    Strings read back as they are, ``${`` included, which TOML files here write as ``$${``.
    """
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return _string(value.replace("${", "$${"))
        case list() | tuple():
            return f"[{', '.join(map(write_value, value))}]"
        case Mapping():
            return f"{{ {', '.join(f'{write_key(key)} = {write_value(inner)}' for key, inner in value.items())} }}"
    raise ValueError(f"TOML has no value for {value!r}")


def write_key(key: str) -> str:
    """Return a key, in quotes where it must be."""
    return key if _BARE.fullmatch(key) else _basic(key)


def _string(text: str) -> str:
    return f"'{text}'" if "\\" in text and _LITERAL.fullmatch(text) else _basic(text)


def _basic(text: str) -> str:
    if found := _SURROGATE.search(text):
        byte = ord(found[0]) & 0xFF
        raise ValueError(f"the byte 0x{byte:02x} is not UTF-8 there, and TOML must be UTF-8")
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
