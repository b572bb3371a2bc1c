"""Rules from tables: ``[[rules]]`` of a TOML file."""

from __future__ import annotations

import logging
import re
from typing import TypedDict

from alarm_mw.config.parts import Written
from alarm_mw.config.rule_sets import read_set_table
from alarm_mw.config.tables.conditions.requests import read_request
from alarm_mw.config.tables.fleet import SCOPES
from alarm_mw.config.tables.incidents import INCIDENT_KEYS, Shared, groups_of, read_incident
from alarm_mw.config.tables.measures import MEASURE_KEYS, kind_of_measure, read_measure
from alarm_mw.config.tables.texts import (
    read_labels,
    read_rule_name,
)
from alarm_mw.config.tables.tree import (
    Table,
    alarm_names,
    kind_of,
    no_alarm,
    optional_names,
    read_flag,
    read_inner,
    read_text,
    read_word,
)
from alarm_mw.engine.flood_control.limits import MOST, read_duration
from alarm_mw.model.keyvalue import did_you_mean
from alarm_mw.model.measures import Ratio
from alarm_mw.model.types import Context, FieldCondition, FieldNames, RequestConditions, Rule, Syntax, Where
from alarm_mw.system.forks import held_off

RULE_KEYS = (
    "name",
    "pattern",
    "exclude",
    "alarms",
    "level",
    "logger",
    "multiline",
    "syntax",
    "request",
    "where",
    "context",
    "count",
    "within",
    "labels",
    "fingerprint",
    "scope",
    *INCIDENT_KEYS,
    *MEASURE_KEYS,
)

#: Usual names of labels, which are no keys of a rule.
_LABELS = ("severity", "priority", "team", "service", "owner")

#: The levels that `logging` itself names. Packages add others, which rules may name as well.
LEVELS = ("CRITICAL", "FATAL", "ERROR", "WARN", "WARNING", "INFO", "DEBUG", "NOTSET")

#: A regexp that is found nowhere.
_NEVER = "(?!)"


def read_rules(root: Table, shared: Shared, names: FieldNames) -> list[Written]:
    """Return the rules of a file; what is wrong goes to the report of its tables.

    `names` are those of the fields in which lines state their level, their logger and so on.
    """
    written: list[Written] = []
    for table in root.tables("rules"):
        written += read_set_table(table) if "rules" in table.values else _rule(table, shared, names)
    return written


def _rule(table: Table, shared: Shared, names: FieldNames) -> list[Written]:
    """Return the rule; in the place of what is wrong in it stands what does no harm."""
    table.refuse_unknown(RULE_KEYS, _LABELS)
    key, excludes = _pattern_key(table)
    # A rule on requests or fields may do without a regexp: the empty one is found in every line.
    has_others = not {"request", "where"}.isdisjoint(table.values)
    pattern = read_text(table, key) if key in table.values or not has_others else ""
    rule = Rule(
        _NEVER if pattern is None else pattern,
        _alarm_names(table, excludes=excludes) if "alarms" in table.values else (),
        _syntax(table),
        excludes=excludes,
        multiline=read_flag(table, "multiline"),
        level=_level(table),
        logger=read_text(table, "logger"),
        **read_threshold(table, excludes=excludes),
        request=read_request(table, may_be_any=bool(kind_of_measure(table))),
        fields=_where(table, names),
        context=_context(table, excludes=excludes),
        names=names,
        where=_place(table, key),
        name=read_rule_name(table),
        labels=read_labels(table),
        fingerprint=_fingerprint(table, excludes=excludes),
        measure=read_measure(table),
        scope=read_word(table, "scope", SCOPES),
    )
    if rule.measure is not None and not rule.name:
        table.wrong("a rule that measures something needs a 'name'")
    alarmless = "" if excludes or "alarms" in table.values else f"{table.name}: {no_alarm('rule')}"
    is_broken = rule.measure is None and kind_of_measure(table)
    ours, *others = (rule,) if is_broken else (*read_incident(table, rule, shared), *_of(table, rule, names))
    where = table.where("alarms")
    return [Written(ours, where, alarmless=alarmless), *(Written(each, where) for each in others)]


#: The keys of a table ``of``.
_OF_KEYS = ("pattern", "request", "where", "level", "logger", "multiline", "syntax")


def _of(table: Table, rule: Rule, names: FieldNames) -> tuple[Rule, ...]:
    """Return the rule for the records among which the matches of a rule with a ratio are counted."""
    if not isinstance(rule.measure, Ratio):
        return ()
    inner = table.table("of", f"{table.name}: of")
    if inner is None:
        if rule.request is None:
            table.wrong("'ratio' without 'of', which says among which records matches are counted", "ratio")
        request = RequestConditions(access_log=rule.request is not None and rule.request.access_log)
        return (Rule("", (), request=request, names=names, where=table.where("ratio"), counts_for=rule.name),)
    if inner.refuse_unknown(_OF_KEYS) and not {"pattern", "request", "where"} & inner.values.keys():
        inner.wrong("expected 'pattern', 'request' or 'where'")
    pattern = read_text(inner, "pattern") if "pattern" in inner.values else ""
    of = Rule(
        _NEVER if pattern is None else pattern,
        (),
        _syntax(inner),
        multiline=read_flag(inner, "multiline"),
        level=_level(inner),
        logger=read_text(inner, "logger"),
        request=read_request(inner, may_be_any=True),
        fields=_where(inner, names),
        names=names,
        where=_place(inner, "pattern"),
        counts_for=rule.name,
    )
    keys = table.values.get("key")
    needed = {*keys} if isinstance(keys, list | tuple) else set()
    if missing := groups_of(rule.pattern).intersection(needed) - groups_of(of.pattern):
        inner.wrong(
            f"pattern: it has no group {', '.join(sorted(missing))}, which the key of the rule needs", "pattern"
        )
    return (of,)


def _pattern_key(table: Table) -> tuple[str, bool]:
    excludes = "exclude" in table.values
    if excludes and "pattern" in table.values:
        table.wrong("both 'pattern' and 'exclude', expected one of them", "exclude")
    if not {"exclude", "pattern", "request", "where"} & table.values.keys():
        table.wrong("no regexp, expected 'pattern' or 'exclude', or 'request' or 'where'")
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
    table.wrong("'alarms' beside 'exclude': an exclusion ends the scan and fires nothing", "alarms")
    return ()


def _fingerprint(table: Table, *, excludes: bool) -> tuple[str, ...]:
    """Return what equal events have in common; nothing for the default."""
    if "fingerprint" not in table.values:
        return ()
    if excludes:
        table.wrong("'fingerprint' beside 'exclude': an exclusion ends the scan and fires nothing", "fingerprint")
        return ()
    with held_off():  # few configurations need it
        from alarm_mw.engine.flood_control.fingerprint import PARTS  # noqa: PLC0415

    names = optional_names(table, "fingerprint")
    if table.values["fingerprint"] in ("", [], ()):
        table.wrong(
            'fingerprint: expected what equal events have in common, such as ["exception", "path"]', "fingerprint"
        )
    for name in names:
        if name not in PARTS and (hint := did_you_mean(name, PARTS, 0.8)):
            where = table.where("fingerprint")
            table.origin.report.warn(where, f"{table.name}: fingerprint: {name!r} is read as a field{hint}")
    return names


def _syntax(table: Table) -> Syntax:
    value = read_text(table, "syntax")
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
    table.wrong(f"level: expected one of {', '.join(LEVELS)} or a number, got {got}", "level")
    return None


def _where(table: Table, names: FieldNames) -> tuple[FieldCondition, ...]:
    """Return the conditions on fields; none if there is no such table."""
    if "where" not in table.values:
        return ()
    with held_off():  # few configurations need it
        from alarm_mw.config.tables.conditions.fields import read_where  # noqa: PLC0415

    return read_where(table, names)


def _context(table: Table, *, excludes: bool) -> Context | None:
    """Return which lines around a match are shown; None if none are."""
    if "context" not in table.values:
        return None
    if excludes:
        table.wrong("'context' beside 'exclude': an exclusion fires nothing", "context")
    context = read_inner(Context, table, "context")
    return context if context != Context() else None


class Threshold(TypedDict):
    """The fields of a rule that fires at the last of several matches."""

    count: int
    within: float


def read_threshold(table: Table, *, excludes: bool) -> Threshold:
    """Return the rule's threshold; in the place of what is wrong stands none."""
    none = Threshold(count=1, within=0.0)
    given = [key for key in ("count", "within") if key in table.values]
    if not given or kind_of_measure(table):
        return none
    if excludes:
        table.wrong(f"{given[0]!r} beside 'exclude': an exclusion ends the scan and fires nothing", given[0])
        return none
    count, within = _count(table), _within(table)
    if count is None or within is None:
        return none
    if count > 1 and "within" not in table.values:
        table.wrong("'count' without 'within', expected the time for this many matches, such as '1m'", "count")
    if "within" in given and count == 1:
        table.wrong("'within' without a 'count' of 2 or more", "within")
    return Threshold(count=count, within=within)


def _count(table: Table) -> int | None:
    value = table.values.get("count", 1)
    if table.is_broken("count"):
        return None
    if isinstance(value, str) and table.is_from_environ("count") and value.isascii() and value.isdecimal():
        value = int(value[:9])
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST:
        return value
    table.wrong(f"count: expected a whole number from 1 to {MOST}, got {_shown(value)}", "count")
    return None


def _within(table: Table) -> float | None:
    if "within" not in table.values:
        return 0.0
    value = table.values["within"]
    if table.is_broken("within"):
        return None
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        table.wrong(f"within: expected seconds, or a time such as '1m', got {kind_of(value)}", "within")
        return None
    try:
        return read_duration(value)
    except ValueError as error:
        table.wrong(f"within: {error}", "within")
        return None


def _shown(value: object) -> str:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else kind_of(value)
