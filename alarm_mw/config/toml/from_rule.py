"""Writes a rule as a table ``[[rules]]`` that a configuration can contain."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping

from alarm_mw.config.tables.measures import keys_of
from alarm_mw.config.tables.rules import LEVELS
from alarm_mw.config.toml.from_uwsgi import write_key, write_value
from alarm_mw.model.types import (
    Absence,
    FieldCondition,
    FieldTest,
    IncidentOptions,
    RequestConditions,
    Rule,
    Syntax,
)

_NO_INCIDENT = IncidentOptions()

#: From the largest on.
_UNITS = (("d", 86_400), ("h", 3600), ("m", 60))


def rule_to_toml(rule: Rule, resolve: Rule | None = None, of: Rule | None = None) -> str:
    """Return the lines of a rule; `resolve` finds the ends of its incidents, and `of` what its ratio compares with.

    Reading them makes the same rules. What other tables say, escalations and time intervals, stands there as comments,
    as does what TOML cannot hold.
    """
    return "\n".join(["[[rules]]", *_lines(rule, resolve, of)])


def _lines(rule: Rule, resolve: Rule | None, of: Rule | None) -> Iterator[str]:
    options = rule.incident or _NO_INCIDENT
    for key, value in _keys(rule, options, resolve, of).items():
        # False is no value of a key: all flags are off by default.
        if value not in (None, "", 0, ()) or key in {"exclude", "request", "resolve_below"}:
            yield _line(key, value)
    own = tuple(name for name in rule.alarms if name not in options.after)
    if own:
        yield _line("alarms", own)
    if options.after:
        later = ", ".join(f"{name} after {write_duration(seconds)}" for name, seconds in options.after.items())
        yield _line("#", f"escalation: {later}")
    if options.mute:
        yield _line("#", "mute_time_intervals: see the configuration")


def _line(key: str, value: object) -> str:
    if key == "#":
        return f"# {value}"
    try:
        return f"{write_key(key)} = {write_value(value)}"
    except ValueError as error:
        return f"# {key}: {error}"


def _keys(rule: Rule, options: IncidentOptions, resolve: Rule | None, of: Rule | None) -> dict[str, object]:
    is_counted = rule.count > 1
    max_keys = getattr(rule.measure, "max_keys", 0) if rule.incident is None else options.max_keys
    return {
        "name": rule.name,
        **({"exclude": rule.pattern} if rule.excludes else {"pattern": rule.pattern}),
        **_search(rule),
        "count": rule.count if is_counted else None,
        "within": write_duration(rule.within) if is_counted else None,
        "context": None if rule.context is None else {"before": rule.context.before, "after": rule.context.after},
        "key": options.key,
        "max_keys": max_keys if max_keys != _NO_INCIDENT.max_keys else None,
        "resolve": "" if resolve is None else resolve.pattern,
        "resolve_after": write_duration(options.resolve_after),
        "keep_firing_for": write_duration(options.keep_firing_for),
        "flap": None
        if options.flap is None
        else {"count": options.flap.count, "within": write_duration(options.flap.within)},
        **(_absence(options.absence, has_key=bool(options.key)) if options.absence is not None else {}),
        **keys_of(rule.measure),
        **({} if of is None or _is_usual(rule, of) else {"of": _given(of)}),
        "labels": dict(rule.labels) or None,
        "fingerprint": rule.fingerprint,
        "scope": rule.scope,
    }


def _given(of: Rule) -> dict[str, object]:
    values = {"pattern": of.pattern, **_search(of)}
    return {key: value for key, value in values.items() if value not in (None, "", 0) or key == "request"}


def _search(rule: Rule) -> dict[str, object]:
    """Return which records a rule is about, beside its regexp."""
    return {
        "syntax": "" if rule.syntax is Syntax.PYTHON else str(rule.syntax),
        "multiline": rule.multiline,
        "level": None if rule.level is None else _level(rule.level),
        "logger": rule.logger,
        **({} if rule.request is None else {"request": dict(_request(rule.request))}),
        "where": dict(_where(rule.fields)) or None,
    }


def _is_usual(rule: Rule, of: Rule) -> bool:
    """Return whether a rule on requests is compared with all requests, which need not be said."""
    if rule.request is None or of.pattern or of.fields:
        return False
    return of.request == RequestConditions(access_log=rule.request.access_log)


def _level(level: int) -> object:
    """Return the name of a level, or its number, as text: 0 is a level as well."""
    name = logging.getLevelName(level)
    return name if name in LEVELS else str(level)


def _absence(absence: Absence, *, has_key: bool) -> dict[str, object]:
    return {
        "absent_for": write_duration(absence.after),
        "schedule": absence.schedule,
        "timezone": absence.timezone,
        "grace": write_duration(absence.grace),
        "armed": "" if absence.from_start or has_key else "first",
    }


def _request(request: RequestConditions) -> Iterator[tuple[str, object]]:
    """Yield the keys of the table ``request``."""
    values: Mapping[str, object] = {
        "method": _several(request.methods),
        "path": request.path,
        "status": _several(map(_status, request.statuses)),
        "slower_than": request.slower_than,
        "request_larger_than": request.request_larger_than,
        "response_larger_than": request.response_larger_than,
        "exception": request.exception or (None if request.exception is None else True),
        "headers": dict(request.headers) or None,
        "client": _several(request.clients),
        "disconnected": request.disconnected or None,
        "unfinished_after": request.unfinished_after,
        "access_log": request.access_log or None,
    }
    yield from ((key, value) for key, value in values.items() if value is not None)


def _status(status: tuple[int, int]) -> int | str:
    first, last = status
    if first == last:
        return first
    return f"{first // 100}xx" if first % 100 == 0 and last == first + 99 else f"{first}-{last}"


def _several(values: Iterable[object]) -> object:
    """Return an array, of a single value that value, of none None."""
    found = [*values]
    return found[0] if len(found) == 1 else found or None


def _where(fields: Iterable[FieldCondition]) -> Iterator[tuple[str, object]]:
    """Yield the keys of the table ``where``."""
    for condition in fields:
        yield condition.field, _several(map(_test, condition.tests))


def _test(test: FieldTest) -> object:
    return test.value if test.kind == "=" else f"{test.kind}{test.shown}"


def write_duration(seconds: float) -> str:
    """Return a time as a configuration has it, in the largest unit that divides it; empty for 0."""
    if not seconds:
        return ""
    unit, size = next(((unit, size) for unit, size in _UNITS if seconds % size == 0), ("s", 1))
    return f"{seconds / size:.12g}{unit}"
