"""Makes one Settings of what the files, the flags and the keywords say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import structs

from alarm_mw.actions.mule import MuleOptions
from alarm_mw.config.lint.suspicions import warn_of_hidden
from alarm_mw.config.literal_cache import LiteralCache
from alarm_mw.config.parts import Declared, Part, Watched, Written
from alarm_mw.config.report import Report
from alarm_mw.config.settings import FLEET, Alarm, Records, Settings, Upkeep, Watch
from alarm_mw.config.tables.incidents import check_incidents
from alarm_mw.config.tables.routes import with_routes
from alarm_mw.delivery.fallback import cycle
from alarm_mw.engine.rules import compile_rule
from alarm_mw.model.errors import PatternError
from alarm_mw.model.keyvalue import did_you_mean
from alarm_mw.model.types import Rule, Where
from alarm_mw.system.forks import held_off


def merge(parts: Sequence[Part], cache: LiteralCache, report: Report) -> Settings:
    """Return the alarms and rules of all parts, in order; of what is set twice the last counts.

    Settings can be used only if `report` has no problems afterwards. They have no warnings yet.
    """
    alarms = _alarms(parts, report)
    labels = dict(label for part in parts for label in part.labels)
    routes = [
        structs.replace(route, alarms=_known_names(route.alarms, route.where, alarms, report, is_strict=True))
        for part in parts
        for route in part.routes
    ]
    written = with_routes([rule for part in parts for rule in part.rules], routes, labels, report)
    rules = tuple(rule for each in written if (rule := _checked_rule(each, alarms, report)) is not None)
    if len(rules) < len(written) or not cache.knows(rules):
        _check_patterns([each.rule for each in written], cache, report)
    watched = [monitor for part in parts for monitor in part.monitors]
    monitors = tuple(watch for each in watched if (watch := _checked_monitor(each, alarms, report)) is not None)
    with_incidents = [*rules, *filter(None, (watch.rule for watch in monitors))]
    for rule, problem in check_incidents(with_incidents):
        report.wrong(rule.where, problem)
    if any("fleet" in part.fields for part in parts):
        for rule in with_incidents:
            if rule.name == FLEET and rule.incident is not None:
                report.wrong(rule.where, f"the name {FLEET!r} is that of silent machines, expected another name")
    check_fallbacks(alarms.values(), report)
    own_alarms = dict(named for part in parts for named in part.own_alarms)
    for name, where in own_alarms.items():
        _known_names((name,), where, alarms, report, is_strict=True)
    warn_of_hidden(rules, report)
    for name, where in (named for part in parts for named in part.fleet_alarms):
        _known_names((name,), where, alarms, report, is_strict=True)
    mules = tuple(program for part in parts for program in part.mules)
    fields = {name: value for part in parts for name, value in part.fields.items()}
    fields["records"] = _records(fields.get("records", Records()), parts)
    settings = Settings(
        **fields,
        upkeep=Upkeep(**{name: value for part in parts for name, value in part.upkeep.items()}),
        alarms=tuple(_labeled(alarm, labels) for alarm in with_mules(alarms.values(), mules, report)),
        left_out=tuple(name for name, declared in alarms.items() if declared.is_left_out),
        rules=rules,
        mules=mules,
        follow=tuple(follow for part in parts for follow in part.follow),
        monitors=monitors,
        own_alarms=tuple(own_alarms),
        routes=tuple(routes),
        labels=tuple(labels.items()),
    )
    if settings.routes or settings.inhibit_rules:
        with held_off():  # few configurations have some
            from alarm_mw.config.lint.labels import warn_of_labels  # noqa: PLC0415

        warn_of_labels(
            settings, [*(each.rule for each in written), *filter(None, (watch.rule for watch in monitors))], report
        )
    return settings


def _records(records: Records, parts: Sequence[Part]) -> Records:
    """Return what makes records of lines; whether tracebacks are whole is known afterwards."""
    is_default = bool(parts) and all(part.has_whole_tracebacks for part in parts)
    return structs.replace(records, tracebacks=True) if records.tracebacks is None and is_default else records


def _alarms(parts: Iterable[Part], report: Report) -> dict[str, Declared]:
    """Return the first alarm of each name."""
    alarms: dict[str, Declared] = {}
    for alarm in (declared for part in parts for declared in part.alarms):
        if not is_text(alarm.name):
            report.wrong(alarm.where, f"the alarm's name {alarm.name!a} is no text, expected UTF-8")
        first = alarms.setdefault(alarm.name, alarm)
        if first is alarm:
            continue
        text = f"a second alarm {alarm.name!r}; the first is at {first.where}"
        if alarm.is_strict:
            report.wrong(alarm.where, f"{text}, expected another name")
        else:
            report.warn(alarm.where, f"{text} and counts, this one is ignored")
    return alarms


def _labeled(alarm: Alarm, labels: Mapping[str, str]) -> Alarm:
    """Return an alarm with the labels of the whole configuration under its own."""
    return structs.replace(alarm, labels=tuple({**labels, **dict(alarm.labels)}.items())) if labels else alarm


def is_text(name: str) -> bool:
    """Return whether a name can be stored and sent: bytes that were no UTF-8 cannot."""
    return not any("\ud800" <= char <= "\udfff" for char in name)


def _checked_rule(written: Written, alarms: Mapping[str, object], report: Report) -> Rule | None:
    """Return a rule with those of its alarms that there are, or None where it has none left to fire."""
    rule = written.rule
    known = _known_names(rule.alarms, written.names_at, alarms, report, is_strict=written.is_strict)
    if len(known) == len(rule.alarms):
        return rule
    return structs.replace(rule, alarms=known) if known or rule.excludes else None


def _checked_monitor(watched: Watched, alarms: Mapping[str, object], report: Report) -> Watch | None:
    """Return a monitor with those of its alarms that there are, or None where there is nothing to watch for."""
    known = _known_names(watched.alarms, watched.names_at, alarms, report, is_strict=watched.is_strict)
    return structs.replace(watched.watch, alarms=known) if watched.watch is not None and known else None


def _known_names(
    names: Iterable[str], names_at: Where, alarms: Mapping[str, object], report: Report, *, is_strict: bool
) -> tuple[str, ...]:
    """Return the names that some alarm has, and report the others."""
    for name in names:
        if name not in alarms:
            hint = did_you_mean(name, list(alarms)) if alarms else "; no alarm is configured"
            report.doubt(names_at, f"unknown alarm {name!r}{hint}", is_strict=is_strict)
    return tuple(name for name in names if name in alarms)


def _check_patterns(rules: Sequence[Rule], cache: LiteralCache, report: Report) -> None:
    """Read the regexps; where one breaks becomes the column."""
    compiled = []
    for done, rule in enumerate(rules):
        report.on_progress(done, len(rules))
        try:
            compiled.append(compile_rule(rule))
        except PatternError as error:
            report.wrong(*_broken(rule, error))
    report.on_progress(len(rules), len(rules))
    if len(compiled) == len(rules):
        cache.keep(compiled)


def _broken(rule: Rule, error: PatternError) -> tuple[Where, str]:
    """Return the place and the problem, with the column of the very character where that is known."""
    if error.position is None:
        return rule.where, f"the regexp {rule.pattern!r} cannot be used: {error.text}"
    column = rule.where.column and rule.where.column + error.position
    text = f"the regexp {rule.pattern!r} breaks at its character {error.position + 1}: {error.text}"
    return structs.replace(rule.where, column=column), text


def check_fallbacks(alarms: Iterable[Declared], report: Report) -> None:
    """Report names that no alarm has, and the first cycle."""
    declared = {each.name: each for each in alarms}
    fallbacks = {name: each.alarm.fallback for name, each in declared.items() if each.alarm is not None}
    for name, others in fallbacks.items():
        for other in others:
            if other not in declared:
                hint = did_you_mean(other, [*declared])
                report.wrong(declared[name].where, f"alarm {name!r}: fallback: unknown alarm {other!r}{hint}")
    if names := cycle(fallbacks):
        way = " to ".join(map(repr, names))
        text = f"alarm {names[0]!r}: fallback: the way leads from {way}, expected an end"
        report.wrong(declared[names[0]].where, text)


def with_mules(alarms: Iterable[Declared], mules: Sequence[str], report: Report) -> tuple[Alarm, ...]:
    """Return the alarms with the mules that there are: a number that is too high becomes 0, any mule, as in uWSGI."""
    return tuple(
        _with_mule(alarm, alarm.options, len(mules), report, is_strict=declared.is_strict)
        if isinstance(alarm.options, MuleOptions)
        else alarm
        for declared in alarms
        if (alarm := declared.alarm) is not None
    )


def _with_mule(alarm: Alarm, options: MuleOptions, count: int, report: Report, *, is_strict: bool) -> Alarm:
    what = f"alarm {alarm.name!r}"
    if not count:
        text = f"{what} needs a mule, and none is configured: expected --mule FILE or mule = FILE"
        report.doubt(alarm.where, text, is_strict=is_strict)
        return structs.replace(alarm, options=MuleOptions())
    if options.mule <= count:
        return alarm
    text = f"{what}: invalid mule number {options.mule} ({count} mules available), fallback to 0, which is any mule"
    report.warn(alarm.where, text)
    return structs.replace(alarm, options=MuleOptions())
