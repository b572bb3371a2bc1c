"""Alarms, rules and numbers from tables: the keys of a TOML file, and of the keywords of ``init()``."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from msgspec import structs

from alarm_mw.config.alarm_args import read_alarm
from alarm_mw.config.execution import read_execution_table
from alarm_mw.config.mules import read_mule_table
from alarm_mw.config.part import NUMBERS, Declared, FindAction, Part, Written, read_number
from alarm_mw.config.rule_sets.rule_sets import read_set_table
from alarm_mw.config.settings import Alarm, MetricsListener, Upkeep
from alarm_mw.config.tables.alarm_names import alarm_names, optional_names
from alarm_mw.config.tables.fallbacks import read_fallback_after
from alarm_mw.config.tables.limits import read_alarm_rate, read_threshold
from alarm_mw.config.tables.monitors import read_monitors
from alarm_mw.config.tables.requests import read_request
from alarm_mw.config.tables.structs import read_inner, read_struct
from alarm_mw.config.tables.texts import (
    check_options,
    is_uwsgi,
    read_labels,
    read_rule_name,
    read_server_name,
    read_texts,
)
from alarm_mw.config.tables.tree import Table, kind_of, name_of
from alarm_mw.delivery.outbox.stock import OutboxOptions
from alarm_mw.delivery.policy import Delivery
from alarm_mw.engine.flood_control.limits import Limits
from alarm_mw.model.errors import MissingError, OptionError
from alarm_mw.model.types import Rule, Syntax, Texts, Where

#: The keys of an alarm's table beside those of its action.
_ALARM_KEYS = frozenset(
    {"action", "delivery", "limits", "optional", "fallback", "fallback_after", "labels", "title", "text"}
)
_RULE_KEYS = (
    "name",
    "pattern",
    "exclude",
    "alarms",
    "level",
    "logger",
    "multiline",
    "syntax",
    "request",
    "count",
    "within",
    "labels",
)
#: The keys at the top of a file beside the numbers.
ROOT_KEYS = (
    "alarms",
    "rules",
    "monitors",
    "mules",
    "own_alarms",
    "alarm_rate",
    "name",
    "labels",
    "messages",
    "outbox",
    "metrics",
    "execution",
    *Upkeep.__struct_fields__,
)
#: A regexp that is found nowhere.
_NEVER = "(?!)"


def read_tables(root: Table, find_action: FindAction) -> Part:
    """Return what a whole file or call says; what is wrong goes to the report of its tables."""
    part = Part()
    root.refuse_unknown([*NUMBERS, *ROOT_KEYS])
    part.fields |= _numbers(root)
    execution = read_execution_table(root)
    others: dict[str, object] = {
        "alarm_rate": read_alarm_rate(root),
        "metrics": read_metrics(root),
        "outbox": read_outbox(root),
        "execution": execution,
    }
    part.fields |= {name: value for name, value in others.items() if value is not None}
    if name := read_server_name(root):
        part.fields["name"] = name
    part.labels = read_labels(root)
    part.alarms += _alarms(root, find_action)
    part.rules += _rules(root)
    part.monitors += read_monitors(root)
    part.mules += read_mule_table(root, execution.chdir if execution is not None else "")
    part.own_alarms += [(name, root.where("own_alarms")) for name in optional_names(root, "own_alarms")]
    part.upkeep |= read_upkeep(root)
    return part


def _numbers(root: Table) -> dict[str, float]:
    numbers = {}
    for name in NUMBERS:
        if name in root.values and not root.is_broken(name):
            try:
                numbers[name] = read_number(name, root.values[name], is_text=root.is_from_environ(name))
            except ValueError as error:
                root.wrong(f"{name}: {error}", name)
    return numbers


def _alarms(root: Table, find_action: FindAction) -> list[Declared]:
    default = None if is_uwsgi(root) else Texts()
    table = root.table("alarms", "")
    if table is None:
        return []
    for name in table.values:
        if not isinstance(name, str) or not is_name(name):
            table.wrong(f"{name_of((*table.path, name))}: a name is text without blanks and commas", name)
    return [_declared(table, name, find_action, default) for name in table.values if isinstance(name, str)]


def is_name(name: str) -> bool:
    """Return whether an alarm in TOML may have this name."""
    return bool(name) and not any(mark in name for mark in " ,\t\n")


def _declared(alarms: Table, name: str, find_action: FindAction, default: Texts | None) -> Declared:
    where = alarms.where(name)
    try:
        return Declared(name, where, _alarm(alarms, name, find_action, default), is_strict=True)
    except MissingError as error:
        alarms.origin.report.warn(where, f"alarm {name!r} is optional and is left out: {error}")
        return Declared(name, where, None, is_strict=True, is_left_out=True)


def _alarm(alarms: Table, name: str, find_action: FindAction, default: Texts | None) -> Alarm | None:
    """Return an alarm written as ``"plugin:args"`` or as a table; `default` is what it says without templates.

    Raises `MissingError` where something is not installed that an optional alarm needs.
    """
    what = name_of((*alarms.path, name))
    value = alarms.values[name]
    if isinstance(value, str):
        if alarms.is_broken(name):
            return None
        try:
            alarm = read_alarm(name, value, alarms.where(name), find_action)
            if default is not None:
                check_options(alarms, alarm.options, name)
            return structs.replace(alarm, texts=default)
        except OptionError as error:
            alarms.origin.report.refused(alarms.where(name), what, error)
            return None
    if isinstance(value, Mapping):
        return _alarm_table(Table(value, alarms.origin, (*alarms.path, name), what), name, find_action, default)
    alarms.wrong(f"{what}: expected a table or a string such as 'cmd:…', got {kind_of(value)}", name)
    return None


def _alarm_table(table: Table, name: str, find_action: FindAction, default: Texts | None) -> Alarm | None:
    delivery, limits = read_inner(Delivery, table, "delivery"), read_inner(Limits, table, "limits")
    is_optional = _flag(table, "optional")
    fallback, fallback_after = optional_names(table, "fallback"), read_fallback_after(table)
    plugin = table.plugin("action", "plugin")
    if plugin is None:
        return None
    try:
        kind = find_action(plugin).Options
        texts = read_texts(table, kind, default)
        labels = () if "labels" in kind.__struct_fields__ else read_labels(table)
        options = read_struct(kind, table, _ALARM_KEYS)
    except OptionError as error:
        if is_optional and isinstance(error, MissingError):
            raise
        table.origin.report.refused(table.where("action"), table.name, error)
        return None
    if options is None or delivery is None or limits is None:
        return None
    return Alarm(name, plugin, options, delivery, table.where(), limits, fallback, fallback_after, texts, labels)


def _rules(root: Table) -> list[Written]:
    written: list[Written] = []
    for table in root.tables("rules"):
        written += read_set_table(table) if "rules" in table.values else [_rule(table)]
    return written


def _rule(table: Table) -> Written:
    """Return the rule; in the place of what is wrong in it stands what does no harm."""
    table.refuse_unknown(_RULE_KEYS)
    key, excludes = _pattern_key(table)
    # A rule on requests may do without a regexp: the empty one is found in every line.
    pattern = _text(table, key) if key in table.values or "request" not in table.values else ""
    rule = Rule(
        _NEVER if pattern is None else pattern,
        _alarm_names(table, excludes=excludes),
        _syntax(table),
        excludes=excludes,
        multiline=_flag(table, "multiline"),
        level=_level(table),
        logger=_text(table, "logger"),
        **read_threshold(table, excludes=excludes),
        request=read_request(table),
        where=_place(table, key),
        name=read_rule_name(table),
        labels=read_labels(table),
    )
    return Written(rule, table.where("alarms"))


def _pattern_key(table: Table) -> tuple[str, bool]:
    excludes = "exclude" in table.values
    if excludes and "pattern" in table.values:
        table.wrong("both 'pattern' and 'exclude', expected one of them", "exclude")
    if not {"exclude", "pattern", "request"} & table.values.keys():
        table.wrong("no regexp, expected 'pattern' or 'exclude', or 'request'")
    return ("exclude" if excludes else "pattern"), excludes


def _place(table: Table, key: str) -> Where:
    """Return where the regexp begins, with its column where that is known."""
    pattern = table.values.get(key)
    if not isinstance(pattern, str):
        return table.where()
    where = table.where(key)
    return Where(where.file, where.line, table.origin.column((*table.path, key), pattern))


def _alarm_names(table: Table, *, excludes: bool) -> tuple[str, ...]:
    if not excludes:
        return alarm_names(table, "rule")
    if "alarms" in table.values:
        table.wrong("'alarms' beside 'exclude': an exclusion ends the scan and fires nothing", "alarms")
    return ()


def _text(table: Table, key: str) -> str | None:
    value = None if table.is_broken(key) else table.values.get(key)
    if value is None or isinstance(value, str):
        return value
    table.wrong(f"{key}: expected a string, got {kind_of(value)}", key)
    return None


def _flag(table: Table, key: str) -> bool:
    value = table.values.get(key, False)
    if isinstance(value, bool):
        return value
    table.wrong(f"{key}: expected true or false, got {kind_of(value)}", key)
    return False


def _syntax(table: Table) -> Syntax:
    value = _text(table, "syntax")
    if value is None:
        return Syntax.PYTHON
    if value in {*Syntax}:
        return Syntax(value)
    table.wrong(f"syntax: expected 'python' or 'pcre', got {value!r}", "syntax")
    return Syntax.PYTHON


def _level(table: Table) -> int | None:
    """Return the number of a level that is given by its name in `logging`, or as a number."""
    value = None if table.is_broken("level") else table.values.get("level")
    if value is None:
        return None
    names = logging.getLevelNamesMapping()
    if isinstance(value, str):
        value = int(value) if re.fullmatch("[0-9]{1,9}", value) else names.get(value.upper(), value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    got = repr(value) if isinstance(value, str | int) and not isinstance(value, bool) else kind_of(value)
    table.wrong(f"level: expected one of {', '.join(names)} or a number, got {got}", "level")
    return None


def read_upkeep(root: Table) -> dict[str, object]:
    """Return those fields of `Upkeep` that the outermost table has."""
    given = {key: value for key, value in root.values.items() if key in Upkeep.__struct_fields__}
    read = read_struct(Upkeep, Table(given, root.origin, root.path, root.name))
    return {} if read is None else {key: getattr(read, key) for key in given}


def read_outbox(root: Table) -> OutboxOptions | None:
    """Return the table ``[outbox]``, or None where there is none, or a wrong one."""
    table = root.table("outbox", "outbox")
    return None if table is None else read_struct(OutboxOptions, table)


def read_metrics(root: Table) -> MetricsListener | None:
    """Return the table ``[metrics]``, or None where there is none, or a wrong one."""
    table = root.table("metrics", "metrics")
    return None if table is None else read_struct(MetricsListener, table)
