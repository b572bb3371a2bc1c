"""Routes: alarms that a rule fires beside its own, because its labels match."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from alarm_mw.engine.matchers import Matcher, parse_matchers
from alarm_mw.engine.messages import severity_of
from alarm_mw.engine.rules import CompiledRule
from alarm_mw.model.types import Record, Route, Rule

#: Labels that a record decides, if the rule does not.
OF_RECORDS = ("severity", "logger")

#: How many combinations of rules, levels and loggers are cached with the alarms that they fire.
CACHED = 1000


class Router:
    """The routes of a configuration. Pure; used by one thread."""

    def __init__(self, routes: Iterable[Route], labels: Mapping[str, str]) -> None:
        """Prepare; `labels` are those of the whole configuration."""
        self._routes = tuple((route, parse_matchers(route.match) if route.match else ()) for route in routes)
        self._labels = labels
        self._cache: dict[tuple[int, int | None, str], CompiledRule] = {}

    def routes_of(self, rule: Rule, record: Record | None = None) -> list[Route]:
        """Return the routes that match a rule and a record of it; without one, those that match for every record.

        The end of an incident takes no route of its own, and its beginning none that depends on a record.
        """
        if rule.excludes or rule.is_auxiliary:
            return []
        labels = labels_of(rule, self._labels, record)
        unknown = _unknown(rule, labels) if record is None else frozenset[str]()
        return [route for route, matchers in self._routes if _match(matchers, labels, unknown)]

    def depends_on_records(self, rule: Rule) -> bool:
        """Return whether further routes may match a rule, depending on the record."""
        if rule.excludes or rule.is_auxiliary:
            return False
        labels = labels_of(rule, self._labels)
        unknown = _unknown(rule, labels)
        return any(
            not unknown.isdisjoint(each.name for each in matchers)
            and _match([each for each in matchers if each.name not in unknown], labels, frozenset())
            for _, matchers in self._routes
        )

    def alarms_of(self, rule: Rule, record: Record | None = None) -> tuple[str, ...]:
        """Return the alarms of a rule, with those of its routes."""
        routed = (alarm for route in self.routes_of(rule, record) for alarm in route.alarms)
        return tuple(dict.fromkeys((*rule.alarms, *routed)))

    def routed(self, compiled: CompiledRule, record: Record) -> CompiledRule:
        """Return a matching rule with all the alarms that it fires for a record."""
        key = (id(compiled), record.level, record.logger)
        found = self._cache.get(key)
        if found is None:
            if len(self._cache) >= CACHED:
                self._cache.clear()
            is_dynamic = compiled.rule.incident is None and self.depends_on_records(compiled.rule)
            found = compiled.with_alarms(self.alarms_of(compiled.rule, record)) if is_dynamic else compiled
            self._cache[key] = found
        return found


def labels_of(rule: Rule, labels: Mapping[str, str], record: Record | None = None) -> dict[str, str]:
    """Return the labels that routes see: a record's facts, the configuration's labels, the rule's, and its name."""
    facts = {} if record is None else {"severity": severity_of(record.level), "logger": record.logger}
    return {**facts, **labels, **dict(rule.labels), **({"rule": rule.name} if rule.name else {})}


def _unknown(rule: Rule, labels: Mapping[str, str]) -> frozenset[str]:
    """Return the labels that are not known before there is a record; an incident has none of a record."""
    return frozenset() if rule.incident is not None else frozenset(OF_RECORDS) - labels.keys()


def _match(matchers: Iterable[Matcher], labels: Mapping[str, str], unknown: frozenset[str]) -> bool:
    return all(each.name not in unknown and each.matches(labels) for each in matchers)
