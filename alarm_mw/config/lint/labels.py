"""Finds matchers that select nothing: labels, and values of labels, that nothing in the configuration has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from alarm_mw.config.report import Report
from alarm_mw.config.settings import Settings
from alarm_mw.engine.flood_control.silences import ALARM
from alarm_mw.engine.matchers import Matcher, Operator, parse_matchers
from alarm_mw.engine.messages import SEVERITIES
from alarm_mw.model.keyvalue import did_you_mean
from alarm_mw.model.measures import ALL_LABELS
from alarm_mw.model.types import Rule

#: Labels whose values are names, and what has them.
_NAMES = {"rule": "rule", "alertname": "rule", ALARM: "alarm"}

_POSITIVE = {Operator.NOT_EQUAL: Operator.EQUAL, Operator.NOT_REGEXP: Operator.REGEXP}


class KnownLabels:
    """The labels of some rules, and the values that each can have."""

    def __init__(self, rules: Iterable[Rule], owner: str = "rule") -> None:
        """Take the labels of these rules, which `owner` describes."""
        self._owner = owner
        #: None: any value.
        self._values: dict[str, set[str] | None] = {"rule": set(), "alertname": set()}
        self._is_any = False
        for rule in rules:
            self._add_rule(rule)

    def _add_rule(self, rule: Rule) -> None:
        self.add((("rule", rule.name), ("alertname", rule.name), *rule.labels))
        key = () if rule.incident is None else rule.incident.key
        self._is_any = self._is_any or ALL_LABELS in key
        self._values |= dict.fromkeys(key)

    def add(self, labels: Iterable[tuple[str, str]]) -> None:
        """Add labels."""
        for name, value in labels:
            values = self._values.setdefault(name, set())
            if values is not None:
                values.add(value)

    def allow(self, name: str) -> None:
        """Add a label that can have any value."""
        self._values[name] = None

    def doubts(self, matchers: Iterable[Matcher]) -> Iterator[str]:
        """Yield a sentence for each matcher that selects nothing, or excludes nothing."""
        for matcher in matchers:
            if matcher.name in self._values:
                yield from self._of_value(matcher, self._values[matcher.name])
            else:
                yield from self.doubts_of_names([matcher.name])

    def doubts_of_names(self, names: Iterable[str]) -> Iterator[str]:
        """Yield a sentence for each label that none has."""
        for name in names:
            if name not in self._values and not self._is_any:
                yield f"no {self._owner} has the label {name!r}{did_you_mean(name, self._values)}"

    def _of_value(self, matcher: Matcher, values: set[str] | None) -> Iterator[str]:
        is_name = matcher.name in _NAMES
        wanted = Matcher(matcher.name, _POSITIVE.get(matcher.operator, matcher.operator), matcher.value)
        if values is None or (self._is_any and matcher.name not in {"rule", ALARM}) or wanted.matches({}):
            return
        if any(wanted.matches({wanted.name: value}) for value in values):
            return
        hint = did_you_mean(wanted.value, values)
        owner = ALARM if wanted.name == ALARM else self._owner
        if is_name and wanted.operator is Operator.EQUAL:
            yield f"there is no {owner} {wanted.value!r}{hint}"
        else:
            yield f"no {owner} has the {'name' if is_name else 'label'} {wanted}{hint}"


def warn_of_labels(settings: Settings, rules: Sequence[Rule], report: Report) -> None:
    """Warn about routes and inhibit rules with labels, or values of labels, that no rule has.

    `rules` are all that are written, and those of monitors.
    """
    rules = [*rules, *filter(None, [settings.fleet_rule])]
    routed = KnownLabels(rules)
    routed.add(settings.labels)
    routed.add(("severity", name) for _, name in SEVERITIES)
    routed.allow("logger")
    for route in settings.routes:
        for text in routed.doubts(parse_matchers(route.match) if route.match else ()):
            report.warn(route.where, text)
    sources = KnownLabels((rule for rule in rules if rule.incident is not None), "rule with incidents")
    targets = KnownLabels(rules)
    for number, inhibit in enumerate(settings.inhibit_rules, 1):
        for text in (
            *sources.doubts(parse_matchers(inhibit.sources)),
            *targets.doubts(parse_matchers(inhibit.targets)),
            *sources.doubts_of_names(inhibit.equal),
        ):
            report.warn(inhibit.where, f"inhibit rule {number}: {text}")


def doubts_of_silence(settings: Settings, matchers: Iterable[Matcher]) -> list[str]:
    """Return sentences about the matchers of a silence that select nothing of this configuration."""
    rules = [*settings.rules, *settings.incident_rules]
    known = KnownLabels(rule for rule in rules if not rule.excludes)
    known.add((ALARM, alarm.name) for alarm in settings.alarms)
    elsewhere = "" if settings.fleet is None else "; another machine of the fleet may have it"
    return [f"{text}{elsewhere}" for text in known.doubts(matchers)]
