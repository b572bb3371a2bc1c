"""Ready rule sets in a configuration: ``rules = "gunicorn"`` in the place of a regexp."""

from __future__ import annotations

from collections.abc import Iterable

from alarm_mw.config.part import Written
from alarm_mw.config.report import Report
from alarm_mw.config.rule_sets.data import RULE_SETS, NamedRule
from alarm_mw.config.tables.alarm_names import alarm_names
from alarm_mw.config.tables.tree import Table, kind_of
from alarm_mw.config.uwsgi.entry import Entry
from alarm_mw.model.errors import OptionError
from alarm_mw.model.keyvalue import comma_list, did_you_mean
from alarm_mw.model.types import Rule, Where

#: The keys of a table that names sets.
SET_KEYS = ("rules", "alarms")


def rules_of(names: Iterable[str]) -> tuple[NamedRule, ...]:
    """Return the rules of these sets, each ``SET`` or ``SET.RULE``; those that several have in common once.

    Raises `OptionError` for names that are not known.
    """
    wanted = list(names)
    known = _by_name()
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise OptionError(*(_unknown(name, known) for name in unknown))
    return tuple({rule.pattern: rule for name in wanted for rule in known[name]}.values())


def _by_name() -> dict[str, tuple[NamedRule, ...]]:
    single = {f"{name}.{rule.name}": (rule,) for name, rules in RULE_SETS.items() for rule in rules}
    return {**RULE_SETS, **single}


def _unknown(name: str, known: Iterable[str]) -> str:
    return f"unknown rule set {name!r}{did_you_mean(name, known)}; there are: {', '.join(RULE_SETS)}"


def read_set_table(table: Table) -> list[Written]:
    """Return the rules of a table ``[[rules]]`` that names sets; what is wrong goes to the report of the table."""
    table.refuse_unknown(SET_KEYS)
    alarms, value = alarm_names(table, "rule"), table.values["rules"]
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        table.wrong(f"rules: expected the name of a rule set, or an array of names, got {kind_of(value)}", "rules")
        return []
    if table.is_broken("rules"):
        return []
    try:
        return _written([str(name) for name in names], alarms, table.where("rules"), table.where("alarms"))
    except OptionError as error:
        table.origin.report.refused(table.where("rules"), table.name, error)
        return []


def read_set_option(entry: Entry, report: Report) -> list[Written]:
    """Return the rules of ``NAME[,NAME…] SET[,SET…]``; what is wrong goes to `report`."""
    names, _, sets = entry.value.partition(" ")
    alarms, wanted = comma_list(names), comma_list(sets)
    if not alarms or not wanted:
        report.wrong(entry.where, f"{entry.key}: expected NAME[,NAME…] SET[,SET…], with a blank between them")
        return []
    try:
        return _written(wanted, alarms, entry.where, entry.where, is_strict=False)
    except OptionError as error:
        report.refused(entry.where, entry.key, error)
        return []


def _written(
    names: Iterable[str], alarms: tuple[str, ...], where: Where, names_at: Where, *, is_strict: bool = True
) -> list[Written]:
    return [Written(Rule(rule.pattern, alarms, where=where), names_at, is_strict) for rule in rules_of(names)]
