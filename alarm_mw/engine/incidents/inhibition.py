"""Inhibition: while one incident is firing, others send no messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from alarm_mw.model.types import InhibitRule
from alarm_mw.system.forks import held_off

if TYPE_CHECKING:
    from alarm_mw.engine.incidents.incident import Incident
    from alarm_mw.engine.matchers import Matcher

Values = tuple[str, ...]


class _Compiled:
    """One rule, with the incidents that are its sources at present."""

    def __init__(self, rule: InhibitRule) -> None:
        with held_off():  # few configurations have such rules
            from alarm_mw.engine.matchers import parse_matchers  # noqa: PLC0415

        self.sources = parse_matchers(rule.sources)
        self.targets = parse_matchers(rule.targets)
        self.equal = rule.equal
        #: By the values of `equal`: the ids of sources, and whether each is a target as well.
        self.firing: dict[Values, dict[str, bool]] = {}

    def values(self, labels: Mapping[str, str]) -> Values:
        return tuple(labels.get(name, "") for name in self.equal)

    def inhibiting(self, labels: Mapping[str, str]) -> list[str]:
        """Return the ids of the incidents that inhibit one with these labels."""
        if not self.firing or not _match(self.targets, labels):
            return []
        sources = self.firing.get(self.values(labels), {})
        # As in Alertmanager: what is source and target is not inhibited by others that are both, nor by itself.
        is_both = bool(sources) and _match(self.sources, labels)
        return [name for name, is_target in sources.items() if not (is_both and is_target)]


class Inhibitions:
    """Which incidents inhibit which. Belongs to one thread."""

    def __init__(self, rules: Iterable[InhibitRule]) -> None:
        self._rules = tuple(map(_Compiled, rules))

    def __bool__(self) -> bool:
        return any(rule.firing for rule in self._rules)

    def note(self, incident: Incident) -> None:
        """Note that an incident has begun or ended."""
        labels = labels_of(incident.rule, incident.labels) if self._rules else {}
        for rule in self._rules:
            if not _match(rule.sources, labels):
                continue
            values = rule.values(labels)
            firing = rule.firing.setdefault(values, {})
            firing.pop(incident.id, None)
            if incident.is_open:
                firing[incident.id] = _match(rule.targets, labels)
            if not firing:
                del rule.firing[values]

    def inhibits(self, rule: str, labels: Mapping[str, str]) -> bool:
        """Return whether messages about a rule with these labels are inhibited."""
        return bool(self.sources(rule, labels))

    def sources(self, rule: str, labels: Mapping[str, str]) -> list[str]:
        """Return the ids of the incidents that inhibit messages about a rule with these labels."""
        known = labels_of(rule, labels) if self else {}
        return [name for each in self._rules if known for name in each.inhibiting(known)]


def labels_of(rule: str, labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of an incident, by which inhibit rules select it."""
    return {"alertname": rule, **labels, "rule": rule}


def _match(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    return all(matcher.matches(labels) for matcher in matchers)
