"""Warns about what is valid but probably unintended, such as rules that can never fire."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import structs

from alarm_mw.config.literal_cache import LiteralCache
from alarm_mw.config.report import Examined, Report
from alarm_mw.config.settings import Settings
from alarm_mw.model.errors import Problem
from alarm_mw.model.types import Rule
from alarm_mw.patterns.literals import EVERY_LINE

#: Regexps that match every line.
EVERYTHING = frozenset({"", ".*", "^", "^.*", "^.*$", ".*$", "$", "(?s).*", "(?s:.*)"})


def warn_of_hidden(rules: Sequence[Rule], report: Report) -> None:
    """Warn about each rule that an earlier exclusion hides. The time is proportional to the number of rules."""
    catch_all: list[Rule] = []
    by_pattern: dict[tuple[str, str], list[Rule]] = {}
    for rule in rules:
        same = by_pattern.get((rule.syntax, rule.pattern), [])
        hider = next((other for other in [*catch_all, *same] if _covers(other, rule)), None)
        if hider is not None:
            place = structs.replace(hider.where, column=0)
            report.warn(rule.where, f"this rule is never reached: the exclusion at {place} always ends the scan")
        elif rule.excludes:
            by_pattern.setdefault((rule.syntax, rule.pattern), []).append(rule)
            catch_all += [rule] if rule.pattern in EVERYTHING else []


def _covers(earlier: Rule, later: Rule) -> bool:
    """Return whether `earlier` matches every record that `later` can match."""
    same_view = earlier.multiline == later.multiline or earlier.pattern in EVERYTHING
    same_requests = earlier.request in {None, later.request}
    same_fields = set(earlier.fields) <= set(later.fields)
    return (
        same_view
        and same_requests
        and same_fields
        and _covers_level(earlier.level, later.level)
        and _covers_logger(earlier.logger, later.logger)
    )


def _covers_level(earlier: int | None, later: int | None) -> bool:
    return earlier is None or (later is not None and earlier <= later)


def _covers_logger(earlier: str | None, later: str | None) -> bool:
    return earlier is None or (later is not None and (later + ".").startswith(earlier + "."))


#: A newline that is followed by something that has to be there. Found in the text of a regexp, sets of characters left
#: out: it misses some regexps, and finds none that can match a line.
_SET = r"(?s)\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]"
_INNER_NEWLINE = r"(?:^|[^\\])(?:\\\\)*(?:\\n|\n)\+?(?:\.[*+]\??)*(?:[\w <>:,^-]|\\[wdsWDS.()])(?![?*{])"


def with_suspicions(examined: Examined, environ: Mapping[str, str]) -> Examined:
    """Return a configuration without problems with what is suspicious in it as warnings. Reads files: may block."""
    warnings = suspicions(examined.settings, LiteralCache.of_user(environ))
    return structs.replace(examined, warnings=(*examined.warnings, *warnings))


def suspicions(settings: Settings, cache: LiteralCache) -> tuple[Problem, ...]:
    """Return the warnings in the order of alarms and rules. The cache spares reading the regexps once more."""
    from alarm_mw.config.lint.logs import unreadable_logs  # noqa: PLC0415  # it imports shutil; `run` does without

    rules = settings.rules
    return (
        *_of_alarms(settings),
        *_of_unused(settings),
        *_of_everything(rules),
        *_of_records(settings),
        *_of_hub(settings),
        *unreadable_logs(settings.follow),
        *filter(None, map(_of_newline, rules)),
        *_of_every_line(rules, cache),
    )


def _of_alarms(settings: Settings) -> Iterator[Problem]:
    for alarm in settings.alarms:
        for text in alarm.options.warnings():
            yield Problem(alarm.where, f"alarm {alarm.name!r}: {text}")


def _of_unused(settings: Settings) -> Iterator[Problem]:
    """Warn about alarms that nothing in the configuration fires, unless all are for `alarm_mw.alarm()`."""
    if not settings.rules and not settings.monitors:
        return
    fired = {name for rule in settings.rules for name in rule.alarms}
    fired.update(*(watch.alarms for watch in settings.monitors))
    fired.update(*(route.alarms for route in settings.routes))
    fired.update(settings.own_alarms, *(alarm.fallback for alarm in settings.alarms))
    for alarm in settings.alarms:
        if alarm.name not in fired:
            text = f"no rule, route, monitor or escalation fires alarm {alarm.name!r}"
            yield Problem(alarm.where, f"{text}: only alarm_mw.alarm({alarm.name!r}, …) in the application does")


def _of_everything(rules: Sequence[Rule]) -> Iterator[Problem]:
    """Warn about rules that every line matches."""
    for rule in rules:
        has_condition = rule.level is not None or rule.logger is not None or bool(rule.request or rule.fields)
        if rule.pattern in EVERYTHING and not (has_condition or rule.excludes or rule.is_auxiliary):
            yield Problem(rule.where, f"the regexp {rule.pattern!r} matches every line, so that every line is an alarm")


def _of_records(settings: Settings) -> Iterator[Problem]:
    """Warn once about rules that only log records, lines with fields and the journal's entries can match."""
    if any(follow.journal is not None for follow in settings.follow):
        return
    asking = [rule for rule in settings.rules if rule.level is not None or rule.logger is not None]
    if asking:
        more = f" (and {len(asking) - 1} more)" if len(asking) > 1 else ""
        yield Problem(
            asking[0].where,
            f"this rule{more} requires a level or a logger, which printed lines have only in JSON or logfmt: otherwise "
            "it matches only what AlarmHandler, AlarmProcessor or AlarmSink in the application sends",
        )


def _of_hub(settings: Settings) -> Iterator[Problem]:
    """Warn about a hub with rules and without logs that they could be for: it is a server's configuration."""
    if settings.fleet is not None and settings.fleet.hub and settings.rules and not settings.follow:
        yield Problem(
            settings.rules[0].where,
            "[fleet] hub = true beside rules: under `alarm-mw hub`, which has no server, they match nothing; under "
            "`alarm-mw run`, the server also delivers what other machines leave to the hub, and their messages wait "
            "while it is stopped; remove the key, and give `alarm-mw hub` a file of its own",
        )


def _of_newline(rule: Rule) -> Problem | None:
    if rule.multiline or "|" in rule.pattern or not re.search(_INNER_NEWLINE, re.sub(_SET, "", rule.pattern)):
        return None
    text = f"the regexp {rule.pattern!r} requires text after a newline, but each line is searched by itself"
    return Problem(rule.where, f"{text}: it never matches a printed line; multiline = true searches a log record whole")


def _of_every_line(rules: Sequence[Rule], cache: LiteralCache) -> Iterator[Problem]:
    """Warn about rules without a required literal, whose regexp is applied to every printed line."""
    for rule, compiled in zip(rules, cache.compiled(rules), strict=True):
        if rule.request is not None or compiled.literals != EVERY_LINE:
            continue
        if rule.fields:
            text = "the conditions of 'where' require no text that every match contains"
            yield Problem(rule.where, f"{text}: they are applied to every line, which takes 1 µs per line or more")
        elif rule.pattern not in EVERYTHING:
            text = f"the regexp {rule.pattern!r} has no two characters that every match contains"
            yield Problem(rule.where, f"{text}: it is applied to every line, which takes about 1 µs per line")
