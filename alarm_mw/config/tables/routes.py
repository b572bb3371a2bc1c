"""Routes from tables: ``[[routes]]``, which add alarms to rules by their labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import structs

from alarm_mw.config.parts import Written
from alarm_mw.config.report import Report
from alarm_mw.config.tables.tree import Table, alarm_names, optional_names, read_struct
from alarm_mw.model.types import Route, Rule
from alarm_mw.system.forks import held_off


class RouteKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of ``[[routes]]``."""

    match: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            description="matchers of labels, such as `['severity=\"critical\"', 'team!=\"web\"']`, all of which must "
            "match; `[]` matches every rule"
        ),
    ]
    alarms: Annotated[
        tuple[str, ...], msgspec.Meta(description="the alarms that it adds: a name, or an array of names")
    ]


def read_routes(root: Table) -> list[Route]:
    """Return the routes of a file; what is wrong goes to the report of its tables."""
    found = []
    for table in root.tables("routes"):
        alarms = alarm_names(table, "route")
        values = {**table.values, "alarms": list(alarms), "match": list(optional_names(table, "match"))}
        given = {key: value for key, value in values.items() if key == "alarms" or key in table.values}
        keys = read_struct(RouteKeys, structs.replace(table, values=given))
        if keys is not None and _are_matchers(table, keys.match):
            found.append(Route(keys.match, alarms, table.where()))
    return found


def _are_matchers(table: Table, texts: Sequence[str]) -> bool:
    """Return whether they can be read; report those that cannot."""
    with held_off():  # few configurations have routes
        from alarm_mw.engine.matchers import parse_matchers  # noqa: PLC0415

    is_right = True
    for index, text in enumerate(texts):
        try:
            parse_matchers(text)
        except ValueError as error:
            table.wrong(f"match: {error}", "match", index)
            is_right = False
    return is_right


def with_routes(
    written: Iterable[Written], routes: Sequence[Route], labels: Mapping[str, str], report: Report
) -> list[Written]:
    """Return rules with the alarms of the routes that match whatever the record is; report rules without any alarm."""
    if not routes:
        return [_with_alarm(each, each.rule, report) for each in written]
    with held_off():  # as above
        from alarm_mw.engine.routes import Router  # noqa: PLC0415

    router = Router(routes, labels)
    found = []
    for each in written:
        rule = structs.replace(each.rule, alarms=router.alarms_of(each.rule))
        is_quiet = not rule.alarms and router.depends_on_records(rule)
        hint = "" if is_quiet or not each.alarmless else f"{each.alarmless}, or labels that a route matches"
        found.append(_with_alarm(structs.replace(each, alarmless=hint), rule, report))
    return found


def _with_alarm(written: Written, rule: Rule, report: Report) -> Written:
    if written.alarmless and not rule.alarms:
        report.wrong(written.names_at, written.alarmless)
    return structs.replace(written, rule=rule)
